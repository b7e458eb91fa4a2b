"""The processes that train one run together: one, or as many as ``torchrun`` started."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cmw_pipeline.errors import SystemFault


@dataclass(frozen=True)
class Team:
    """``size`` processes, of which this is number ``rank``; number 0 leads: it alone writes files."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes what the team makes."""
        return self.rank == 0

    def agree(self, number: int) -> int:
        """The leader's number, which every process gets; all must ask at the same point."""
        if self.size == 1:
            return number
        import torch
        import torch.distributed as dist

        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        told = torch.tensor(number, device=device)
        dist.broadcast(told, src=0)
        return int(told)

    def share(self, count: int) -> slice:
        """Which of ``count`` samples of a batch are this process's."""
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)


SOLO = Team()


@contextlib.contextmanager
def joined_team(device: str) -> Iterator[Team]:
    """The team that ``torchrun`` made this process part of, or a team of one.

    Args:
        device: ``cuda`` (NCCL) or ``cpu`` (Gloo).
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1" or "TORCHELASTIC_RUN_ID" not in os.environ:
        yield SOLO
        return
    import torch.distributed as dist

    try:
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise SystemFault(
            f"no team of WORLD_SIZE={size[:20]!r}: {reason}", "start it with `torchrun`"
        ) from None
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
