"""The weighting function by itself: learned in one run, used in anybody's training loop.

On disk: ``weighting.safetensors`` (the weight net) and ``card.json`` (its shape, the class groups it was
learned with, how its weights are normalised, where it comes from).
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from cmw_pipeline.config.contracts import Run, Weighting
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.errors import ConfigError, IntegrityError, NumericsError
from cmw_pipeline.io.atomic import write_text
from cmw_pipeline.io.checkpoints import read_state_dict, save_tensors
from cmw_pipeline.meta.class_groups import group_classes
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weights import Weights

FORMAT = 1
_PUBLISHED_HEADS = {"small": 1, "moderate": 2, "large": 0}
"""Number of each group's head in the published state dict, whose keys are spelt as below."""


class WeightingFunction(nn.Module):
    """A frozen function from (sample loss, given label) to sample weight.

    Losses above the largest one it was learned on are clamped to it; ``clamped`` counts them.
    """

    def __init__(self, net: WeightNet, class_groups: npt.ArrayLike | None, card: dict[str, Any]) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.card = card
        self.clamped: torch.Tensor = nn.Buffer(torch.zeros((), dtype=torch.int64))
        groups = np.empty(0) if class_groups is None else np.asarray(class_groups)
        self.groups = nn.Buffer(torch.from_numpy(groups.astype(np.int64)))

    def for_classes(self, counts: npt.ArrayLike | torch.Tensor) -> "WeightingFunction":
        """The same function for another dataset, whose classes are grouped by their own sizes.

        Args:
            counts: (C,) training samples of each class of that dataset, by given label.

        Raises:
            ConfigError: not one whole number >= 0 for each class, or no sample at all.
        """
        groups = group_classes(counts, self.net.num_groups)
        return WeightingFunction(self.net, groups, self.card)

    def forward(self, loss: torch.Tensor, label: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
        """(B,) losses of any float dtype, (B,) given labels of any integer dtype -> (B,) weights.

        They are in (0, 1), with bounded levels above 0, have the losses' dtype and no gradient; they are
        computed in the dtype of the function.

        Raises:
            NumericsError: a loss is not a number, or infinite where there is no largest loss to clamp it to.
            ConfigError: other shapes or dtypes, no class groups yet, or a label outside them.
        """
        if len(self.groups) == 0:
            raise ConfigError(
                "this weighting function has no class groups",
                "call .for_classes(counts) with the class counts of your training set first",
            )
        number = _class_numbers(loss, label).to(self.groups.device)
        if not bool(torch.isfinite(torch.minimum(loss.to(self.net.loss_max), self.net.loss_max)).all()):
            raise NumericsError("a sample loss is NaN or infinite; it has no weight")
        foreign = number[(number < 0) | (number >= len(self.groups))]
        if len(foreign):
            raise ConfigError(
                f"label {int(foreign[0])} given to a weighting function of {len(self.groups)} classes",
                "call .for_classes(counts) with the class counts of your training set first",
            )
        return self.weigh(loss, self.groups[number])

    def mean(self, losses: torch.Tensor, labels: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
        """The weighted mean of (B,) losses of (B,) given labels, normalised as when the function was learned.

        Raises:
            ConfigError: it is not on record how, as of the function published with CMW-Net; or as for a call.
        """
        normalisation = self.card.get("normalisation")
        if normalisation not in ("mean", "sum"):
            raise ConfigError(
                "it is not on record how this function's weights were normalised",
                "(weigh(loss, label) * loss).mean(), or .sum() over the sum of the weights, is your choice",
            )
        return Weights(self(losses.detach(), labels), normalisation).mean(losses)

    @torch.no_grad()
    def weigh(self, loss: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
        """(B,) losses and (B,) int64 class groups -> (B,) weights of the losses' dtype."""
        largest = self.net.loss_max
        own = loss.to(largest)
        self.clamped += (own > largest).sum()
        with torch.autocast(own.device.type, enabled=False):
            weights: torch.Tensor = self.net(torch.minimum(own, largest), group)
        return weights.to(loss.dtype)

    def train(self, mode: bool = True) -> "WeightingFunction":
        """Stays in evaluation mode whatever module it is part of: a frozen function learns nothing."""
        return super().train(False)

    def curves(self, losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(L,) losses -> (K, L) weights, one curve a class group, unclamped."""
        grid = torch.as_tensor(losses, dtype=torch.float32, device=self.groups.device)
        with torch.no_grad():
            rows = [
                self.net(grid, torch.full_like(grid, group, dtype=torch.int64))
                for group in range(self.net.num_groups)
            ]
        curves: npt.NDArray[np.float64] = torch.stack(rows).double().cpu().numpy()
        return curves


def _class_numbers(loss: torch.Tensor, label: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
    """The labels as int64, if they and the losses are one number each a sample."""
    if not isinstance(loss, torch.Tensor) or loss.ndim != 1 or not loss.is_floating_point():
        found = f"{loss.dtype} of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss)
        raise ConfigError(
            f"sample losses are {found}; expected a tensor of floats of shape (B,), one a sample",
            'compute them with reduction="none"',
        )
    try:
        number = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"labels are not class numbers: {error}") from None
    integers = not (number.is_floating_point() or number.is_complex() or number.dtype == torch.bool)
    if number.shape != loss.shape or not (integers or number.numel() == 0):
        found = f"{number.dtype} of shape {tuple(number.shape)}"
        raise ConfigError(f"labels are {found}; expected integers of shape {tuple(loss.shape)}, one a sample")
    return number.long()


def group_names(num_groups: int) -> list[str]:
    """How the class groups are called, smallest first.

    >>> group_names(3)
    ['small', 'moderate', 'large']
    """
    named = {1: ["all classes"], 2: ["small", "large"], 3: ["small", "moderate", "large"]}
    return named.get(num_groups, [f"size group {k + 1} of {num_groups}" for k in range(num_groups)])


def save_weighting(
    folder: Path,
    net: WeightNet,
    class_groups: npt.ArrayLike,
    source: dict[str, Any],
    normalisation: str = "mean",
    loss: str = "cross-entropy",
) -> None:
    """Write a weighting function into a folder; ``source`` says where it was learned.

    ``normalisation`` is that of the weighting it was learned as, mean or sum; ``loss`` what its argument is.
    """
    save_tensors(folder / Weighting.TENSORS, net.state_dict())
    card = {
        "format": FORMAT,
        "input": f"{loss} of the given label, unscaled; class group of the given label",
        "hidden": net.trunk.out_features,
        "groups": group_names(net.num_groups),
        "class_groups": np.asarray(class_groups).tolist(),
        "normalisation": normalisation,
        "source": source,
    }
    write_text(folder / Weighting.CARD, json.dumps(card, indent=1, sort_keys=True) + "\n")


def load_weighting(path: str | Path) -> WeightingFunction:
    """Load an exported weighting function, or the state dict published with CMW-Net.

    >>> weigh = load_weighting("results/export/...")             # doctest: +SKIP
    >>> loss = F.cross_entropy(model(x), y, reduction="none")    # doctest: +SKIP
    >>> weigh.mean(loss, y).backward()                           # doctest: +SKIP

    Args:
        path: the folder that ``cmw export`` made, or a ``.pth`` file of the published form; the latter
            knows no class groups: call ``.for_classes(counts)``.

    Raises:
        IntegrityError: missing files, a card that does not fit the tensors, or a file with code in it.
    """
    path = Path(path)
    if path.is_file():
        return _load_published(path)
    try:
        card = json.loads(plain(path / Weighting.CARD).read_text())
        tensors = load_file(plain(path / Weighting.TENSORS))
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        run = (
            "this is a run: `cmw export NAME` writes its function" if (path / Run.METHOD).is_file() else None
        )
        raise IntegrityError(f"{path}: not an exported weighting function: {error}", run) from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise IntegrityError(f"{path / Weighting.CARD}: not a card of format {FORMAT}")
    net = _net(tensors, path)
    named, groups = card.get("groups"), card.get("class_groups")
    if not isinstance(named, list) or len(named) != net.num_groups:
        raise IntegrityError(f"{path / Weighting.CARD}: groups {named} do not fit {net.num_groups} heads")
    if not isinstance(groups, list) or not all(g in range(net.num_groups) for g in groups):
        raise IntegrityError(
            f"{path / Weighting.CARD}: class_groups {groups} do not fit {net.num_groups} heads"
        )
    return WeightingFunction(net, groups, card)


def _net(tensors: dict[str, torch.Tensor], path: Path) -> WeightNet:
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    hidden, heads = (math.prod(shapes.get(name, (0,))) for name in ("trunk.bias", "heads.bias"))
    wanted = {
        "trunk.weight": (hidden, 1),
        "trunk.bias": (hidden,),
        "heads.weight": (heads, hidden),
        "heads.bias": (heads,),
        "loss_max": (),
    } | ({"level": (heads,)} if "level" in shapes else {})
    if shapes != wanted or not hidden or not heads:
        raise IntegrityError(f"{path}: tensors {shapes} are not those of a weight net")
    if any(bool(t.isnan().any()) for t in tensors.values()):
        raise IntegrityError(f"{path}: a tensor of the weight net has NaN in it")
    net = WeightNet(hidden, heads, "level" in tensors)
    net.load_state_dict(tensors)
    return net


def _load_published(path: Path) -> WeightingFunction:
    state = read_state_dict(path)
    heads = [f"classfier.layers.{k}.0" for k in _PUBLISHED_HEADS.values()]
    try:
        tensors = {
            "trunk.weight": state["feature.layer.0.weight"],
            "trunk.bias": state["feature.layer.0.bias"],
            "heads.weight": torch.cat([state[f"{head}.weight"] for head in heads]),
            "heads.bias": torch.cat([state[f"{head}.bias"] for head in heads]),
            "loss_max": torch.tensor(torch.inf),
        }
    except (KeyError, RuntimeError) as error:
        raise IntegrityError(f"{path}: not the published weight net: {error}") from None
    card = {"format": FORMAT, "groups": list(_PUBLISHED_HEADS), "source": {"file": path.name}}
    return WeightingFunction(_net(tensors, path), None, card)
