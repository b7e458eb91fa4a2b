"""The plan: which artefacts there are, where each one lies, and what it is made from.

An artefact's path is a pure function of everything that determines its content: a readable name, and a
digest over its stage's version, its own parameters and its inputs' digests.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cmw_pipeline.config.artefact import MANIFEST, RESULTS, Artefact
from cmw_pipeline.config.audits import Audit
from cmw_pipeline.config.bias_names import BiasStep, parse_bias
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.contracts import (
    AuditRequest,
    BiasRequest,
    DatasetRequest,
    ExportRequest,
    LabelFileRequest,
    MetaSetRequest,
    PretrainedRequest,
    TableRequest,
    TrainRequest,
)
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.meta_names import parse_meta
from cmw_pipeline.config.methods import Method
from cmw_pipeline.config.nearest import nearest
from cmw_pipeline.config.pages import RECEIPT
from cmw_pipeline.config.pretrained import PRETRAINED
from cmw_pipeline.config.schema import Dataset, Params, Table
from cmw_pipeline.config.weightings import Frozen, MetaLearned, NetWeighting
from cmw_pipeline.errors import ConfigError

_PATH = re.compile(r"(?P<stage>[a-z]+)/(?P<name>.+)-(?P<digest>[0-9a-f]{10})")


class Plan:
    """Turns names into artefacts, under one set of parameters."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self._starting: list[Cell] = []
        self._at = functools.cache(lambda method, *cell: self._get("methods", method).at(*cell))

    # --- names -> artefacts, one method a stage

    def download(self, name: str) -> Artefact[Any]:
        """``dataset``: its images and labels as published; ``dataset/step``: the label file of a bias.

        ``pretrained/network``: published weights.
        """
        kind, _, rest = name.partition("/")
        if kind == "pretrained" and rest in PRETRAINED:
            return Artefact("download", name, PretrainedRequest(pretrained=rest))
        if "/" in name:
            return self._label_file(*_split(name, 2, "dataset/label-file"))
        dataset: Dataset = self._get("datasets", name)
        request = DatasetRequest(source=dataset.source, form=dataset.form, **FACTS[dataset.source].read_as)
        return Artefact("download", name, request)

    def _label_file(self, dataset: str, bias: str) -> Artefact[LabelFileRequest]:
        """The labels of a bias of one step: ``plc:type1-0.35``, ``human-worst``, ``file-DIGEST``."""
        name, source = f"{dataset}/{bias}", self._get("datasets", dataset).source
        steps = _parsed(name, bias, source)
        if len(steps) != 1 or steps[0].reads != "labels":
            raise ConfigError(f"{name}: {bias!r} is no label file", "write plc:typeN-LEVEL or human-WHICH")
        return Artefact("download", name, LabelFileRequest(source=source, labels=steps[0]))

    def inject(self, name: str) -> Artefact[BiasRequest]:
        """``dataset/bias``: the biased label table."""
        dataset, bias = _split(name, 2, "dataset/bias")
        inputs = {"raw": self.download(dataset)}
        source = self._get("datasets", dataset).source
        steps = _parsed(name, bias, source)
        for step in steps:
            if step.reads == "labels":
                inputs["labels"] = self._label_file(dataset, step.name)
            if step.reads == "teacher":
                inputs["teacher"] = self._teacher(dataset, name)
        request = BiasRequest(source=source, bias=steps, seed=self.params.bias_seed)
        return Artefact("inject", name, request, inputs)

    def _teacher(self, dataset: str, name: str) -> Artefact[TrainRequest]:
        """The run whose posterior makes the feature-dependent noise of a dataset: all settings share it."""
        teacher = self._get("datasets", dataset).teacher
        if teacher is None or teacher.recipe is None:
            hint = f"give datasets.{dataset}.teacher a method (kind noise-teacher) and a recipe"
            raise ConfigError(f"{name}: the dataset has no teacher", hint)
        bias, seed = teacher.bias or "none", self.params.bias_seed
        return self.train(Cell(dataset, bias, teacher.method, teacher.recipe, seed).name)

    def metaset(self, name: str) -> Artefact[MetaSetRequest]:
        """``dataset/bias/rule``: the trustworthy samples, or the rule by which training picks them."""
        dataset, bias, asked = _split(name, 3, "dataset/bias/meta-set")
        try:
            rule = parse_meta(asked)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        request = MetaSetRequest(rule=rule, seed=self.params.bias_seed)
        return Artefact("metaset", name, request, {"biased": self.inject(f"{dataset}/{bias}")})

    def train(self, name: str) -> Artefact[TrainRequest]:
        """``dataset/bias/method/recipe/seedN``: one trained classifier with its rows."""
        return self._training("train", name)

    def transfer(self, name: str) -> Artefact[TrainRequest]:
        """The same for a method that uses a frozen weighting function."""
        return self._training("transfer", name)

    def export(self, name: str) -> Artefact[ExportRequest]:
        """The weighting function that the run of this name learned."""
        cell = Cell.parse(name)
        if not isinstance(self.options(cell).weighting, NetWeighting):
            raise ConfigError(f"{name}: {cell.method!r} learns no weighting function to export")
        run = self.train(name)
        return Artefact("export", name, ExportRequest(), {"run": run, "biased": run.inputs["biased"]})

    def table(self, name: str) -> Artefact[TableRequest]:
        """The finished table of this name, made from the rows of all its cells."""
        table: Table = self._get("tables", name)
        runs = {f"run:{cell.name}": self.run(cell) for cell in self.cells(name)}
        drawn = [*table.weighting_figures, table.beside_published_weighting]
        figures = {f"weighting:{run}": self.export(run) for run in drawn if run}
        methods = {method for block in table.grid for method in block.methods}
        named = {
            "methods": {method: self._get("methods", method).label or method for method in methods},
            "biases": {block.biases: self.params.biases[block.biases] for block in table.grid},
            "seeds": table.seeds or self.params.seeds,
        }
        return Artefact("table", name, TableRequest.model_validate(dict(table) | named), runs | figures)

    def audit(self, name: str) -> Artefact[AuditRequest]:
        """The audit of this name: the labels that a bias made, or those that a dataset has."""
        asked: Audit = self._get("audits", name)
        dataset, _, bias = asked.data.partition("/")
        inputs: dict[str, Artefact[Any]] = {"raw": self.download(dataset)}
        if bias:
            inputs["biased"] = self.inject(asked.data)
        request = AuditRequest(source=self._get("datasets", dataset).source, **dict(asked))
        return Artefact("audit", f"audit/{name}", request, inputs)

    # --- the grid

    def cells(self, table: str) -> list[Cell]:
        """The cells of a table, in the order of its rows and columns."""
        asked: Table = self._get("tables", table)
        return [
            Cell(block.dataset, bias, method, block.recipe, seed)
            for block in asked.grid
            for bias in self.params.biases[block.biases]
            for method in block.methods
            for seed in asked.seeds or self.params.seeds
        ]

    def run(self, cell: Cell) -> Artefact[TrainRequest]:
        """The artefact that holds a cell's rows."""
        transfers = isinstance(self.options(cell).weighting, Frozen)
        return self.transfer(cell.name) if transfers else self.train(cell.name)

    def artefacts(self, tables: list[str] | None = None) -> dict[str, Artefact[Any]]:
        """Everything the tables need, by path; inputs before what is made from them.

        Without a list, these are the tables of ``build`` and all audits.
        """
        if tables is None:
            return _found([*map(self.table, self.params.build), *map(self.audit, self.params.audits)])
        return _found(map(self.table, tables))

    def everything(self) -> dict[str, Artefact[Any]]:
        """The same of every table and every audit of the parameters."""
        return self.artefacts(list(self.params.tables)) | self.artefacts()

    def resolve(self, stage: str, text: str) -> Artefact[Any]:
        """The artefact of a stage that a name, a path, or a manifest's path stands for.

        Raises:
            ConfigError: no such name under these parameters, or the digest in the path is another one.
        """
        text = text.removesuffix("/" + MANIFEST).removesuffix(RECEIPT).removeprefix(RESULTS + "/")
        match = _PATH.fullmatch(text)
        plan: Callable[[str], Artefact[Any]] = getattr(self, stage)
        if match is None:
            return plan(text)
        if match["stage"] != stage:
            raise ConfigError(f"{text}: made by `cmw {match['stage']}`, not by `cmw {stage}`")
        artefact = plan(match["name"])
        if artefact.digest != match["digest"]:
            raise ConfigError(
                f"{text}: the parameters now plan {artefact.path}",
                "the parameters were edited after this path was planned; plan again",
            )
        return artefact

    def options(self, cell: Cell) -> Method:
        """The cell's method with the options it has in that cell."""
        options: Method = self._at(cell.method, cell.dataset, cell.bias)
        return options

    def _training(self, stage: str, name: str) -> Artefact[TrainRequest]:
        cell = Cell.parse(name)
        method, recipe = self.options(cell), self._get("recipes", cell.recipe)
        right = "transfer" if isinstance(weighting := method.weighting, Frozen) else "train"
        if right != stage:
            raise ConfigError(
                f"{name}: {cell.method!r} is made by `cmw {right}`, not by `cmw {stage}`",
                f"`cmw {right} {name}`",
            )
        biased = self.inject(f"{cell.dataset}/{cell.bias}")
        inputs: dict[str, Artefact[Any]] = {"raw": biased.inputs["raw"], "biased": biased}
        if isinstance(weighting, MetaLearned):
            inputs["metaset"] = self.metaset(f"{cell.dataset}/{cell.bias}/{weighting.meta_set}")
        if isinstance(weighting, Frozen):
            inputs["weighting"] = self.export(weighting.run)
        for role in ("first", "labels_from"):
            if first := getattr(method, role, None):
                inputs[role] = self._first(cell, first.of(cell))
        if recipe.network.pretrained:
            inputs["pretrained"] = self.download(f"pretrained/{recipe.network.name}")
        if recipe.start_from:
            inputs["start"] = self._first(cell, cell.under(recipe.start_from))
        request = TrainRequest(
            source=self._get("datasets", cell.dataset).source,
            method=method.model_copy(update={"label": None}),  # a row's heading trains nothing
            recipe=recipe,
            seed=cell.seed,
        )
        return Artefact(stage, name, request, inputs)

    def _first(self, cell: Cell, first: Cell) -> Artefact[TrainRequest]:
        """The run that a cell starts from, which starts from no run that starts from it."""
        if first in (*self._starting, cell):
            hint = "change `first` or `labels_from` of a method, or `start_from` of a recipe"
            raise ConfigError(f"{first.name}: this run starts from itself", hint)
        self._starting.append(cell)
        try:
            return self.run(first)
        finally:
            self._starting.pop()

    def _get(self, section: str, name: str) -> Any:
        known = getattr(self.params, section)
        if name not in known:
            raise ConfigError(f"{name!r} is not in the section {section}{nearest(name, list(known))}")
        return known[name]


def _parsed(name: str, bias: str, source: str) -> tuple[BiasStep, ...]:
    try:
        steps = parse_bias(bias)
        FACTS[source].check(steps)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{name}: {error.args[0]}") from None
    return steps


def _split(name: str, count: int, form: str) -> list[str]:
    parts = name.split("/")
    if len(parts) != count or not all(parts):
        raise ConfigError(f"{name!r} is not of the form {form}")
    return parts


def _found(pages: Iterable[Artefact[Any]]) -> dict[str, Artefact[Any]]:
    found: dict[str, Artefact[Any]] = {}
    for page in pages:
        for artefact in _walk(page):
            found.setdefault(str(artefact.path), artefact)
    return found


def _walk(artefact: Artefact[Any]) -> Iterator[Artefact[Any]]:
    for source in artefact.inputs.values():
        yield from _walk(source)
    yield artefact
