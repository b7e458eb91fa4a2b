"""Markdown of a table: the same rows give the same bytes."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.tables.aggregate import (
    BEST,
    LAST,
    Column,
    Cost,
    Layout,
    Place,
    Summary,
    bias_words,
    costs,
    placed,
    summaries,
)
from cmw_pipeline.tables.markdown import MISSING, grid, plain, prose, value, winners
from cmw_pipeline.tables.published import Published, lookup, of_unknown_recipe, printed_column
from cmw_pipeline.tables.risk import RISK_NOTE, risk_sections

_SMOKE, _FAR = "†", "‡"
_REFERENCE = "ERM"
"""The label of the method whose cost is 1."""
_NOTHING: Mapping[str, Mapping[int, str]] = {}
_SHOWN = 8
"""How many missing runs are named before the rest is counted."""


@dataclass(frozen=True)
class Figure:
    """A figure below the table; ``file`` lies beside the Markdown."""

    file: str
    caption: str


def render(
    layout: Layout,
    rows: pd.DataFrame,
    missing: list[str],
    figures: list[Figure],
    others: Collection[str] = (),
) -> str:
    """The whole page: the table, the best epochs, the costs, what has to be known, the figures.

    Args:
        layout: which cells the table has.
        rows: tidy rows of all runs that are there (``Page.ROWS``).
        missing: names of planned inputs that are not there.
        figures: what to embed at the end.
        others: recipes that are not those of the published values.
    """
    points = placed(rows, layout, LAST)
    known = _known(layout)
    marked = rows.assign(smoke=rows["smoke"] | rows["recipe"].isin(others))
    blocks = [
        f"# {plain(layout.title)}",
        *([prose(layout.caption)] if layout.caption else []),
        *(
            risk_sections(layout, rows)
            if layout.metric == "risk-coverage"
            else _sections(layout, marked, known)
        ),
        "## Cost of one run",
        _costs(layout, points),
        *_evaluation(rows),
        "## Notes",
        "\n".join(f"- {note}" for note in _notes(layout, rows, missing, known, others)),
        *(f"![{plain(figure.caption)}]({figure.file})\n\n{figure.caption}" for figure in figures),
    ]
    return "\n\n".join(blocks) + "\n"


def published_bars(layout: Layout) -> pd.DataFrame:
    """The published values beside ours: ``panel`` (dataset), ``group`` (bias), ``method`` and ``value``."""
    known = _known(layout)
    found = {place: _published_at(layout, known, place) for place in layout.planned}
    bars = [
        (layout.columns[column].dataset, layout.columns[column].bias, layout.rows[row].text, theirs.value)
        for (row, column), theirs in found.items()
        if theirs is not None
    ]
    return pd.DataFrame(bars, columns=["panel", "group", "method", "value"])


# --- the three tables


def _sections(layout: Layout, rows: pd.DataFrame, known: dict[tuple[str, str, str], Published]) -> list[str]:
    return [
        _results(layout, placed(rows, layout, LAST), known),
        "## Best epoch, chosen on the test samples: optimistic",
        _results(layout, placed(rows, layout, BEST), {}),
    ]


def _results(layout: Layout, points: pd.DataFrame, known: dict[tuple[str, str, str], Published]) -> str:
    cells = summaries(points)
    smoke = _smoke_places(points)
    best = winners(cells, layout.metric == "error")
    texts = {}
    for place, summary in cells.items():
        texts[place] = value(summary, place in best, len(layout.seeds))
        theirs = _published_at(layout, known, place)
        if place in smoke:
            texts[place] += f" {_SMOKE}"
        elif theirs is not None:
            texts[place] += _comparison(summary, theirs)
    return _cells(layout, texts, _quoted(layout, known))


def _quoted(layout: Layout, known: dict[tuple[str, str, str], Published]) -> dict[str, dict[int, str]]:
    """By label and column, what is only quoted; nothing beside values that are no published ones."""
    lines = {}
    for label in layout.quoted if known else ():
        found = [known.get((*_printed_column(column), label)) for column in layout.columns]
        if not any(found):
            raise ConfigError(f"{label!r} is quoted, but {layout.published} has no such row in these columns")
        lines[label] = {c: f"pub {_printed(value)}" for c, value in enumerate(found) if value is not None}
    return lines


def _printed(theirs: Published) -> str:
    return f"{theirs.value:.2f}" + ("" if theirs.std is None else f"±{theirs.std:.2f}")


def _comparison(ours: Summary, theirs: Published) -> str:
    difference = round(ours.mean - theirs.value, 2) + 0.0  # + 0.0: never print -0.00
    # A NaN standard error (one seed) compares False: nothing can be said, nothing is flagged.
    far = f" {_FAR}" if abs(ours.mean - theirs.value) > 2 * ours.standard_error else ""
    return f" · pub {_printed(theirs)} · Δ {difference:+.2f}{far}"


def _costs(layout: Layout, points: pd.DataFrame) -> str:
    cells = costs(points)
    reference = {place[1]: cell for place, cell in cells.items() if layout.rows[place[0]].text == _REFERENCE}
    texts = {place: _cost(cell, reference.get(place[1])) for place, cell in cells.items()}
    return _cells(layout, texts)


def _evaluation(rows: pd.DataFrame) -> Iterator[str]:
    """What the tests between epochs cost, of all runs together."""
    runs = rows.drop_duplicates("run")
    if len(runs):
        share = runs["evaluation_seconds"].sum() / runs["seconds"].sum()
        yield f"{share:.1%} of this time went into the tests after each epoch."


def _cost(cell: Cost, reference: Cost | None) -> str:
    text = f"{_duration(cell.seconds)} · {cell.peak_mib:,.0f} MiB"
    if reference is None or reference.devices != cell.devices or reference.seconds <= 0:
        return text
    return f"{text} · {cell.seconds / reference.seconds:.2f} × {_REFERENCE}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# --- what has to be known


def _notes(
    layout: Layout,
    rows: pd.DataFrame,
    missing: list[str],
    known: dict[tuple[str, str, str], Published],
    others: Collection[str],
) -> Iterator[str]:
    if not rows["verified"].all():
        names = ", ".join(sorted(rows.loc[~rows["verified"], "dataset"].unique()))
        yield f"**Unverified data** ({names}): taken as they are, with `--accept-unverified`."
    if rows["smoke"].any():
        names = ", ".join(sorted(rows.loc[rows["smoke"], "recipe"].unique()))
        yield f"{_SMOKE} **smoke recipe: too short to compare** with anything ({names})."
    if others:
        yield (
            f"{_SMOKE} **not the published network and epochs** ({', '.join(sorted(others))}): not to be"
            f" compared with {layout.published}."
        )
    if missing:
        more = f", and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        fewer = f" and n=k/{len(layout.seeds)}" if len(layout.seeds) > 1 else ""
        yield f"{MISSING}{fewer}: not made yet: {', '.join(missing[:_SHOWN])}{more}."
    what = f"Test {layout.measured} in percent after the last epoch"
    if layout.metric == "risk-coverage":
        what = RISK_NOTE
    several = len(layout.seeds) > 1
    spread = f"mean ± sample standard deviation of {len(layout.seeds)} seeds" if several else "one seed each"
    yield f"{what}: {spread}. Bold: the best mean of the column."
    yield from _contents(layout)
    yield from _machines(rows)
    if layout.published:
        yield (
            f"pub: the published value ({layout.published}). Δ: ours minus published."
            f" {_FAR}: further away than 2 standard errors of our mean (the number of seeds behind the"
            " published values is not known, so their spread does not enter)."
        )
        yield from (
            f"{plain(label)}: the published values only. {prose(why)}" for label, why in layout.quoted.items()
        )
        yield from _published_notes(layout, known)


def _contents(layout: Layout) -> Iterator[str]:
    biases = {column.bias: column.steps for column in layout.columns}
    yield "; ".join(f"`{bias}`: {bias_words(steps)}" for bias, steps in biases.items()) + "."
    used = dict.fromkeys((dataset, recipe) for dataset, _, _, recipe in layout.places)
    listed = ", ".join(f"`{dataset}` by recipe `{recipe}`" for dataset, recipe in used)
    yield f"Trained: {listed}; seeds {', '.join(str(seed) for seed in layout.seeds)}."


def _machines(rows: pd.DataFrame) -> Iterator[str]:
    columns = {"torch versions": "torch", "devices": "device", "precisions": "precision"}
    for what, column in columns.items():
        names = sorted(rows[column].unique())
        if len(names) > 1:
            yield f"**Mixed {what}** in one table: {plain(', '.join(names))}."
        elif names:
            yield f"All runs: {column} {plain(names[0])}."


def _published_notes(layout: Layout, known: dict[tuple[str, str, str], Published]) -> Iterator[str]:
    matches = {place: _published_at(layout, known, place) for place in layout.planned}
    matched = {row for (row, _), theirs in matches.items() if theirs is not None}
    strangers = [row.text for r, row in enumerate(layout.rows) if r not in matched]
    if strangers:
        yield f"Not in {layout.published}, by label: {plain(', '.join(strangers))}."
    labels = [row.label for r, row in enumerate(layout.rows) if r in matched]
    if unsourced := of_unknown_recipe(str(layout.published), labels):
        yield (
            "The network and epochs behind the published values of these rows are not published, or another"
            f" paper's; they may differ from ours: {plain(', '.join(unsourced))}."
        )
    for (row, column), theirs in matches.items():
        if theirs is not None and theirs.note:
            at = layout.columns[column]
            name = plain(layout.rows[row].text)
            yield f"Published {name} at {at.dataset}, {at.text}: {theirs.note}."


# --- places and Markdown


def _known(layout: Layout) -> dict[tuple[str, str, str], Published]:
    """The published numbers by (dataset, bias, method as printed); see :func:`_printed_column`."""
    if layout.published is None:
        return {}
    if not layout.test_sets:
        return lookup(layout.published, layout.metric)
    return {
        (dataset, f"{bias} {test_set}", method): theirs
        for test_set in layout.test_sets
        for (dataset, bias, method), theirs in lookup(layout.published, test_set).items()
    }


def _printed_column(column: Column) -> tuple[str, str]:
    """Dataset and bias as published; a column of one of several test sets says which one with the bias."""
    dataset, bias = printed_column(column.dataset, column.bias)
    return dataset, f"{bias} {column.test_set}" if column.test_set else bias


def _smoke_places(points: pd.DataFrame) -> set[Place]:
    marked = points[points["smoke"]]
    return {(int(r), int(c)) for r, c in zip(marked["row"], marked["column"], strict=True)}


def _published_at(
    layout: Layout, known: dict[tuple[str, str, str], Published], place: Place
) -> Published | None:
    row, column = layout.rows[place[0]], layout.columns[place[1]]
    return known.get((*_printed_column(column), row.label))


def _cells(layout: Layout, texts: dict[Place, str], more: Mapping[str, Mapping[int, str]] = _NOTHING) -> str:
    """A Markdown table for each part of the layout; a cell without text is missing.

    ``more`` are lines below the planned ones: by their label and column.
    """
    tables = []
    for part in layout.parts:
        head = [part.dataset, *(layout.columns[c].text for c in part.columns)]
        body = [[layout.rows[r].text, *(texts.get((r, c), MISSING) for c in part.columns)] for r in part.rows]
        below = [
            [label, *(found.get(c, "") for c in part.columns)]
            for label, found in more.items()
            if found.keys() & set(part.columns)
        ]
        tables.append(grid([head, *body, *below]))
    return "\n\n".join(tables)
