"""The figure of points: mean and spread of each method, a panel a bias."""

from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cmw_pipeline.metrics.aggregate import over_seeds
from cmw_pipeline.tables import canvas

_PAGE, _PANEL, _LETTER = 12.9, 2.9, 0.083
"""Inches: a figure's width, that of a panel of points, that of a letter beside it."""
_TITLE_LETTERS = 27
"""What fits above such a panel on one line."""
_COMPARED, _OTHERS = "CMW-Net", "#6E6E6E"
"""What is drawn in blue, by a word of its label, and the colour of all else."""
_LEAST_SPAN = 4.0
"""What an axis spans at least, lest a difference of no account fill it."""


class Band(NamedTuple):
    """Panels that have the same methods on the same lines."""

    panels: list[str]
    methods: list[str]


def accuracy_figure(path: Path, points: pd.DataFrame, bands: list[Band], axis: str) -> None:
    """Draw mean ± standard deviation of each method, one panel a bias, one pale dot a seed below.

    Each panel has an axis of its own, since a method may have 30% under one bias and 97% under another; the
    means stand beside it.

    Args:
        path: the PNG file to write.
        points: one row a run, with ``panel``, ``method``, ``seed`` and ``value``.
        bands: which panels there are and what each shows, from the top.
        axis: what the values are.
    """
    label = _LETTER * max(len(method) for band in bands for method in band.methods)
    across = _across(max(len(band.panels) for band in bands), int((_PAGE - label) / _PANEL))
    lines = [
        Band(band.panels[first : first + across], band.methods)
        for band in bands
        for first in range(0, len(band.panels), across)
    ]
    across = max(len(line.panels) for line in lines)
    heights = [0.6 + 0.2 * _lines_of_titles(line) + 0.34 * len(line.methods) for line in lines]
    with canvas.styled():
        size = (label + max(across, 2) * _PANEL, 0.3 + sum(heights))
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        cells = figure.add_gridspec(len(lines), across, height_ratios=heights)
        for number, line in enumerate(lines):
            for place, panel in enumerate(line.panels):
                ax = figure.add_subplot(cells[number, place])
                _draw_panel(ax, points[points["panel"] == panel], line.methods)
                ax.set_title(_title(panel), fontsize=10)
                ax.set_yticks(range(len(line.methods)), line.methods if place == 0 else [])
                ax.set_ylim(len(line.methods) - 0.5, -0.5)
        figure.supxlabel(axis, fontsize=10, color="#333333")
        canvas.save(figure, path)


def _across(panels: int, room: int) -> int:
    """Panels side by side, evenly over as many lines as they need.

    >>> _across(5, 4), _across(4, 4), _across(3, 0)
    (3, 4, 1)
    """
    lines = -(-panels // max(1, room))
    return -(-panels // lines)


def _title(panel: str) -> str:
    return "\n".join(fill(line, _TITLE_LETTERS) for line in panel.split("\n"))


def _lines_of_titles(band: Band) -> int:
    return max(_title(panel).count("\n") + 1 for panel in band.panels)


def _draw_panel(ax: Axes, points: pd.DataFrame, methods: list[str]) -> None:
    for cell in over_seeds(points, ["method"]).to_dict("records"):
        height = methods.index(cell["method"])
        colour = canvas.COLOURS[0] if _COMPARED in cell["method"] else _OTHERS
        values = points.loc[points["method"] == cell["method"], "value"]
        ax.plot(values, [height + 0.24] * len(values), "o", color=colour, markersize=5, alpha=0.45, mew=0)
        spread = 0.0 if np.isnan(cell["std"]) else cell["std"]
        ax.errorbar(cell["mean"], height, xerr=spread, fmt="o", color=colour, elinewidth=1.6, capsize=3)
        ax.text(
            1.02,
            height,
            f"{cell['mean']:.2f}",
            transform=ax.get_yaxis_transform(),
            color=colour,
            fontsize=9,
            va="center",
        )
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.08)
    low, high = ax.get_xlim()
    if (room := (_LEAST_SPAN - (high - low)) / 2) > 0:
        ax.set_xlim(low - room, high + room)
