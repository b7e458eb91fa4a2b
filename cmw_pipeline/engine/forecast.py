"""What a run will take whose like never ran: counted operations over a measured speed."""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cmw_pipeline.bias.long_tail import class_sizes
from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.datasets import FACTS, DatasetFacts
from cmw_pipeline.config.facts import Row, read
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.config.schema import Network, Recipe
from cmw_pipeline.config.weightings import MetaLearned
from cmw_pipeline.io.atomic import write_text

MEASURED = Path(".snakemake", "speed.json")
"""What `cmw cost` found out about this machine."""
SAMPLES = {
    "digits": (1_442, 355),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
}
"""Training and test samples of the sources whose number is known before they are read."""
_PUBLISHED_LABELS = 45_000
"""Samples that the published files of feature-dependent noise have labels for."""
FORWARDS, META_FORWARDS = 3, 7
"""What a step of ERM and a meta step add, in forward passes: docs/performance.md."""
_LOW_PRECISION = 0.47
"""Of fp32's time, at best: bf16 and channels_last there."""


_LEAST, _MOST = 0.7, 3.0
"""Between these multiples of a plain step are those of four in five recorded runs of tiny networks."""


class Speed(NamedTuple):
    """How fast a machine trains."""

    machine: str
    step: float
    """Seconds that a step takes besides its operations."""
    slow: float
    fast: float
    """Floating-point operations a second in a narrow and in a wide network."""


class Shape(NamedTuple):
    """A network on pictures of one size; all that its operations depend on."""

    network: str
    width: int | None
    channels: int
    side: int
    classes: int


class _Counted(Row):
    network: str
    width: int | None = None
    channels: int
    side: int
    classes: int
    flop: int


class _Work(Row):
    kind: str
    forwards: float


class _Reference(Row):
    machine: str
    step: float
    slow: float
    fast: float


class Forecast:
    """What is known of operations and speed in a project.

    Args:
        plan: what is asked for.
        root: the project folder.
    """

    def __init__(self, plan: Plan, root: Path = Path()) -> None:
        self.plan = plan
        found = _measured(root)
        self.here = bool(found)
        self.speed = Speed(**found["speed"]) if found else _reference()
        self._flops = _counted() | {Shape(*row[:-1]): row[-1] for row in found.get("networks", ())}

    def shape(self, cell: Cell) -> Shape:
        """The network of a cell on its pictures."""
        recipe, facts = self._recipe(cell), self._facts(cell)
        side = recipe.picture.side if recipe.picture else facts.image_shape[0]
        network: Network = recipe.network
        return Shape(network.name, network.width, facts.image_shape[2], side, facts.num_classes)

    def unknown(self, cells: Iterable[Cell]) -> list[Shape]:
        """The networks of cells whose operations nobody has counted."""
        return [shape for shape in dict.fromkeys(map(self.shape, cells)) if shape not in self._flops]

    def lacks(self, cell: Cell) -> str:
        """Why nothing is known of a run's time, and what would help."""
        if self.shape(cell) not in self._flops:
            return "`cmw cost TABLE` counts the operations of the network"
        return f"how many samples {cell.dataset} has is not known here; a first run says how long it takes"

    def seconds(self, cell: Cell) -> tuple[float, float] | None:
        """The least and the most that a run will take; None where its samples or operations are not known."""
        flop = self._flops.get(self.shape(cell))
        source = self._facts(cell).name
        if flop is None or source not in SAMPLES:
            return None
        recipe, (_, tests) = self._recipe(cell), SAMPLES[source]
        shown = _shown(cell.bias, self._facts(cell))
        forwards, steps = self._of_an_image(cell)
        looked = tests * (1 + (recipe.ema is not None)) / recipe.evaluate_every * recipe.epochs
        flops = flop * (forwards * shown + looked * _towers(self.plan, cell))
        rest = self.speed.step * steps * shown / recipe.batch_size
        fastest = self.speed.fast / (1 if recipe.precision == "fp32" else _LOW_PRECISION)
        return _LEAST * rest + flops / fastest, _MOST * rest + flops / self.speed.slow

    def _of_an_image(self, cell: Cell) -> tuple[float, float]:
        """Forward passes of a training image in the whole run, and steps of ERM that they come in."""
        options, recipe = self.plan.options(cell), self._recipe(cell)
        towers, epochs = _towers(self.plan, cell), recipe.epochs
        plain = FORWARDS * towers
        active = max(0, epochs - options.start_epoch)
        passes = plain * (epochs - active) + _work().get(options.kind, plain) * active
        weighting = options.weighting
        if isinstance(weighting, MetaLearned):
            weighted = max(0, epochs - max(options.start_epoch, weighting.start_epoch))
            images = (1 + weighting.meta_batch / recipe.batch_size) / 2
            passes += META_FORWARDS * towers * images * weighted / weighting.meta_every
        return passes, passes / FORWARDS

    def _recipe(self, cell: Cell) -> Recipe:
        return self.plan.params.recipes[cell.recipe]

    def _facts(self, cell: Cell) -> DatasetFacts:
        return FACTS[self.plan.params.datasets[cell.dataset].source]


def keep(root: Path, speed: Speed, networks: dict[Shape, int]) -> None:
    """Write what was measured and counted here, beside what was counted before."""
    known = {Shape(*row[:-1]): row[-1] for row in _measured(root).get("networks", ())}
    rows = [[*shape, flop] for shape, flop in (known | networks).items()]
    write_text(root / MEASURED, json.dumps({"speed": speed._asdict(), "networks": rows}, indent=1) + "\n")


def _measured(root: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((root / MEASURED).read_text())
        Speed(**found["speed"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def _towers(plan: Plan, cell: Cell) -> int:
    return plan.options(cell).towers


def _shown(bias: str, facts: DatasetFacts) -> int:
    """Training samples under a bias."""
    steps, (samples, _) = parse_bias(bias), SAMPLES[facts.name]
    if any(step.variant == "plc" and step.reads == "labels" for step in steps):
        return _PUBLISHED_LABELS
    if steps and steps[0].kind == "lt":
        return int(class_sizes(samples // facts.num_classes, facts.num_classes, steps[0].value).sum())
    return samples


@functools.cache
def _counted() -> dict[Shape, int]:
    rows = read("networks", _Counted)
    return {Shape(row.network, row.width, row.channels, row.side, row.classes): row.flop for row in rows}


@functools.cache
def _work() -> dict[str, float]:
    """Forward passes of a training sample in an epoch in which a method is active, by its kind."""
    return {row.kind: row.forwards for row in read("work", _Work)}


def _reference() -> Speed:
    """Of the machine that estimates are made for until this one is measured."""
    (row,) = read("speeds", _Reference)
    return Speed(**row.model_dump())
