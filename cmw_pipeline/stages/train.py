"""Train one classifier by one method: the stages ``train`` and ``transfer``."""

import logging

import torch

from cmw_pipeline.config.contracts import Run, TrainRequest
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.data.opened import OpenImages
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.checkpoints import save_tensors
from cmw_pipeline.io.tables import write_array, write_columns
from cmw_pipeline.runtime.memory import keep_memory
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.runtime.team import SOLO, Team
from cmw_pipeline.runtime.workers import decode_workers
from cmw_pipeline.stages.base import Job
from cmw_pipeline.training import assemble, outcome
from cmw_pipeline.training.assemble import Splits
from cmw_pipeline.training.batches import Task
from cmw_pipeline.training.loop import train
from cmw_pipeline.training.precision import on_device
from cmw_pipeline.training.state import TrainState

log = logging.getLogger(__name__)


def run(
    job: Job[TrainRequest],
    device: torch.device,
    stop: StopRequest,
    checkpoint_seconds: float = 60.0,
    team: Team = SOLO,
) -> None:
    """Train a cell and write its rows, its model and what became of each training sample.

    The clean labels are never read.

    Raises:
        Preempted, NumericsError, IntegrityError: see :func:`cmw_pipeline.training.loop.train`.
        ConfigError: a team of processes was asked to train what only one can.
    """
    if device.type == "cpu":
        keep_memory()
    request, raw, facts = job.request, job.inputs["raw"], FACTS[job.request.source]
    recipe, workers = on_device(request.recipe, device), decode_workers(team.size)
    splits = assemble.read_splits(job.inputs)
    images = OpenImages.open(raw.path, raw.manifest["notes"], facts, recipe, device, workers)
    task = assemble.task(request, job.inputs, splits, images)
    model = assemble.new_model(request.method, task, facts.image_shape[2], device)
    assemble.start(model, request, job.inputs)
    state = assemble.new_state(request.method, task, model, device)
    task, state = assemble.share(task, state, team)
    job.cost["seconds"] = train(task, state, stop, job.side, checkpoint_seconds)
    job.cost["evaluation_seconds"] = round(sum(r["evaluation_seconds"] for r in state.records), 3)
    _write(job, task, state, splits)
    if team.leads:
        log.info(outcome.verdict(state.records))
    job.notes.update({"device": _name(device), "precision": recipe.precision, "smoke": recipe.smoke})


def _write(job: Job[TrainRequest], task: Task, state: TrainState, splits: Splits) -> None:
    write_text(job.out / Run.EPOCHS, outcome.epochs_text(state.records))
    write_columns(job.out, Run.ROWS, outcome.run_rows(state.records))
    write_columns(job.out, Run.SAMPLES, outcome.samples(task, state, splits.train.index))
    write_columns(job.out, Run.PREDICTIONS, outcome.predictions(task, state, splits.test.index))
    save_tensors(job.out / Run.MODEL, state.model.state_dict())
    if state.teacher is not None:
        save_tensors(job.out / Run.TEACHER, state.teacher.module.state_dict())
    save_tensors(job.out / Run.METHOD, state.method.state_dict())
    for file, values in state.method.leaves().items():
        write_array(job.out / file, values.cpu().numpy())


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
