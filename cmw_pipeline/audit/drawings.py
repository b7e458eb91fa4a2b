"""What the report draws, in the units of the drawing: the transition matrix and the weighting curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cmw_pipeline.audit.result import Audit
from cmw_pipeline.types import Floats

MAX_HEAT = 25
"""Classes of the heat map, those that take part in most errors; every pair is in ``transition.csv``."""
_WIDTH, _HEIGHT = 600, 260
"""Of the curves' drawing, as the view box in the template has it."""


@dataclass(frozen=True)
class Heat:
    """The transition matrix, or the part of it that has most errors."""

    names: Sequence[str]
    shares: Sequence[Sequence[float]]
    largest: float
    """Share off the diagonal, for the depth of the colour."""


def heat(audit: Audit) -> Heat | None:
    """The map of an audit; None without an estimate, that is without folds."""
    if audit.transition is None:
        return None
    errors = audit.transition - np.diag(audit.transition.diagonal())
    kept = np.sort(np.argsort(-(errors.sum(axis=0) + errors.sum(axis=1)), kind="stable")[:MAX_HEAT])
    names = [audit.classes["name"].iloc[place] for place in kept]
    part = np.ix_(kept, kept)
    return Heat(names, audit.transition[part].tolist(), max(float(errors[part].max()), 1e-9))


@dataclass(frozen=True)
class Curve:
    """The weighting function of one class group in the units of the drawing."""

    group: int
    points: str
    classes: Sequence[str]


@dataclass(frozen=True)
class Chart:
    """Weight over loss; the drawing is 600 by 260, its origin at the top left."""

    curves: Sequence[Curve]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]


def chart(curves: pd.DataFrame, classes: pd.DataFrame) -> Chart | None:
    """The curves (CURVE_COLUMNS) and whose they are (CLASS_COLUMNS); None without a curve."""
    if curves.empty:
        return None
    x_ticks, y_ticks = _ticks(float(curves["loss"].max())), _ticks(float(curves["weight"].max()))
    right, top = x_ticks[-1], y_ticks[-1]
    drawn = []
    for group in sorted(set(curves["group"].tolist())):
        part, names = curves[curves["group"] == group], classes.loc[classes["group"] == group, "name"]
        x, y = part["loss"].to_numpy() / right * _WIDTH, _HEIGHT - part["weight"].to_numpy() / top * _HEIGHT
        drawn.append(Curve(group, _points(x, y), names.tolist()))
    return Chart(
        drawn,
        [(tick / right * _WIDTH, f"{tick:g}") for tick in x_ticks],
        [(_HEIGHT - tick / top * _HEIGHT, f"{tick:g}") for tick in y_ticks],
    )


@dataclass(frozen=True)
class Recall:
    """Precision over recall down the ranking, in the units of the drawing, and where the list ends."""

    points: str
    cut: tuple[float, float] | None
    ticks: Sequence[tuple[float, float, str]]
    """x, y and text of the shares that are marked."""


def recall(known: pd.DataFrame | None, listed: int) -> Recall | None:
    """The curve of KNOWN_COLUMNS, a point a hit; None where nothing is known."""
    if known is None:
        return None
    hits = known[known["wrong"]]
    kept = hits.iloc[np.unique(np.linspace(0, len(hits) - 1, 300).round().astype(int))]
    x, y = (kept[name].to_numpy() for name in ("recall", "precision"))
    inside = known[known["rank"] <= listed]
    cut = None
    if len(inside):
        last = inside.iloc[-1]
        cut = (float(last["recall"]) * _WIDTH, _HEIGHT - float(last["precision"]) * _HEIGHT)
    ticks = [(share * _WIDTH, _HEIGHT - share * _HEIGHT, f"{share:.0%}") for share in np.linspace(0, 1, 6)]
    return Recall(_points(x * _WIDTH, _HEIGHT - y * _HEIGHT), cut, ticks)


def _points(x: Floats, y: Floats) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _ticks(end: float) -> list[float]:
    """Round numbers from 0 to ``end`` or just beyond, some five of them.

    >>> _ticks(0.97)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    end = max(end, 1e-9)
    power = 10.0 ** np.floor(np.log10(end / 2))
    step = next(power * by for by in (1, 2, 5, 10) if end / (power * by) <= 6)
    return [float(f"{step * place:.6g}") for place in range(int(np.ceil(end / step - 1e-9)) + 1)]
