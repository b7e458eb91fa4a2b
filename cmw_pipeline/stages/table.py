"""Stage ``table``: from the rows of all its runs to a finished page, tidy rows and figures.

Unlike the other stages it writes files of fixed names: ``results/<name>.md``, ``.parquet``, ``.png``, one
``-weighting-<k>.png`` per weighting function, ``numbers/<name>.json`` for DVC, and last ``.manifest.json``,
its receipt. Neither time stamps nor costs are in the receipt, so that a second rendering gives the same
bytes. While runs are missing, what there is goes to ``results/partial/<name>/``, without numbers and receipt:
a partial table never replaces a whole one and never counts as done.
"""

import functools
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from cmw_pipeline.config.artefact import RESULTS, Artefact
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.contracts import File, Page, Run, TableRequest, Weighting
from cmw_pipeline.data.outside import lineage
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.atomic import atomic_file, remove_scraps, remove_tree, write_text
from cmw_pipeline.io.manifests import Stored, exclusive, is_stored
from cmw_pipeline.io.receipts import receipt, withdraw
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.tables.aggregate import BEST, LAST, Column, Layout, layout_of, placed
from cmw_pipeline.tables.canvas import can_draw
from cmw_pipeline.tables.figures import bar_figure, curves_beside, risk_figure
from cmw_pipeline.tables.numbers import numbers
from cmw_pipeline.tables.points import Band, accuracy_figure
from cmw_pipeline.tables.published import is_published_recipe, published_weighting
from cmw_pipeline.tables.render import Figure, published_bars, render
from cmw_pipeline.tables.risk import check_scores, curves, lines, risk_rows
from cmw_pipeline.types import TEST

RUN, WEIGHTING = "run:", "weighting:"
PARTIAL = "partial"
"""Folder of the tables that are not whole."""
log = logging.getLogger(__name__)
_ROW_KEY = ["protocol", "split", "metric"]


def make_table(artefact: Artefact[TableRequest], root: Path, *, strict: bool = False) -> Path:
    """Render a table from whatever of its inputs is there.

    Args:
        artefact: the planned table.
        root: the project folder.
        strict: refuse a table with missing cells.

    Returns:
        The Markdown file: ``results/<name>.md``, or the partial one.

    Raises:
        IntegrityError: an input is not what its manifest says or stands on data that have changed, or
            ``strict`` and one is missing.
    """
    with exclusive(artefact, root):
        _remove_scraps(artefact, root)
        inputs, missing = _open_inputs(artefact, root)
        if missing and strict:
            raise IntegrityError(
                f"table {artefact.name}: {len(missing)} of {len(artefact.inputs)} inputs are missing:\n  "
                + "\n  ".join(missing),
                "make them first, or leave out --strict",
            )
        rows = collect(artefact, inputs)
        if missing:
            log.info("%s: %d of %d inputs are missing", artefact.name, len(missing), len(artefact.inputs))
            return _write(_partial_base(artefact, root), artefact, inputs, rows, missing)[0]
        withdraw(artefact, root)
        files = _write(root / RESULTS / artefact.name, artefact, inputs, rows, missing)
        write_text(root / RESULTS / "numbers" / f"{artefact.name}.json", numbers(rows))
        write_text(root / artefact.manifest, receipt(artefact, inputs, files, root))
        remove_tree(_partial_base(artefact, root).parent)
    return files[0]


def _remove_scraps(artefact: Artefact[TableRequest], root: Path) -> None:
    """What a rendering that was killed left: we hold the lock."""
    folder, name = Path(artefact.name).parent, re.escape(Path(artefact.name).name)
    files = rf"{name}(-weighting-\d+|-beside-published)?\.(md|png|parquet|json|manifest\.json)"
    for place in (RESULTS, f"{RESULTS}/numbers", f"{RESULTS}/.receipts"):
        remove_scraps(root / place / folder, files)


def _partial_base(artefact: Artefact[TableRequest], root: Path) -> Path:
    """Where the files of a partial table lie, without their endings."""
    return root / RESULTS / PARTIAL / artefact.name / Path(artefact.name).name


def _write(
    base: Path,
    artefact: Artefact[TableRequest],
    inputs: dict[str, Stored],
    rows: pd.DataFrame,
    missing: list[str],
) -> list[Path]:
    """Page, rows and figures of a table, at ``base`` and its endings; the page and the rows first."""
    layout = layout_of(artefact.request)
    if layout.metric == "risk-coverage":
        check_scores(layout, rows)
    page, data = _beside(base, Page.PAGE), _beside(base, Page.ROWS)
    write_table(data, rows, Page.ROWS.columns)
    figures = _draw(base, layout, rows) + _copy_weightings(base, artefact, inputs)
    figures += _beside_published(base, artefact, inputs)
    write_text(page, render(layout, rows, missing, figures, _other_recipes(artefact)))
    return [page, data, *(base.with_name(figure.file) for figure in figures)]


def _other_recipes(artefact: Artefact[TableRequest]) -> set[str]:
    """The recipes of a table beside published values that are not those behind the values."""
    published = artefact.request.published
    if published is None:
        return set()
    runs = [run for role, run in artefact.inputs.items() if role.startswith(RUN)]
    recipes = {Cell.parse(run.name).recipe: run.request.recipe for run in runs}
    return {
        name
        for name, recipe in recipes.items()
        if not recipe.smoke and not is_published_recipe(published, recipe.model_dump())
    }


def collect(artefact: Artefact[TableRequest], inputs: dict[str, Stored]) -> pd.DataFrame:
    """The tidy rows of all runs that are there, in the order of the plan: one row is one number."""
    ranked = artefact.request.metric == "risk-coverage"
    found = [
        _run_rows(artefact.name, artefact.inputs[role], stored, ranked)
        for role, stored in inputs.items()
        if role.startswith(RUN)
    ]
    nothing = pd.DataFrame(columns=list(Page.ROWS.columns)).astype(Page.ROWS.columns)
    return pd.concat(found, ignore_index=True) if found else nothing


def _open_inputs(artefact: Artefact[TableRequest], root: Path) -> tuple[dict[str, Stored], list[str]]:
    """What is there, verified, by role; and the roles of what is not."""
    line = lineage(root)
    there = [role for role, source in artefact.inputs.items() if is_stored(source, root)]
    inputs = {role: line.open(artefact.inputs[role]) for role in there}
    return inputs, [role.removeprefix(RUN) for role in artefact.inputs if role not in inputs]


def _run_rows(table: str, run: Artefact[Any], stored: Stored, ranked: bool) -> pd.DataFrame:
    rows = read_table(stored.path / Run.ROWS, Run.ROWS.columns)
    _check_rows(rows, stored.path)
    if ranked:
        predictions = read_table(stored.path / Run.PREDICTIONS, Run.PREDICTIONS.columns)
        epoch = int(rows.loc[rows["protocol"] == LAST, "epoch"].iloc[0])
        rows = pd.concat([rows, risk_rows(predictions, epoch)], ignore_index=True).astype(Run.ROWS.columns)
    cell, manifest = Cell.parse(run.name), stored.manifest
    facts: dict[str, Any] = {
        "table": table,
        "run": str(run.path),
        "dataset": cell.dataset,
        "bias": cell.bias,
        "method": cell.method,
        "recipe": cell.recipe,
        "seed": cell.seed,
        "seconds": manifest["cost"]["seconds"],
        "evaluation_seconds": manifest["cost"]["evaluation_seconds"],
        "peak_mib": manifest["cost"]["peak_mib"],
        "device": manifest["notes"].get("device", "unknown"),
        "precision": manifest["notes"].get("precision", "unknown"),
        "torch": manifest["versions"]["torch"],
        "verified": stored.verified,
        "smoke": manifest["notes"].get("smoke", False),
    }
    return rows.assign(**facts)[list(Page.ROWS.columns)]


def _check_rows(rows: pd.DataFrame, path: Path) -> None:
    """Refuse what would print a wrong number: a value twice, none at all, or not in percent."""
    repeated = rows[rows.duplicated(_ROW_KEY)]
    if len(repeated):
        key = "/".join(repeated.iloc[0][_ROW_KEY])
        raise IntegrityError(f"{path}: the row {key} is there more than once")
    shown = rows[(rows["split"] == TEST) & (rows["metric"] == "accuracy")]
    absent = {LAST, BEST} - set(shown["protocol"])
    if absent:
        raise IntegrityError(f"{path}: no test accuracy of protocol {', '.join(sorted(absent))}")
    if not shown["value"].between(0, 100).all():
        raise IntegrityError(f"{path}: an accuracy is not in 0..100 percent: {shown['value'].tolist()}")


def _draw(base: Path, layout: Layout, rows: pd.DataFrame) -> list[Figure]:
    """The figure of the table, where it has any run: points, bars, or curves of risk and coverage."""
    points = placed(rows, layout, LAST)
    if points.empty:
        return []
    file = _beside(base, Page.FIGURE)
    if layout.metric == "risk-coverage":
        ranked = curves(layout, rows).replace(
            to_replace={
                "method": {
                    line.text: _drawn(line.text, f"{layout.rows[line.row].method} {line.score}")
                    for line in lines(layout)
                }
            }
        )
        atomic_file(file, lambda draft: risk_figure(draft, _in_panels(ranked, layout)))
        return [
            Figure(file.name, "Test error among the surest predictions: mean over seeds at each coverage.")
        ]
    names = {row.text: _drawn(row.text, f"{row.method} {row.note}") for row in layout.rows}
    points["method"] = [names[layout.rows[row].text] for row in points["row"]]
    axis = f"test {layout.measured} after the last epoch, %"
    if layout.figure == "bars":
        published = published_bars(layout).replace(to_replace={"method": names})
        atomic_file(file, lambda draft: bar_figure(draft, _in_groups(points, layout), published, axis))
        beside = "; hatched: as published" if len(published) else ""
        return [Figure(file.name, f"Test {layout.measured}: mean ± standard deviation over seeds{beside}.")]
    bands = _bands(layout, names, set(points["column"]))
    atomic_file(file, lambda draft: accuracy_figure(draft, _in_panels(points, layout), bands, axis))
    caption = (
        f"Test {layout.measured} of each method: mean ± standard deviation; pale dots are seeds. Each panel"
        " has an axis of its own. Blue: with CMW-Net."
    )
    return [Figure(file.name, caption)]


def _drawn(text: str, otherwise: str) -> str:
    """A label as the figures can write it: names of the parameters where their font lacks a letter."""
    return " ".join(text.split()) if can_draw(text) else otherwise.strip()


def _in_panels(points: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """A panel for each column of the layout."""
    return points.assign(panel=[_panel(layout.columns[column]) for column in points["column"]])


def _panel(column: Column) -> str:
    return f"{column.dataset}\n{column.words}"


def _bands(layout: Layout, names: dict[str, str], drawn: set[int]) -> list[Band]:
    """The parts of the layout, of the columns that have any run."""
    bands = [
        Band(
            [_panel(layout.columns[column]) for column in part.columns if column in drawn],
            [names[layout.rows[row].text] for row in part.rows],
        )
        for part in layout.parts
    ]
    return [band for band in bands if band.panels]


def _in_groups(points: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """A panel for each dataset, a group for each bias."""
    columns = [layout.columns[column] for column in points["column"]]
    return points.assign(panel=[c.dataset for c in columns], group=[c.bias for c in columns])


def _copy_weightings(base: Path, artefact: Artefact[TableRequest], inputs: dict[str, Stored]) -> list[Figure]:
    figures = []
    for number, run in enumerate(artefact.request.weighting_figures):
        stored = inputs.get(WEIGHTING + run)
        if stored is None:
            continue
        file, source = _beside(base, f"-weighting-{number}.png"), stored.path / Weighting.FIGURE
        atomic_file(file, functools.partial(shutil.copyfile, source))
        caption = (
            f"The weighting function that `{run}` learned, a line for each group of classes by their sizes,"
            " and the weights it gave to training samples with a right and with a wrong label."
        )
        figures.append(Figure(file.name, caption))
    return figures


def _beside_published(
    base: Path, artefact: Artefact[TableRequest], inputs: dict[str, Stored]
) -> list[Figure]:
    run = artefact.request.beside_published_weighting
    if run is None or WEIGHTING + run not in inputs:
        return []
    ours, published = pd.read_csv(inputs[WEIGHTING + run].path / Weighting.CURVE), published_weighting()
    if set(ours) != set(published):
        found, expected = (", ".join(map(str, curves.columns[1:])) for curves in (ours, published))
        raise ConfigError(f"{run}: its function has the groups {found}; published are {expected}")
    file = _beside(base, "-beside-published.png")
    atomic_file(file, lambda draft: curves_beside(draft, ours, published))
    return [Figure(file.name, f"What `{run}` learned, beside the published function.")]


def _beside(base: Path, ending: str | File) -> Path:
    """``with_suffix`` would cut a table name that has a dot in it."""
    return base.with_name(base.name + os.fspath(ending))
