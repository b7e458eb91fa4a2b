"""Names that commands take under a plan, and the one that a mistyped name was meant to be."""

import re
from collections.abc import Iterable

from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.nearest import closest
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.config.weightings import Frozen, MetaLearned, NetWeighting, WeightingBase

_LEARNS: dict[str, tuple[type[WeightingBase], bool]] = {
    "metaset": (MetaLearned, True),
    "transfer": (Frozen, True),
    "export": (NetWeighting, True),
    "train": (Frozen, False),
}
"""Stage -> a weighting, and whether the cells under it or all others are the stage's."""


def names(plan: Plan, stage: str) -> list[str]:
    """What the command of a stage takes, of all that the tables of the plan need, in order."""
    if stage == "download":
        return list(plan.params.datasets)
    if stage in ("table", "cost", "list", "make"):
        return list(plan.params.tables)
    cells = dict.fromkeys(cell for table in plan.params.tables for cell in plan.cells(table))
    return list(dict.fromkeys(_of_stage(plan, stage, cells)))


def _of_stage(plan: Plan, stage: str, cells: Iterable[Cell]) -> Iterable[str]:
    for cell in cells:
        data = f"{cell.dataset}/{cell.bias}"
        if stage == "inject":
            yield data
            continue
        weighting = plan.options(cell).weighting
        kind, belongs = _LEARNS[stage]
        if isinstance(weighting, kind) == belongs:
            yield f"{data}/{weighting.meta_set}" if stage == "metaset" else cell.name  # type: ignore[attr-defined]


def meant(plan: Plan, stage: str, wrong: str) -> str | None:
    """The name that a wrong one resembles, part by part; None where a part resembles nothing.

    A part that could be right stays: a bias that can be read, a seed. Where parts are missing, the first name
    that begins so.
    """
    known = [name.split("/") for name in names(plan, stage)]
    found: list[str] = []
    for part in wrong.split("/"):
        follow = [name[len(found)] for name in known if len(name) > len(found)]
        right = part if _stands(part) else closest(part, follow)
        if right is None:
            return None
        found.append(right)
        known = [name for name in known if name[: len(found)] == found] or known
    if all(len(found) < len(name) for name in known):
        found = next((name for name in known if name[: len(found)] == found), found)
    right = "/".join(found)
    return None if right == wrong else right


def _stands(part: str) -> bool:
    try:
        parse_bias(part)
    except ValueError:
        return re.fullmatch("seed(0|[1-9][0-9]*)", part) is not None
    return True
