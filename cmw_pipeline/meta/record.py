"""A record of the operations of one forward pass, made below autograd.

It names memory, not tensors: only the values that a later rule needs are kept, and autograd keeps those
anyway. Memory is used again, so a name holds until the next operation that writes there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoRule(Exception):
    """The record cannot be replayed exactly."""


@dataclass(frozen=True)
class Slot:
    """Where values lie, and as of which write to that memory: autograd wraps views in new objects."""

    address: int
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    version: int

    @classmethod
    def of(cls, tensor: torch.Tensor, version: int | None = None) -> "Slot":
        """The slot of a tensor as it is now, or as of a version that it is about to have."""
        version = tensor._version if version is None else version
        return cls(tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, version)


class Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation between entering and leaving.

    ``kept`` says for each operation whose values are needed later: n for argument n, -1 - n for output n.
    """

    def __init__(self, kept: Mapping[Any, tuple[int, ...]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept = kept
        self.steps: list[Step] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do not load the compiler just to keep it away from this class: that takes seconds."""
        return False  # pragma: no mutate (asked while the class is made)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        reads = [Slot.of(t) if _moves(t) else None for t in args]
        in_lists = [Slot.of(t) for value in args if isinstance(value, list) for t in value if _moves(t)]
        out = func(*args, **(kwargs or {}))
        if (
            func is torch.ops.aten.detach.default
        ):  # the same memory by another name, which nothing reads as moving
            return out
        outs = out if isinstance(out, tuple) else (out,)
        kept = self._kept.get(func, ())
        self.take(Step(func, args, kwargs or {}, outs, reads, in_lists, kept))
        return out

    def take(self, step: "Step") -> None:
        """Keep the step."""
        self.steps.append(step)


def _moves(value: Any) -> bool:
    """Whether autograd would pass a gradient to this argument: not where it was detached.

    Nor inside the forward of a custom autograd function, which runs without gradients.
    """
    return isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled()


class Step:
    """One recorded operation; of its tensors only those whose values its rule needs are kept."""

    def __init__(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outs: tuple[Any, ...],
        reads: list[Slot | None],
        in_lists: list[Slot],
        wanted: tuple[int, ...],
    ) -> None:
        self.func, self.kwargs, self.reads, self.in_lists = func, kwargs, reads, in_lists
        version = _version_after(func, args, outs[0])
        self.writes = [Slot.of(t, version) for t in outs if isinstance(t, torch.Tensor)]
        values = [value if _is_plain(value) or n in wanted else None for n, value in enumerate(args)]
        self.args: list[Any] = values
        self.outs: list[Any] = [value if -1 - n in wanted else None for n, value in enumerate(outs)]
        tensors = [t for t in (*self.args, *self.outs) if isinstance(t, torch.Tensor)]
        self._versions = [(t, version if t is outs[0] else t._version) for t in tensors]

    @property
    def moving(self) -> list[Slot]:
        """The slots of all arguments that autograd would pass a gradient to."""
        return [slot for slot in (*self.reads, *self.in_lists) if slot is not None]

    def check(self) -> None:
        """Refuse where a value that was kept has been written to since."""
        if any(tensor._version != version for tensor, version in self._versions):
            raise NoRule(f"a value of {self.func} was overwritten")


def _version_after(func: Any, args: tuple[Any, ...], out: Any) -> int:
    """The version that autograd gives the first output once the operation has returned to it.

    It counts a write in place only then, and lets a view share the count of what it is a view of.
    """
    if not isinstance(out, torch.Tensor):
        return 0
    if func.is_view:
        return int(args[0]._version)
    return out._version + int(func._schema.is_mutable and out is args[0])


def _is_plain(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) and not (
        isinstance(value, list) and any(isinstance(t, torch.Tensor) for t in value)
    )


def last_reads(steps: list[Step]) -> list[list[int]]:
    """For each step the numbers of its ``moving`` that nobody reads again before they are rewritten."""
    awaited: set[Slot] = set()
    last: list[list[int]] = []
    for step in reversed(steps):
        awaited.difference_update(step.writes)
        last.append([n for n, slot in enumerate(step.moving) if slot not in awaited])
        awaited.update(step.moving)
    return last[::-1]
