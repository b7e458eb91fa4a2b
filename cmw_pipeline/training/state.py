"""Everything that changes during training, and its exact way to disk and back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
from torch import nn

from cmw_pipeline.methods.base import Method
from cmw_pipeline.runtime.rng import RngState
from cmw_pipeline.training.ema import Teacher
from cmw_pipeline.training.optim import Optimizer
from cmw_pipeline.training.parallel import Shared

Tensors = dict[str, torch.Tensor]


class Record(TypedDict):
    """What is recorded of a finished epoch, fit for JSON."""

    epoch: int
    """From 0."""
    lr: float
    train_loss: float
    evaluation_seconds: float
    scores: dict[str, dict[str, float]]
    """Part of the test samples -> metric -> value, in percent; ``test`` is all of them, or the first part.
    Empty where the recipe passes over this epoch.
    """


class Observer(nn.Module):
    """Sees what the network says of the training set; its buffers are kept for a resume."""

    def after_epoch(self, predictions: Callable[[], torch.Tensor]) -> None:
        """Called after each epoch; ``predictions`` gives (N, K) logits of the training set, unaugmented."""


@dataclass
class TrainState:
    """A run in progress. Order and augmentation are functions of (seed, epoch) and not in here."""

    model: nn.Module
    method: Method
    optimizer: Optimizer
    teacher: Teacher | None
    device: torch.device
    meta_rows: torch.Tensor
    """(M,) int64 rows of this epoch's meta-set."""
    loss_sum: torch.Tensor
    """Scalar float64: sum of this epoch's training losses so far."""
    shared_model: Shared | None = None
    """The model as it trains on several processes; None for one."""
    shared_teacher: Shared | None = None
    """The teacher as it is asked on several processes; None for one."""
    observer: Observer | None = None
    """Sees the run after each epoch; what it remembers is part of every checkpoint."""
    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    iteration: int = 0
    """Steps done in all."""
    spent: float = 0.0
    """Seconds of training that a checkpoint holds, over all processes that had a part in it."""
    records: list[Record] = field(default_factory=list)
    """One entry a finished epoch."""

    def pack(self) -> tuple[Tensors, dict[str, Any]]:
        """A flat dict of tensors, and what is not a tensor."""
        rng = RngState.capture(self.device)
        tensors = {"meta_rows": self.meta_rows, "loss_sum": self.loss_sum, "rng.cpu": rng.cpu}
        if rng.cuda is not None:
            tensors["rng.cuda"] = rng.cuda
        for name, module in self._modules().items():
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        return tensors, self._numbers()

    def restore(self, tensors: Tensors, meta: dict[str, Any]) -> None:
        """Become the state that was packed.

        Raises:
            RuntimeError, KeyError: the tensors are of another model or method.
        """
        for name, module in self._modules().items():
            module.load_state_dict(_under(tensors, name))
        RngState(tensors["rng.cpu"], tensors.get("rng.cuda")).restore(self.device)
        self.meta_rows = tensors["meta_rows"].to(self.device)
        self.loss_sum.copy_(tensors["loss_sum"])
        for name in self._numbers():
            setattr(self, name, meta[name])

    def _numbers(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("epoch", "step", "iteration", "records", "spent")}

    def tensors(self) -> list[torch.Tensor]:
        """Everything that an iteration changes, as it lies in memory."""
        parts = [*self._modules().values()]
        own = [t for part in parts for t in (*part.parameters(), *part.buffers())]
        return [*own, self.loss_sum]

    def _modules(self) -> dict[str, nn.Module]:
        modules = {
            "model": self.model,
            "method": self.method,
            "optimizer": self.optimizer,
            "teacher": self.teacher,
            "observer": self.observer,
        }
        return {name: module for name, module in modules.items() if module is not None}


def _under(tensors: Tensors, prefix: str) -> Tensors:
    start = prefix + "."
    return {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}
