"""Two processes with half of each batch are one process with the whole: losses, weights, weighting."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cmw_pipeline import Reweighter
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.models import registry as models
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.runtime.team import SOLO, Team
from cmw_pipeline.training.assemble import share
from cmw_pipeline.training.loop import train
from tests.support.processes import environment
from tests.support.tiny import network, recipe, state, task

KINDS = [
    ("erm", {}),
    ("erm/cmw-net", {"weighting": {"normalisation": "sum"}}),
    ("erm/mw-net", {"weighting": {"meta_every": 2}}),
]
CHANGES = {"batch_size": 8, "network": {"name": "small-cnn", "width": 4}, "precision": "fp32"}
TESTS = Path(__file__).parents[1]


def trained(kind, changes, folder, team=SOLO):
    """The tiny task in double precision without dropout, on this process's part of the team."""
    torch.set_default_dtype(torch.float64)
    run = task(kind, recipe=recipe(**CHANGES), **changes)
    final = state(run, kind, dropout=0.0, **changes)
    if team.size > 1:
        run, final = share(run, final, team)
    train(run, final, StopRequest(), folder)
    return final


def in_a_loop_of_ones_own(team=SOLO):
    """What a Reweighter and its model are after five steps, on this process's share of each batch."""
    torch.set_default_dtype(torch.float64)
    model = network(dropout=0.0)
    model = DistributedDataParallel(model) if team.size > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    own = Reweighter(model, class_counts=[16, 12, 8, 4], lr=optimizer, normalisation="sum")
    rng = torch.Generator().manual_seed(0)
    for _ in range(5):
        images, metas = torch.randn(2, 8, 1, 8, 8, generator=rng)
        labels, part = torch.arange(8) % 4, team.share(8)
        loss = own.step(images[part], labels[part], (metas[part], labels[part]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [loss.detach(), *(p.detach() for p in [*model.parameters(), *own.method.parameters()])]


WORKER = """
import sys, torch
from pathlib import Path
from cmw_pipeline.runtime.team import joined_team
from tests.training.test_parallel import KINDS, in_a_loop_of_ones_own, trained
with joined_team("cpu") as team:
    for number, (kind, changes) in enumerate(KINDS):
        final = trained(kind, changes, Path(sys.argv[1], f"side{number}"), team)
        found = [final.records, [t.detach() for t in final.tensors()]]
        torch.save(found, f"{sys.argv[1]}/{number}-{team.rank}.pt")
    torch.save(in_a_loop_of_ones_own(team), f"{sys.argv[1]}/own-{team.rank}.pt")
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes, started as users start them, made of each kind."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, folder / "worker.py", folder],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_two_processes_equal_one(pair, tmp_path, number):
    before = torch.get_default_dtype()
    try:
        alone = trained(*KINDS[number], tmp_path)
    finally:
        torch.set_default_dtype(before)
    for rank in (0, 1):
        records, tensors = torch.load(pair / f"{number}-{rank}.pt", weights_only=True)
        for ours, theirs in zip(alone.records, records, strict=True):
            assert theirs["train_loss"] == pytest.approx(ours["train_loss"], rel=1e-5)
            assert theirs["scores"] == ours["scores"]
        for mine, found in zip(alone.tensors(), tensors, strict=True):
            torch.testing.assert_close(found, mine.detach(), rtol=1e-5, atol=1e-5)


def test_a_loop_of_ones_own_on_two_processes_is_that_of_one(pair):
    before = torch.get_default_dtype()
    try:
        alone = in_a_loop_of_ones_own()
    finally:
        torch.set_default_dtype(before)
    for rank in (0, 1):
        found = torch.load(pair / f"own-{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-9)


def test_what_needs_the_whole_batch_on_one_process_says_so():
    run = task("dividemix", recipe=recipe(**CHANGES))
    with pytest.raises(ConfigError, match="one process only"):
        share(run, state(run, "dividemix"), Team(0, 2))


def test_a_batch_that_cannot_be_divided_says_so():
    run = task(
        "erm/cmw-net", recipe=Recipe.model_validate(recipe(**CHANGES).model_dump() | {"batch_size": 9})
    )
    with pytest.raises(ConfigError, match=r"\[9, 4\] samples cannot be divided among 2"):
        share(run, state(run, "erm/cmw-net"), Team(0, 2))


@pytest.mark.parametrize("name", ["fast-cnn", "small-vgg"])
def test_batch_norm_that_cannot_be_shared_says_so(name):
    """Its statistics would be those of one share, and the processes would hold different networks."""
    run = task("erm", recipe=recipe(**CHANGES))
    begun = state(run, "erm")
    begun.model = models.build(recipe(network={"name": name, "width": 4}).network, 1, 4, 0)
    with pytest.raises(ConfigError, match="several processes cannot share the batch norm"):
        share(run, begun, Team(0, 2))


def test_shares_cover_a_batch_once():
    parts = [Team(rank, 4).share(12) for rank in range(4)]
    assert [row for part in parts for row in range(12)[part]] == list(range(12))


def test_batch_norm_alone_keeps_its_names():
    """Checkpoints and models of several processes are those of one."""
    norm = nn.BatchNorm2d(3)
    names = list(norm.state_dict())
    share_of = Team(0, 2)
    from cmw_pipeline.training.parallel import Shared

    Shared(norm, share_of)
    assert list(norm.state_dict()) == names
