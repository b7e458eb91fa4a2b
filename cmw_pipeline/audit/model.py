"""The classifier that an audit leaves: used by ``cmw predict`` and in anybody's program."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from cmw_pipeline.audit.features import View, frozen_network, read_pictures, resized, seen
from cmw_pipeline.audit.fit import Samples, probabilities
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.checkpoints import save_tensors
from cmw_pipeline.models import registry as models
from cmw_pipeline.types import Floats

FORMAT = 1
FOLDER, TENSORS, CARD = "model", "model.safetensors", "card.json"
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Classifier:
    """A trained classifier with all that is done to a sample before it."""

    network: nn.Module
    class_names: tuple[str, ...]
    view: View
    recipe: Recipe
    samples: Samples
    """Of no samples: the scale, or the mean and deviation of each channel."""
    features: tuple[str, ...] = ()
    """Names of the numbers of a vector, where they have any."""

    def probabilities(self, values: npt.NDArray[Any] | Sequence[str | Path]) -> Floats:
        """(n, K) of vectors, (n, D); of pictures, (n, H, W, C) uint8; or of image files.

        Raises:
            ConfigError: samples of another kind or length than it was trained on.
            IntegrityError: a file gives no picture.
        """
        seen = dataclasses.replace(self.samples, values=self._seen(values))
        return probabilities(self.network, seen, np.arange(len(seen.values)), self.recipe, _CPU)

    def predict(self, values: npt.NDArray[Any] | Sequence[str | Path]) -> list[str]:
        """The name of the likeliest class of each sample."""
        return [self.class_names[number] for number in self.probabilities(values).argmax(axis=1)]

    def _seen(self, values: npt.NDArray[Any] | Sequence[str | Path]) -> npt.NDArray[Any]:
        if self.view.kind == "vectors":
            vectors, length = np.asarray(values), self.samples.channels
            if vectors.ndim != 2 or vectors.shape[1] != length:
                raise ConfigError(f"samples of shape {vectors.shape}; expected (n, {length}) vectors")
            return vectors.astype(np.float32)
        if isinstance(values, np.ndarray):
            if values.ndim != 4 or values.dtype != np.uint8:
                what = f"{values.dtype} of shape {values.shape}"
                raise ConfigError(f"{what}; expected (n, H, W, C) uint8 pictures")
            pictures = resized(values, self.view.side)
        else:
            side = self.view.side or self.samples.values.shape[1]
            pictures = np.concatenate(list(read_pictures([Path(path) for path in values], side)))
        if self.view.kind == "pixels":
            return pictures if pictures.shape[3] == self.samples.channels else pictures[..., :1]
        network = frozen_network(self.view, _CPU)
        parts = np.array_split(pictures, max(len(pictures) // 64, 1))
        return np.concatenate(seen(network, parts, _CPU))


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write ``model.safetensors`` and ``card.json`` into a folder."""
    samples, scale = classifier.samples, classifier.samples.scale
    tensors = {f"network.{name}": tensor for name, tensor in classifier.network.state_dict().items()}
    if scale is not None:
        tensors["scale.mean"] = torch.from_numpy(scale.mean)
        tensors["scale.factor"] = torch.from_numpy(scale.factor)
    save_tensors(folder / TENSORS, tensors)
    card = {
        "format": FORMAT,
        "class_names": classifier.class_names,
        "view": dataclasses.asdict(classifier.view),
        "recipe": classifier.recipe.model_dump(mode="json"),
        "shape": samples.values.shape[1:],
        "mean": samples.mean,
        "std": samples.std,
        "features": classifier.features,
    }
    write_text(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def load_classifier(path: str | Path) -> Classifier:
    """Load the classifier of an audit.

    >>> model = load_classifier("audit")                # doctest: +SKIP
    >>> model.predict(["new/picture.jpg"])              # doctest: +SKIP

    Args:
        path: the folder that ``cmw audit`` made, or the ``model`` in it.

    Raises:
        IntegrityError: no such folder, or its files do not belong together.
    """
    folder = Path(path) / FOLDER if (Path(path) / FOLDER).is_dir() else Path(path)
    if not (folder / CARD).exists():
        hint = "give the folder that `cmw audit` made: audit/NAME"
        raise IntegrityError(f"{path}: not a classifier of an audit: no {CARD}", hint)
    try:
        card = json.loads(plain(folder / CARD).read_text(encoding="utf-8"))
        tensors = load_file(plain(folder / TENSORS))
        if card["format"] != FORMAT:
            raise IntegrityError(f"{folder / CARD}: format {card['format']}; this version reads {FORMAT}")
        return _rebuilt(card, tensors)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise IntegrityError(f"{folder}: not a classifier of an audit: {reason}") from None


def _rebuilt(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Classifier:
    recipe, names = Recipe.model_validate(card["recipe"]), tuple(card["class_names"])
    scale = None
    if "scale.mean" in tensors:
        scale = Scale(tensors["scale.mean"].numpy(), tensors["scale.factor"].numpy())
    dtype = np.uint8 if scale is None else np.float32
    samples = Samples(np.empty((0, *card["shape"]), dtype), tuple(card["mean"]), tuple(card["std"]), scale)
    network = models.build(recipe.network, samples.channels, len(names), 0)
    own = {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
    network.load_state_dict(own)
    features = tuple(card["features"])
    return Classifier(network.eval(), names, View(**card["view"]), recipe, samples, features)
