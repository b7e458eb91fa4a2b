"""Figures as PNG files whose bytes depend on the data alone."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cmw_pipeline.metrics.aggregate import over_seeds
from cmw_pipeline.types import Floats

_STYLE = Path(__file__).with_name("style.mplstyle")
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#333333")
"""Okabe and Ito: told apart with any colour vision."""
_DASHES = ("-", (0, (6, 2)), (0, (1.2, 1.6)), "-.")
_CLEAN, _FLIPPED = "#8C8C8C", "#D55E00"
_MAX_LOSS = 10.0
_BINS = 40
_GROUP = 0.86
"""Width of a group of bars, in distances between groups."""
_OURS: dict[str, Any] = {"alpha": 0.9}
_HATCHED: dict[str, Any] = {"alpha": 0.35, "hatch": "///", "edgecolor": "white"}
_PAGE, _PANEL, _LETTER = 12.9, 2.9, 0.083
"""Inches: a figure's width, that of a panel of points, that of a letter beside it."""
_TITLE_LETTERS = 27
"""What fits above such a panel on one line."""
_COMPARED, _OTHERS = "CMW-Net", "#6E6E6E"
"""What is drawn in blue, by a word of its label, and the colour of all else."""
_LEAST_SPAN = 4.0
"""What an axis spans at least, lest a difference of no account fill it."""


def can_draw(text: str) -> bool:
    """Whether the figures' font has all letters of a text, and writes them in the order they are read in.

    >>> can_draw("CMW-Net (ours)"), can_draw("\u65b9\u6cd5"), can_draw("\u05e9\u05d9\u05d8\u05d4")
    (True, False, False)
    """
    font = get_font(findfont("DejaVu Sans"))
    return all(
        font.get_char_index(ord(letter)) and unicodedata.bidirectional(letter) not in ("R", "AL", "AN")
        for letter in " ".join(text.split())
    )


def weighting_figure(
    path: Path,
    loss_grid: Floats,
    weights: Floats,
    group_names: list[str],
    clean_weights: Floats,
    flipped_weights: Floats,
    title: str,
) -> None:
    """Draw a learned weighting function, and what it gave to clean and to mislabelled samples.

    Args:
        path: the PNG file to write.
        loss_grid: (L,) losses.
        weights: (G, L) weight of each loss, one line per class group.
        group_names: G names for the legend.
        clean_weights: (n,) final weights of the correctly labelled training samples; may be empty.
        flipped_weights: (m,) the same of the mislabelled ones; may be empty.
        title: above the figure.
    """
    with _styled():
        figure = Figure(figsize=(9.0, 4.8), layout="constrained")
        curves, histogram = figure.subplots(1, 2, sharey=True, width_ratios=[1.7, 1.0])
        _draw_curves(curves, loss_grid, weights, group_names)
        _draw_histogram(histogram, clean_weights, flipped_weights)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        _save(figure, path)


def curves_beside(path: Path, ours: pd.DataFrame, published: pd.DataFrame) -> None:
    """Draw two weighting functions side by side, one panel a class group.

    Args:
        path: the PNG file to write.
        ours: ``loss`` and a column of weights for each class group.
        published: the same groups, on a grid of its own.
    """
    groups = [name for name in published if name != "loss"]
    with _styled():
        figure = Figure(figsize=(9.0, 3.4), layout="constrained")
        panels = figure.subplots(1, len(groups), sharey=True, squeeze=False).ravel()
        for number, (ax, group) in enumerate(zip(panels, groups, strict=True)):
            colour = _COLOURS[number]
            ax.plot(ours["loss"], ours[group], color=colour, label="ours")
            ax.plot(published["loss"], published[group], "o--", color=_CLEAN, label="published", markersize=4)
            ax.set_title(f"{group} classes")
            ax.set_xlim(0, _MAX_LOSS)
            ax.set_ylim(-0.02, 1.02)
            ax.legend(loc="best")
        panels[0].set_ylabel("weight of the sample")
        figure.supxlabel("loss of the sample", fontsize=10)
        _save(figure, path)


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
    with _styled():
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
        _save(figure, path)


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


def bar_figure(path: Path, points: pd.DataFrame, published: pd.DataFrame, axis: str) -> None:
    """Draw a bar for each method's mean with its standard deviation, and a hatched one for a published value.

    Args:
        path: the PNG file to write.
        points: one row a run, with ``panel`` (one below the other), ``group`` (of bars), ``method``,
            ``seed`` and ``value``; drawn in order of appearance.
        published: ``panel``, ``group``, ``method`` and ``value``; may be empty.
        axis: what the values are.
    """
    panels, methods = list(dict.fromkeys(points["panel"])), list(dict.fromkeys(points["method"]))
    with _styled():
        figure = Figure(figsize=(9.0, 0.7 + 2.9 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharey=True, squeeze=False).ravel()
        for ax, panel in zip(axes, panels, strict=True):
            _draw_bars(ax, points[points["panel"] == panel], published[published["panel"] == panel], methods)
            ax.set_title(panel)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        figure.supylabel(axis, fontsize=10, color="#333333")
        _save(figure, path)


def _draw_bars(ax: Axes, points: pd.DataFrame, published: pd.DataFrame, methods: list[str]) -> None:
    """In a group ours come first, then the published ones, methods in their order."""
    groups = list(dict.fromkeys(points["group"]))
    cells = over_seeds(points, ["group", "method"])
    kinds = [(cells, "ours", _OURS)]
    if len(published):
        kinds.append((published.assign(mean=published["value"], std=np.nan), "published", _HATCHED))
    width = _GROUP / (len(kinds) * len(methods))
    for number, (bars, kind, look) in enumerate(kinds):
        for place, method in enumerate(methods):
            mine = bars[bars["method"] == method]
            shift = (number * len(methods) + place + 0.5) * width - _GROUP / 2
            x = np.array([groups.index(group) for group in mine["group"]]) + shift
            name = f"{method}, {kind}" if len(kinds) > 1 else method
            colour = _colours(len(methods))[place]
            spread = mine["std"].fillna(0.0)
            drawn = ax.bar(x, mine["mean"], 0.94 * width, yerr=spread, color=colour, label=name, **look)
            ax.bar_label(drawn, fmt="%.1f", padding=2, fontsize=8)
    ax.set_xticks(range(len(groups)), groups)
    ax.grid(axis="x", visible=False)
    ax.margins(y=0.12)


def risk_figure(path: Path, points: pd.DataFrame) -> None:
    """Draw risk-coverage curves, one panel a bias, a line a method: means over seeds.

    A method whose name is that of another and more (``X + Y``) has its colour, dashed.

    Args:
        path: the PNG file to write.
        points: ``panel``, ``method``, ``seed``, ``coverage`` and ``value``, both in percent.
    """
    panels, methods = list(dict.fromkeys(points["panel"])), list(dict.fromkeys(points["method"]))
    roots = {name: next((m for m in methods if name.startswith(f"{m} + ")), name) for name in methods}
    colours = list(dict.fromkeys(roots.values()))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    with _styled():
        figure = Figure(figsize=(max(5.5, 4.5 * columns), 0.9 + 3.3 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
        for panel, ax in zip(panels, axes, strict=False):
            for (name,), curve in points[points["panel"] == panel].groupby(["method"], sort=False):
                means = curve.groupby("coverage")["value"].mean()
                colour = _colours(len(colours))[colours.index(roots[name])]
                dashes = _DASHES[int(roots[name] != name)]
                ax.plot(means.index, means, color=colour, linestyle=dashes, linewidth=1.6, label=name)
            ax.set_title(panel.replace("\n", ": "), fontsize=10)
            ax.set_ylim(bottom=0)
            ax.tick_params(labelbottom=True)  # the last line of panels may be short
            ax.set_xlabel("coverage: the surest predictions, %")
            ax.set_ylabel("test error among them, %")
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
        _save(figure, path)


def _draw_curves(ax: Axes, loss_grid: Floats, weights: Floats, group_names: list[str]) -> None:
    for group, (curve, name) in enumerate(zip(weights, group_names, strict=True)):
        colour, dashes = _COLOURS[group % len(_COLOURS)], _DASHES[group % len(_DASHES)]
        ax.plot(loss_grid, curve, color=colour, linestyle=dashes, label=name)
    ax.set_xlim(0, _MAX_LOSS)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("loss of the sample")
    ax.set_ylabel("weight of the sample")
    ax.set_title("Learned function")
    _legend_below(ax, columns=1 if len(group_names) <= 3 else 2)


def _draw_histogram(ax: Axes, clean: Floats, flipped: Floats) -> None:
    """Shares, not counts: clean samples are usually many more."""
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    sets = (("right label", clean, _CLEAN), ("wrong label", flipped, _FLIPPED))
    for name, values, colour in sets:
        if len(values):
            share = 100.0 * np.histogram(values, edges)[0] / len(values)
            label = f"{name} (n = {len(values):,}, mean {np.mean(values):.2f})"
            ax.stairs(share, edges, orientation="horizontal", fill=True, color=colour, alpha=0.35)
            ax.stairs(share, edges, orientation="horizontal", color=colour, linewidth=1.4, label=label)
    ax.set_xlim(left=0)
    ax.set_xlabel("% of the samples of that kind")
    ax.set_title("Weights given in training")
    _legend_below(ax, columns=1)


def _legend_below(ax: Axes, columns: int) -> None:
    """Curves and histograms may be anywhere inside; below, the legend hides nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.14), ncols=columns)


def _draw_panel(ax: Axes, points: pd.DataFrame, methods: list[str]) -> None:
    for cell in over_seeds(points, ["method"]).to_dict("records"):
        height = methods.index(cell["method"])
        colour = _COLOURS[0] if _COMPARED in cell["method"] else _OTHERS
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


def _colours(count: int) -> list[str]:
    """So many colours, no two alike."""
    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    return [to_hex(colormaps["turbo"](place)) for place in np.linspace(0.05, 0.95, count)]


@contextmanager
def _styled() -> Iterator[None]:
    """Only our style: a matplotlibrc of the user's must not change the bytes."""
    with matplotlib.style.context(["default", str(_STYLE)]):
        yield


def _save(figure: Figure, path: Path) -> None:
    """``Figure`` without pyplot draws with Agg, whatever display there is."""
    figure.savefig(path, format="png", metadata={"Software": None})
