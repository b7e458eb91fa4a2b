"""Tables of selective classification: the error among the surest predictions, and its area."""

from dataclasses import dataclass

import pandas as pd

from cmw_pipeline.config.contracts import Run
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.metrics.selective import COVERAGES, CURVE, aurc, selective_error
from cmw_pipeline.tables.aggregate import LAST, Layout, Place, Summary, bias_words, placed, summaries
from cmw_pipeline.tables.markdown import MISSING, grid, value, winners
from cmw_pipeline.types import TEST

SCORES = ("confidence", "softmax_response", "mc_dropout")
RISK_NOTE = (
    "Test error in percent of the surest share, the coverage, of the test samples, after the last epoch."
    " AURC: the area under the risk-coverage curve, its mean over all coverages, in percent"
)
_AREA = "AURC"


@dataclass(frozen=True)
class Line:
    """A row of the table: a method, and the score that ranks its predictions."""

    row: int
    score: str
    text: str


def risk_rows(predictions: pd.DataFrame, epoch: int) -> pd.DataFrame:
    """A run's selective errors and areas as tidy rows (``Run.ROWS``).

    Args:
        predictions: of every test sample (``Run.PREDICTIONS``).
        epoch: that the predictions were made after.

    Returns:
        For each score that the run has, a row a coverage, of the metric ``SCORE:error@PERCENT``, and
        ``SCORE:AURC``; in percent.
    """
    wrong = (predictions["prediction"] != predictions["label"]).to_numpy()
    rows = []
    for score in SCORES:
        sure = predictions[score].to_numpy(dtype="float64")
        if predictions[score].notna().any():
            found = {_error_at(c): selective_error(wrong, sure, c) for c in CURVE} | {
                _AREA: aurc(wrong, sure)
            }
            rows += [(LAST, TEST, f"{score}:{name}", number, epoch) for name, number in found.items()]
    return pd.DataFrame(rows, columns=list(Run.ROWS.columns))


def lines(layout: Layout) -> list[Line]:
    """The rows: each method by its own confidence, or by the scores that the table asks for."""
    return [
        Line(row, score, text)
        for row, method in enumerate(layout.rows)
        for score, text in layout.scores.get(method.method, {"confidence": method.text}).items()
    ]


def risk_sections(layout: Layout, rows: pd.DataFrame) -> list[str]:
    """A table for each column of the layout: the lines at each coverage, and their areas."""
    heads = [*(_error_at(coverage) for coverage in COVERAGES), _AREA]
    blocks = []
    for number, column in enumerate(layout.columns):
        cells = _cells(layout, rows, number, heads)
        best = winners(cells, smallest=True)
        body = [
            [
                line.text,
                *(
                    value(cells[n, c], (n, c) in best, len(layout.seeds)) if (n, c) in cells else MISSING
                    for c in range(len(heads))
                ),
            ]
            for n, line in enumerate(lines(layout))
            if (line.row, number) in layout.planned
        ]
        head = [column.dataset, *(f"{100 * coverage:g}%" for coverage in COVERAGES), _AREA]
        blocks += [f"## {column.dataset}, {column.text}: {bias_words(column.steps)}", grid([head, *body])]
    return blocks


def curves(layout: Layout, rows: pd.DataFrame) -> pd.DataFrame:
    """The figure's points: ``column`` of the layout, ``method``, ``seed``, ``coverage`` and ``value``."""
    parts = []
    for line in lines(layout):
        for coverage in CURVE:
            points = placed(rows, layout, LAST, f"{line.score}:{_error_at(coverage)}")
            points = points[points["row"] == line.row]
            parts.append(
                points[["column", "seed", "value"]].assign(method=line.text, coverage=100 * coverage)
            )
    return pd.concat(parts, ignore_index=True)


def _cells(layout: Layout, rows: pd.DataFrame, column: int, heads: list[str]) -> dict[Place, Summary]:
    """By (line, head), of one column of the layout."""
    cells = {}
    for place, head in enumerate(heads):
        for number, line in enumerate(lines(layout)):
            points = placed(rows, layout, LAST, f"{line.score}:{head}")
            for at, summary in summaries(points[points["row"] == line.row]).items():
                if at[1] == column:
                    cells[number, place] = summary
    return cells


def check_scores(layout: Layout, rows: pd.DataFrame) -> None:
    """See that the runs that are there have the scores that the table asks for.

    Raises:
        ConfigError: one has not: its network has no dropout.
    """
    for line in lines(layout):
        method = layout.rows[line.row].method
        of = rows[rows["method"] == method]
        if len(of) and not of["metric"].str.startswith(f"{line.score}:").any():
            recipes = ", ".join(of["recipe"].unique())
            raise ConfigError(
                f"{layout.title!r}: {method} has no {line.score}: the network of {recipes} has no dropout",
                f"take {line.score} out of the table's scores, or choose vgg16-bn or small-vgg",
            )


def _error_at(coverage: float) -> str:
    return f"error@{100 * coverage:g}"
