"""The generators that layers such as dropout draw from: captured, replayed, saved and restored."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RngState:
    """State of the default generators of the CPU and, where in use, of one GPU; uint8 tensors."""

    cpu: torch.Tensor
    cuda: torch.Tensor | None

    @classmethod
    def capture(cls, device: torch.device) -> "RngState":
        """The generators as they are now."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda)

    def restore(self, device: torch.device) -> None:
        """Set the generators back to this state."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, device)

    @contextlib.contextmanager
    def replayed(self, device: torch.device) -> Iterator[None]:
        """Inside the block the generators draw again what they drew after this state."""
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self.restore(device)
            yield
