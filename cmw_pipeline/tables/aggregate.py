"""From tidy rows to the cells of a table: its layout, its means over seeds, its costs."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from cmw_pipeline.config.bias_names import BiasStep, format_bias, tail_of_the_unlabelled
from cmw_pipeline.config.contracts import TableRequest
from cmw_pipeline.config.schema import Score
from cmw_pipeline.metrics.aggregate import over_seeds
from cmw_pipeline.types import TEST

LAST, BEST = "last", "best"
ACCURACY = "accuracy"
Place = tuple[int, int]
"""(row, column) of a cell in the printed table."""


@dataclass(frozen=True)
class Row:
    """A row: a method. ``note`` tells rows of the same label apart; empty where nothing has to."""

    method: str
    label: str
    note: str

    @property
    def text(self) -> str:
        """What stands in the first column."""
        return f"{self.label} ({self.note})" if self.note else self.label


@dataclass(frozen=True)
class Column:
    """A column: a dataset under a bias, by its name and its steps."""

    dataset: str
    bias: str
    steps: tuple[BiasStep, ...]
    test_set: str = ""
    """What is measured where the dataset has several test sets: ``webvision_top1``."""

    @property
    def text(self) -> str:
        """The heading of the column, below its dataset."""
        return self.test_set.replace("_top", " top-") or self.bias

    @property
    def words(self) -> str:
        """The same in a sentence."""
        return self.text if self.test_set else bias_words(self.steps)


@dataclass(frozen=True)
class Part:
    """Columns of one dataset that have the same methods: a table, or a line of panels, of its own."""

    dataset: str
    columns: list[int]
    rows: list[int]


@dataclass(frozen=True)
class Layout:
    """Which cells a table has. ``places`` leads from (dataset, bias, method, recipe) to the cells.

    There is one cell, or one for each of ``test_sets``, in neighbouring columns.
    """

    title: str
    metric: str
    published: str | None
    seeds: list[int]
    rows: list[Row]
    columns: list[Column]
    places: dict[tuple[str, str, str, str], list[Place]]
    quoted: dict[str, str]
    """Rows of the published table that are shown without runs of ours -> why."""
    caption: str | None
    figure: str
    scores: Mapping[str, Mapping[Score, str]]
    """With the metric risk-coverage: method -> score to rank by -> its row."""

    test_sets: list[str]
    """SET_top1 or SET_top5 of each column of a run; empty: the test set as a whole."""

    @property
    def planned(self) -> dict[Place, None]:
        """Every planned cell, once, in grid order."""
        return dict.fromkeys(place for places in self.places.values() for place in places)

    @property
    def parts(self) -> list[Part]:
        """The layout without its empty cells, in grid order."""
        rows: dict[int, list[int]] = defaultdict(list)
        for row, place in sorted(self.planned):
            rows[place].append(row)
        columns: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
        for number, column in enumerate(self.columns):
            columns[column.dataset, tuple(rows[number])].append(number)
        return [Part(dataset, found, list(own)) for (dataset, own), found in columns.items()]

    @property
    def measured(self) -> str:
        """The metric in words."""
        return "accuracy of the averaged weights" if self.metric == "ema_accuracy" else self.metric


@dataclass(frozen=True)
class Summary:
    """One cell: mean, sample standard deviation and standard error of n seeds (NaN for one)."""

    n: int
    mean: float
    std: float
    standard_error: float


@dataclass(frozen=True)
class Cost:
    """What one run of a cell takes: mean seconds, largest peak memory, and where it ran."""

    seconds: float
    peak_mib: float
    devices: frozenset[str]


def layout_of(asked: TableRequest) -> Layout:
    """Lay out a planned table: a row a method and a column a dataset x bias, both in grid order."""
    steps = {format_bias(bias): bias for biases in asked.biases.values() for bias in biases}
    keys = [
        (block.dataset, format_bias(bias), method, block.recipe)
        for block in asked.grid
        for bias in asked.biases[block.biases]
        for method in block.methods
    ]
    notes = _row_notes(keys, asked.methods)
    rows: dict[Row, int] = {}
    columns: dict[Column, int] = {}
    places: dict[tuple[str, str, str, str], list[Place]] = {}
    for key in keys:
        dataset, bias, method, recipe = key
        row = Row(method, asked.methods[method], notes[method, recipe])
        line = rows.setdefault(row, len(rows))
        parts = [Column(dataset, bias, steps[bias], test_set) for test_set in asked.test_sets or [""]]
        places[key] = [(line, columns.setdefault(column, len(columns))) for column in parts]
    return Layout(
        title=asked.title,
        metric=asked.metric,
        published=asked.published,
        seeds=asked.seeds,
        rows=list(rows),
        columns=list(columns),
        places=places,
        quoted=asked.quoted,
        caption=asked.caption,
        figure=asked.figure,
        scores=asked.scores,
        test_sets=asked.test_sets,
    )


def _row_notes(keys: list[tuple[str, str, str, str]], labels: dict[str, str]) -> dict[tuple[str, str], str]:
    """By (method, recipe): the method where others have its label, the recipe where one column has two."""
    recipes: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for dataset, bias, method, recipe in keys:
        recipes[dataset, bias, method].add(recipe)
    several = {method for (_, _, method), names in recipes.items() if len(names) > 1}
    counts = Counter(labels.values())
    return {
        (method, recipe): ", ".join(
            ([method] if counts[labels[method]] > 1 else []) + ([recipe] if method in several else [])
        )
        for _, _, method, recipe in keys
    }


def placed(rows: pd.DataFrame, layout: Layout, protocol: str, metric: str | None = None) -> pd.DataFrame:
    """The test values of one protocol and metric, with their cell's ``row`` and ``column``.

    Without a metric, the table's. Runs record accuracies only; a table of errors is made of 100 - accuracy
    here, and nowhere else.
    """
    if metric is None:
        metric = layout.metric if layout.metric == "ema_accuracy" else ACCURACY
    wanted = [_measure(test_set, metric) for test_set in layout.test_sets] or [(TEST, metric)]
    measures = pd.Series(list(zip(rows["split"], rows["metric"], strict=True)), index=rows.index)
    chosen = rows[(rows["protocol"] == protocol) & measures.isin(wanted)].copy()
    keys = zip(chosen["dataset"], chosen["bias"], chosen["method"], chosen["recipe"], strict=True)
    parts = [wanted.index(measure) for measure in measures[chosen.index]]
    places = [layout.places[key][part] for key, part in zip(keys, parts, strict=True)]
    chosen["row"] = [row for row, _ in places]
    chosen["column"] = [column for _, column in places]
    if layout.metric == "error":
        chosen["value"] = 100.0 - chosen["value"]
    return chosen


def _measure(test_set: str, metric: str) -> tuple[str, str]:
    """Split and metric of a column: webvision_top5 -> webvision, top5_accuracy."""
    name, _, top = test_set.rpartition("_")
    return name, metric if top == "top1" else f"{top}_{metric}"


def summaries(points: pd.DataFrame) -> dict[Place, Summary]:
    """Mean and spread over seeds of each cell that has at least one run."""
    return {
        (int(cell["row"]), int(cell["column"])): Summary(
            int(cell["n"]), float(cell["mean"]), float(cell["std"]), float(cell["standard_error"])
        )
        for cell in over_seeds(points, ["row", "column"]).to_dict("records")
    }


def costs(points: pd.DataFrame) -> dict[Place, Cost]:
    """What one run of each cell takes."""
    groups = points.groupby(["row", "column"], sort=False)
    cells = groups.agg({"seconds": "mean", "peak_mib": "max", "device": frozenset}).reset_index()
    return {
        (int(cell["row"]), int(cell["column"])): Cost(cell["seconds"], cell["peak_mib"], cell["device"])
        for cell in cells.to_dict("records")
    }


def bias_words(steps: tuple[BiasStep, ...]) -> str:
    """Say a bias in words.

    >>> bias_words((BiasStep("lt", 50.0), BiasStep("sym", 0.2, "other")))
    'long tail, factor 50, then 20% symmetric label noise (other)'
    """
    words = [step.words for step in steps]
    if tail_of_the_unlabelled(steps):
        words[-1] += ", of the unlabelled"
    return ", then ".join(words) or "labels as given"
