"""The ``cmw`` command."""

import datetime
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cmw_pipeline import __version__
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.suggest import meant, names
from cmw_pipeline.errors import INSTALL, CmwError, ConfigError, SystemFault
from cmw_pipeline.runtime.memory import check_addresses, memory_fault
from cmw_pipeline.runtime.team import SOLO, Team, joined_team

if TYPE_CHECKING:
    from cmw_pipeline.config.artefact import Artefact
    from cmw_pipeline.stages.base import Job

log = logging.getLogger(__name__)
_NAMES = {
    "download": "a dataset: digits",
    "inject": "dataset/bias: digits/asym-0.4",
    "metaset": "dataset/bias/meta-set: digits/asym-0.4/clean-10",
    "train": "a cell: digits/asym-0.4/cmw-net/digits-cnn/seed0",
    "export": "a cell: digits/asym-0.4/cmw-net/digits-cnn/seed0",
    "transfer": "a cell: digits/sym-0.4/cmw-net-transferred/digits-cnn/seed0",
    "table": "a table: demo",
}

_OF_TABLES = ("cost", "list", "make")
"""Commands that are no stages, and are asked for a table."""


def _missing(error: ModuleNotFoundError) -> SystemFault | None:
    """The fault that a library is not installed; None where the module is one of our own."""
    library = (error.name or "").partition(".")[0]
    if library in ("", "cmw_pipeline"):
        return None
    command = "`pip install 'cmw-pipeline[onnx]'`" if library == "onnx" else INSTALL
    return SystemFault(f"{library} is not installed; this command needs it", f"{command} brings it")


def _unforeseen(error: Exception) -> CmwError | None:
    """The fault behind an error of a library; None where there is none that we know."""
    if isinstance(error, ModuleNotFoundError):
        return _missing(error)
    if isinstance(error, ValueError):
        return _lone_sample(error)
    return memory_fault(error)


def _lone_sample(error: ValueError) -> ConfigError | None:
    if "more than 1 value per channel" not in str(error):
        return None
    text = "this network's batch normalisation cannot be trained on a batch of one sample"
    return ConfigError(text, "write a batch_size and a meta_batch of at least 2")


class _Group(click.Group):
    """Prints foreseen errors as one clear line and ends with their own exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CmwError as error:
            click.echo(f"cmw: {error}", err=True)
            ctx.exit(error.exit_code)
        except (MemoryError, OSError, RuntimeError, ImportError, ValueError) as error:
            fault = _unforeseen(error)
            if fault is None:
                raise
            click.echo(f"cmw: {fault}", err=True)
            ctx.exit(fault.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    "--params",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("params.yaml"),
    show_default=True,
    envvar="CMW_PARAMS",
    help="What to run.",
)
@click.pass_context
def main(ctx: click.Context, params: Path) -> None:
    """Train well on biased data, and prove it: from raw data to finished tables.

    Every stage makes one artefact below results/. NAME is the artefact's readable name, or its path.
    """
    from cmw_pipeline.runtime.logs import start_logging

    start_logging()
    ctx.obj = params


def plan_of(ctx: click.Context) -> Plan:
    """The plan of the parameters that the command was given."""
    return Plan(load(ctx.obj))


def resolved(ctx: click.Context, stage: str, name: str) -> "Artefact[Any]":
    """The artefact that a command was asked for.

    Raises:
        ConfigError: there is none of this name; the hint is the command that was meant.
    """
    plan = plan_of(ctx)
    try:
        return plan.resolve("table" if stage in _OF_TABLES else stage, name)
    except ConfigError as error:
        right = None if error.hint else meant(plan, stage, name)
        command = f"`cmw {stage} {right}`" if right else "`cmw list`, then `cmw list TABLE`, shows the names"
        raise ConfigError(error.message, error.hint or command) from None


def completed(stage: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell completes the argument of a stage's command with."""

    def complete(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
        path = ctx.find_root().params.get("params", Path("params.yaml"))
        try:
            return [name for name in names(Plan(load(path)), stage) if name.startswith(begun)]
        except ConfigError:
            return []

    return complete


def _make(
    ctx: click.Context,
    stage: str,
    name: str,
    run: "Callable[[Job[Any]], None]",
    team: Team = SOLO,
    *,
    again: bool = False,
) -> None:
    from cmw_pipeline.stages.base import make

    artefact = resolved(ctx, stage, name)
    made = make(artefact, run, Path.cwd(), team, again=again)
    if team.leads:
        click.echo(artefact.path if made else f"{artefact.path} (was there)")


def _stage(function: Callable[..., None]) -> click.Command:
    """Register a stage command whose argument is an artefact's name."""
    stage = function.__name__
    example = _NAMES[stage].split(": ")[1]
    command = click.argument("name", shell_complete=completed(stage))(click.pass_context(function))
    epilog = f"NAME is {_NAMES[stage]}. Example: cmw {stage} {example}"
    return main.command(stage, epilog=epilog)(command)


_unverified = click.option(
    "--accept-unverified",
    is_flag=True,
    help="Take a local copy whose hashes are not the published ones; tables made from it say so.",
)


@_stage
@click.option("--from", "local", type=click.Path(path_type=Path), help="A local archive, folder or file.")
@_unverified
def download(ctx: click.Context, name: str, local: Path | None, accept_unverified: bool) -> None:
    """Get a dataset's images and labels, or a label file: cifar10/human-worst."""
    from cmw_pipeline.stages import download as stage

    run = functools.partial(stage.run, local=local, accept_unverified=accept_unverified)
    _make(ctx, "download", name, run, again=local is not None)


@_stage
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of your own, or those of the bias.")
@_unverified
def inject(ctx: click.Context, name: str, labels: Path | None, accept_unverified: bool) -> None:
    """Bend a dataset's labels: long tail, label noise, or the labels of a file."""
    from cmw_pipeline.stages import inject as stage

    if labels is not None:
        from cmw_pipeline.stages.labels_at_hand import named_labels, place_labels

        name = named_labels(load(ctx.obj), name, labels)
        artefact = resolved(ctx, "inject", name)
        place_labels(artefact, labels, Path.cwd(), accept_unverified=accept_unverified)
    _make(ctx, "inject", name, stage.run)


@_stage
def metaset(ctx: click.Context, name: str) -> None:
    """Choose the trustworthy samples."""
    from cmw_pipeline.stages import metaset as stage

    _make(ctx, "metaset", name, stage.run)


def _train(ctx: click.Context, stage: str, name: str, checkpoint_seconds: float) -> None:
    from cmw_pipeline.runtime.devices import leased_device
    from cmw_pipeline.runtime.signals import stop_requests

    check_addresses()
    artefact = resolved(ctx, stage, name)
    with stop_requests() as stop:
        stop.at_once = True
        with leased_device() as device, joined_team(device) as team:
            import torch

            from cmw_pipeline.stages import train as stages_train

            if device == "cuda" and not torch.cuda.is_available():
                raise SystemFault(f"torch {torch.__version__} cannot use the GPU", "`cmw doctor` says why")

            def run(job: "Job[Any]") -> None:
                stop.at_once = False
                if team.leads:
                    log.info("%s: cmw %s %s", datetime.date.today(), stage, artefact.name)
                stages_train.run(job, torch.device(device), stop, checkpoint_seconds, team)

            _make(ctx, stage, str(artefact.path), run, team)


_every = click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Time between two checkpoints; a killed run continues from the newest.",
)


@_stage
@_every
def train(ctx: click.Context, name: str, checkpoint_seconds: float) -> None:
    """Train one cell of the grid; the same command continues an interrupted run."""
    _train(ctx, "train", name, checkpoint_seconds)


@_stage
@_every
def transfer(ctx: click.Context, name: str, checkpoint_seconds: float) -> None:
    """Train one cell under a weighting function learned elsewhere."""
    _train(ctx, "transfer", name, checkpoint_seconds)


@_stage
@click.option(
    "--onnx", type=click.Path(path_type=Path, dir_okay=False), help="Also write it as an ONNX model."
)
def export(ctx: click.Context, name: str, onnx: Path | None) -> None:
    """Take the learned weighting function out of a run."""
    from cmw_pipeline.stages import export as stage

    _make(ctx, "export", name, stage.run)
    if onnx is not None:
        from cmw_pipeline.io.atomic import write_bytes
        from cmw_pipeline.meta.onnx_form import onnx_form
        from cmw_pipeline.meta.weighting import load_weighting

        write_bytes(onnx, onnx_form(load_weighting(Path(resolved(ctx, "export", name).path))))


@_stage
@click.option("--strict", is_flag=True, help="Refuse when a cell is missing.")
def table(ctx: click.Context, name: str, strict: bool) -> None:
    """Render a table and its figures from the runs that are there."""
    from cmw_pipeline.stages.table import make_table

    click.echo(make_table(resolved(ctx, "table", name), Path.cwd(), strict=strict))


@main.command()
@click.argument("table", shell_complete=completed("cost"))
@click.pass_context
def cost(ctx: click.Context, table: str) -> None:
    """Estimate what the runs that a table still needs will take, from recorded speeds.

    Where no like of a run is on record: from its counted operations and the speed of this machine, which is
    measured in a few seconds and kept for later estimates.
    """
    from cmw_pipeline import engine
    from cmw_pipeline.stages.speed import measure_once

    name, plan = resolved(ctx, "cost", table).name, plan_of(ctx)
    measure_once(plan, name, Path.cwd())
    for line in engine.still_to_come(name, engine.Seen(plan, Path.cwd())):
        click.echo(line)
