"""How the fits of an audit are made: the method by its name, and a recipe that follows from the data."""

from typing import Any

from pydantic import TypeAdapter

from cmw_pipeline.audit.features import View
from cmw_pipeline.audit.fit import Samples
from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.errors import ConfigError

METHODS = ("cmw-net-sl", "cmw-net", "elr", "erm")
_META = {"meta_set": "lowest-10", "meta_every": 2, "weight_net": {"lr": 1e-3}}
_WIDE = 128
"""Vectors of fewer numbers are a table's, in which a linear layer sees too little."""
_EMA = 0.97


def method_options(method: str, epochs: int, batch_size: int) -> Options:
    """The options of a method; it starts after a sixth of the epochs.

    Raises:
        ConfigError: no such method.
    """
    if method not in METHODS:
        raise ConfigError(f"{method!r} is no method of an audit", f"choose one of {', '.join(METHODS)}")
    kind = {"cmw-net-sl": "soft-labels", "cmw-net": "erm"}.get(method, method)
    body: dict[str, Any] = {"kind": kind, "label": method, "start_epoch": max(1, epochs // 6)}
    if method.startswith("cmw-net"):
        body["weighting"] = {"kind": "cmw-net", "meta_batch": batch_size, **_META}
    if method in ("elr", "erm"):
        body["start_epoch"] = 0
    options: Options = TypeAdapter(Options).validate_python(body)
    return options


def recipe_for(view: View, samples: Samples, num_train: int) -> Recipe:
    """The recipe of what a view shows of so many samples."""
    pixels = view.kind == "pixels"
    body = settings(num_train, None if pixels else samples.channels)
    if pixels and samples.values.shape[1] >= 32:
        body["augment"] = {"pad": 4, "pad_mode": "reflect"}
    return Recipe.model_validate(body)


def settings(num_train: int, length: int | None) -> dict[str, Any]:
    """A recipe for vectors of so many numbers, or for pictures where there is no length.

    A linear layer on what a frozen network or an embedding gives, a hidden layer on a table's vectors; on
    pixels a small network is trained from scratch. Of few samples batches are smaller, so that there are
    steps enough in an epoch: five on pixels, of which many more would learn the wrong labels by heart, ten on
    vectors. Of very many samples batches are larger.
    """
    if length is None:
        network: dict[str, Any] = {"name": "small-cnn", "width": 32}
        rate, epochs, steps = 0.1, 30, 5
    else:
        network, rate = ({"name": "mlp"}, 0.2) if length < _WIDE else ({"name": "linear"}, 0.1)
        epochs, steps = 15, 10
    return {
        "network": network,
        "optimizer": {"lr": rate, "weight_decay": 5e-4},
        "schedule": {"name": "cosine"},
        "epochs": epochs,
        "batch_size": _batch_size(num_train, steps),
        "ema": _EMA,
    }


def _batch_size(num_train: int, steps: int) -> int:
    """For so many steps an epoch from 10 to 100, and up to 1000 of half a million samples."""
    few, many = min(max(num_train // steps, 10), 100), min(num_train // 500, 1000)
    return min(max(few, many), num_train)
