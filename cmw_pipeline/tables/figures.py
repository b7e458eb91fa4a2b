"""Figures of weighting functions, bars, and curves of risk and coverage."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cmw_pipeline.metrics.aggregate import over_seeds
from cmw_pipeline.tables import canvas
from cmw_pipeline.types import Floats

_DASHES = ("-", (0, (6, 2)), (0, (1.2, 1.6)), "-.")
_CLEAN, _FLIPPED, _UNKNOWN = "#8C8C8C", "#D55E00", "#56B4E9"
_MAX_LOSS = 10.0
_BINS = 40
_GROUP = 0.86
"""Width of a group of bars, in distances between groups."""
_OURS: dict[str, Any] = {"alpha": 0.9}
_HATCHED: dict[str, Any] = {"alpha": 0.35, "hatch": "///", "edgecolor": "white"}


def weighting_figure(
    path: Path,
    loss_grid: Floats,
    weights: Floats,
    group_names: list[str],
    clean_weights: Floats,
    flipped_weights: Floats,
    unknown_weights: Floats,
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
        unknown_weights: (u,) of those whose right label nobody knows; may be empty.
        title: above the figure.
    """
    with canvas.styled():
        figure = Figure(figsize=(9.0, 4.8), layout="constrained")
        curves, histogram = figure.subplots(1, 2, sharey=True, width_ratios=[1.7, 1.0])
        _draw_curves(curves, loss_grid, weights, group_names)
        _draw_histogram(histogram, clean_weights, flipped_weights, unknown_weights)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        canvas.save(figure, path)


def curves_beside(path: Path, ours: pd.DataFrame, published: pd.DataFrame) -> None:
    """Draw two weighting functions side by side, one panel a class group.

    Args:
        path: the PNG file to write.
        ours: ``loss`` and a column of weights for each class group.
        published: the same groups, on a grid of its own.
    """
    groups = [name for name in published if name != "loss"]
    with canvas.styled():
        figure = Figure(figsize=(9.0, 3.4), layout="constrained")
        panels = figure.subplots(1, len(groups), sharey=True, squeeze=False).ravel()
        for number, (ax, group) in enumerate(zip(panels, groups, strict=True)):
            colour = canvas.COLOURS[number]
            ax.plot(ours["loss"], ours[group], color=colour, label="ours")
            ax.plot(published["loss"], published[group], "o--", color=_CLEAN, label="published", markersize=4)
            ax.set_title(f"{group} classes")
            ax.set_xlim(0, _MAX_LOSS)
            ax.set_ylim(-0.02, 1.02)
            ax.legend(loc="best")
        panels[0].set_ylabel("weight of the sample")
        figure.supxlabel("loss of the sample", fontsize=10)
        canvas.save(figure, path)


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
    with canvas.styled():
        figure = Figure(figsize=(9.0, 0.7 + 2.9 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharey=True, squeeze=False).ravel()
        for ax, panel in zip(axes, panels, strict=True):
            _draw_bars(ax, points[points["panel"] == panel], published[published["panel"] == panel], methods)
            ax.set_title(panel)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        figure.supylabel(axis, fontsize=10, color="#333333")
        canvas.save(figure, path)


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
            colour = canvas.colours(len(methods))[place]
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
    with canvas.styled():
        figure = Figure(figsize=(max(5.5, 4.5 * columns), 0.9 + 3.3 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
        for panel, ax in zip(panels, axes, strict=False):
            for (name,), curve in points[points["panel"] == panel].groupby(["method"], sort=False):
                means = curve.groupby("coverage")["value"].mean()
                colour = canvas.colours(len(colours))[colours.index(roots[name])]
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
        canvas.save(figure, path)


def _draw_curves(ax: Axes, loss_grid: Floats, weights: Floats, group_names: list[str]) -> None:
    for group, (curve, name) in enumerate(zip(weights, group_names, strict=True)):
        colour, dashes = canvas.COLOURS[group % len(canvas.COLOURS)], _DASHES[group % len(_DASHES)]
        ax.plot(loss_grid, curve, color=colour, linestyle=dashes, label=name)
    ax.set_xlim(0, _MAX_LOSS)
    ax.set_ylim(-0.02, 1.02 * max(1.0, float(np.max(weights))))
    ax.set_xlabel("loss of the sample")
    ax.set_ylabel("weight of the sample")
    ax.set_title("Learned function")
    _legend_below(ax, columns=1 if len(group_names) <= 3 else 2)


def _draw_histogram(ax: Axes, clean: Floats, flipped: Floats, unknown: Floats) -> None:
    """Shares, not counts: clean samples are usually many more."""
    most = max([1.0, *(float(values.max()) for values in (clean, flipped, unknown) if len(values))])
    edges = np.linspace(0.0, most, _BINS + 1)
    sets = (
        ("right label", clean, _CLEAN),
        ("wrong label", flipped, _FLIPPED),
        ("right label not known", unknown, _UNKNOWN),
    )
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
