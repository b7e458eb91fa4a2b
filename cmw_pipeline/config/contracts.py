"""What each stage is asked and what it leaves: said here, once, for planning, stages, tables and docs.

A request is all that determines an artefact besides its inputs; the digest in its path is taken over it. What
a stage leaves is a folder of files, some of them tables with fixed columns. The manifest beside them is the
business of :mod:`cmw_pipeline.io.manifests`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from cmw_pipeline.config.audits import Audit
from cmw_pipeline.config.bias_names import BiasStep, format_bias, parse_bias
from cmw_pipeline.config.fields import Model, Seed
from cmw_pipeline.config.meta_names import MetaRule, parse_meta
from cmw_pipeline.config.methods import Method
from cmw_pipeline.config.pages import RECEIPT, AuditPage
from cmw_pipeline.config.pages import File as File
from cmw_pipeline.config.schema import Recipe, Table

# --- what is asked


def _steps(value: Any) -> Any:
    return parse_bias(value) if isinstance(value, str) else value


def _step(value: Any) -> Any:
    (step,) = _steps(value) if isinstance(value, str) else (value,)
    return step


def _rule(value: Any) -> Any:
    return parse_meta(value) if isinstance(value, str) else value


Bias = Annotated[tuple[BiasStep, ...], PlainValidator(_steps), PlainSerializer(format_bias)]
"""The steps of a bias; as text, its name."""
Step = Annotated[BiasStep, PlainValidator(_step), PlainSerializer(lambda step: step.name)]
"""A bias of one step."""
Rule = Annotated[MetaRule, PlainValidator(_rule), PlainSerializer(lambda rule: rule.name)]
"""How a meta-set is chosen; as text, its name."""


class Request(Model):
    """What is asked of a stage."""

    @property
    def whole(self) -> dict[str, Any]:
        """All that is asked, as plain values."""
        return self.model_dump(mode="json")

    @property
    def chosen(self) -> dict[str, Any]:
        """The same without options that have their defaults: what is added later changes no digest."""
        return self.model_dump(mode="json", exclude_defaults=True)


class DatasetRequest(Request):
    """A dataset as published: which one, and in which of its published forms.

    ``pictures`` is the version of how image files become pictures; None where there are none.
    """

    source: str
    form: str | None = None
    pictures: int | None = None


class LabelFileRequest(Request):
    """Labels for a dataset: those that a step of a bias names."""

    source: str
    labels: Step


class PretrainedRequest(Request):
    """Published weights of a network."""

    pretrained: str


class BiasRequest(Request):
    """Labels of a dataset bent by a bias."""

    source: str
    bias: Bias
    seed: Seed


class MetaSetRequest(Request):
    """Trustworthy samples of biased labels."""

    rule: Rule
    seed: Seed


class TrainRequest(Request):
    """A trained classifier; the method's label and ``where`` have done their part and are left out."""

    source: str
    method: Method
    recipe: Recipe
    seed: Seed


class ExportRequest(Request):
    """The weighting function of a run: there is nothing to choose."""


class TableRequest(Table, Request):
    """A table, with what its names stand for."""

    methods: dict[str, str]
    """Method -> its row's label."""
    biases: dict[str, list[Bias]]
    seeds: list[Seed]


class AuditRequest(Audit, Request):
    """An audit, with the source of its dataset."""

    source: str


# --- what is left


class Raw:
    """A dataset: its labels beside its images, or beside a list of image files that stay where they are."""

    IMAGES = File("images.npy", "pixels, (N, H, W, C) uint8; not of image files")
    LABELS = File(
        "labels.parquet",
        "one row an image, in the order of the images; `split` is train, test or unused",
        {"index": "int32", "label": "int16", "split": "string"},
    )
    FILES = File(
        "files.parquet",
        "of image files: path below the dataset's folder; `test_set` is empty for training",
        {"index": "int32", "path": "string", "bytes": "int64", "crc32": "int64", "test_set": "string"},
    )
    VECTORS = File("vectors.npy", "of vectors of one's own, in place of images: (N, D) float32, as they came")
    SCALE = File("scale.npy", "(2, D) float32: mean and factor that bring the training vectors to one length")
    FOLDER = File("folder.json", "of image files: their folder, and whether `cmw import` listed them")
    MARKS = File(
        "marks.parquet",
        "of data of one's own: whether a person vouches for the label, the clean label (missing where it is"
        " not known), what must not be divided, and the sample's own name",
        {"index": "int32", "trusted": "bool", "clean_label": "int16", "group": "string", "name": "string"},
    )
    FAULTS = File(
        "faults.parquet",
        "image files that give no picture and are left out, or were converted to RGB",
        {"path": "string", "split": "string", "fault": "string", "left_out": "bool"},
    )


class LabelFile:
    """Labels that a bias names."""

    LABELS = File(
        "labels.parquet",
        "`index` counts training samples; `clean_label` is -1 where the file does not hold it",
        {"index": "int32", "label": "int16", "clean_label": "int16"},
    )


class Pretrained:
    """Published weights."""

    WEIGHTS = File("weights.safetensors", "of the network's trunk")


class Biased:
    """A biased label table."""

    LABELS = File(
        "labels.parquet",
        "the rows of the raw table; `unused` ones are not trained on; `clean_label` is missing where it is"
        " not known",
        {
            "index": "int32",
            "label": "int16",
            "clean_label": "int16",
            "split": "string",
            "is_flipped": "bool",
        },
    )
    CANDIDATES = File("candidates.npy", "(N, K) bool, where labels are hidden among candidates")


class MetaSet:
    """The trustworthy samples, which are not trained on; none where training picks its own."""

    SAMPLES = File("metaset.parquet", "the held-out samples", {"index": "int32", "label": "int16"})


class Run:
    """A trained classifier."""

    MODEL = File("model.safetensors", "the network after the last epoch")
    TEACHER = File("teacher.safetensors", "its moving average, where the recipe has one")
    METHOD = File("method.safetensors", "what the method learned and remembers")
    POSTERIOR = File(
        "posterior.npy", "of a noise teacher: (N, K) probabilities of the training samples, in raw order"
    )
    EPOCHS = File(
        "epochs.csv",
        "rate, training loss and test accuracy of each epoch, counted from 0, where logs and rows count from"
        " 1; no accuracy where not evaluated",
    )
    ROWS = File(
        "rows.parquet",
        "one row is one number; `protocol` is last, or best (on test); `epoch` counts from 1",
        {
            "protocol": "string",
            "split": "string",
            "metric": "string",
            "value": "float64",
            "epoch": "int32",
        },
    )
    SAMPLES = File(
        "samples.parquet",
        "loss and weight of each training sample under the final model",
        {"index": "int32", "label": "int16", "loss": "float32", "weight": "float32"},
    )
    PREDICTIONS = File(
        "predictions.parquet",
        "each test sample, with three scores of how sure it is; the last is missing without dropout",
        {
            "index": "int32",
            "label": "int16",
            "prediction": "int16",
            "confidence": "float64",
            "softmax_response": "float64",
            "mc_dropout": "float64",
        },
    )


class Weighting:
    """A weighting function."""

    TENSORS = File("weighting.safetensors", "the weight net")
    CARD = File("card.json", "its shape, the class groups it was learned with, where it comes from")
    CURVE = File("curve.csv", "its weights over losses, a column a class group")
    FIGURE = File("weighting.png", "the same, beside the weights that right and wrong labels got")


class Page:
    """A table: endings of ``results/NAME``."""

    PAGE = File(".md", "the table")
    ROWS = File(
        ".parquet",
        "the rows of all its runs; `verified` is false where raw data are not the published ones; `smoke`"
        " marks a recipe too short to compare",
        {
            "table": "string",
            "run": "string",
            "dataset": "string",
            "bias": "string",
            "method": "string",
            "recipe": "string",
            "seed": "int32",
            **Run.ROWS.columns,
            "seconds": "float64",
            "evaluation_seconds": "float64",
            "peak_mib": "float64",
            "device": "string",
            "precision": "string",
            "torch": "string",
            "verified": "bool",
            "smoke": "bool",
        },
    )
    FIGURE = File(".png", "its figure")
    RECEIPT = File(RECEIPT, "what it was rendered from, written last")


GIVES: Mapping[str, Mapping[type[Request], type]] = {
    "download": {DatasetRequest: Raw, LabelFileRequest: LabelFile, PretrainedRequest: Pretrained},
    "inject": {BiasRequest: Biased},
    "metaset": {MetaSetRequest: MetaSet},
    "train": {TrainRequest: Run},
    "export": {ExportRequest: Weighting},
    "transfer": {TrainRequest: Run},
    "table": {TableRequest: Page},
    "audit": {AuditRequest: AuditPage},
}
"""Stage -> what may be asked of it, each with what it then leaves."""
ASIDE = frozenset({Raw.FOLDER.name, Raw.FAULTS.name})
"""Files that tell of the making: they are no part of a result."""
