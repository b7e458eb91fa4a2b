"""One run on several processes: each passes its share of the batch, all see the logits of the whole.

A :class:`Shared` network is used like any other: from a process's share of the images it gives the logits of
the whole batch, so objectives, normalisers and meta-gradients are those of one process, word for word. What
differs is inside: batch norm takes its statistics over all shares, logits are gathered, and gradients of the
weights are summed over the processes. All of it has forward-mode rules too, which the look-ahead needs.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from cmw_pipeline.runtime.team import Team


class _Sum(torch.autograd.Function):
    """The sum over processes; linear, so it is its own tangent and its own gradient."""

    @staticmethod
    def forward(value: torch.Tensor) -> torch.Tensor:
        return _summed(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        return _summed(slope)

    @staticmethod
    def jvp(ctx: Any, move: torch.Tensor) -> torch.Tensor:
        return _summed(move)


class _Gather(torch.autograd.Function):
    """(b, ...) of each process -> (B, ...) of all; the gradient is this process's part."""

    @staticmethod
    def forward(value: torch.Tensor, team: Team) -> torch.Tensor:
        return gathered(value, team)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.team = inputs[1]

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        return slope[ctx.team.share(len(slope))], None

    @staticmethod
    def jvp(ctx: Any, move: torch.Tensor, _: None) -> torch.Tensor:
        return gathered(move, ctx.team)


class _Replicate(torch.autograd.Function):
    """Weights that every process holds; their gradients are summed, in one message."""

    @staticmethod
    def forward(*weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(weight.view_as(weight) for weight in weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        total = _summed(torch.cat([slope.flatten() for slope in slopes]))
        parts = torch.split(total, [slope.numel() for slope in slopes])
        return tuple(part.view_as(slope) for part, slope in zip(parts, slopes, strict=True))

    @staticmethod
    def jvp(ctx: Any, *moves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(move.view_as(move) for move in moves)


def _summed(value: torch.Tensor) -> torch.Tensor:
    total = value.clone()
    dist.all_reduce(total)
    return total


def gathered(value: torch.Tensor, team: Team) -> torch.Tensor:
    """(b, ...) of each process, all of one shape -> (B, ...) of all, in the order of their ranks."""
    parts = [torch.empty_like(value) for _ in range(team.size)]
    dist.all_gather(parts, value.contiguous())
    return torch.cat(parts)


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' shares, which are of equal size.

    Equal to ``nn.BatchNorm2d`` on the whole batch. PyTorch's own needs a GPU and has no forward mode.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, C, H, W) -> (b, C, H, W)."""
        if not self.training:
            return super().forward(x)
        size = dist.get_world_size()
        mean = _Sum.apply(x.mean(dim=(0, 2, 3))) / size
        centred = x - mean[:, None, None]
        variance = _Sum.apply((centred * centred).mean(dim=(0, 2, 3))) / size
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            count = size * x.numel() / x.shape[1]
            with torch.no_grad():
                self.num_batches_tracked += 1
                moved = self.momentum  # None: the mean over all batches
                share = self.num_batches_tracked.reciprocal().to(mean) if moved is None else moved
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(variance.detach() * count / (count - 1), share)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        out: torch.Tensor = centred * scale[:, None, None]
        return out + self.bias[:, None, None] if self.affine else out


def unshared_norms(network: nn.Module) -> list[str]:
    """Kinds of batch norm that :class:`Shared` leaves with statistics of one process's share."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    return [type(norm).__name__ for norm in norms if type(norm) not in (nn.BatchNorm2d, SharedBatchNorm)]


class Shared(nn.Module):
    """A network on several processes: this one's share of the images -> the logits of the whole batch.

    The network's batch norms are changed in place; its parameters stay the same objects.
    """

    second_derivatives = False
    """Autograd does not see the sums over processes in the backward pass."""

    def __init__(self, network: nn.Module, team: Team) -> None:
        super().__init__()
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm
        self.network, self.team = network, team

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(b, C, H, W) -> (B, K)."""
        names, weights = zip(*self.network.named_parameters(), strict=True)
        shared = dict(zip(names, _Replicate.apply(*weights), strict=True))
        logits = functional_call(self.network, shared, (images,))
        whole: torch.Tensor = _Gather.apply(logits, self.team)
        return whole

    def mix(self, images: torch.Tensor, partners: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        """λ x_i + (1 − λ) x_π(i) of this process's images, whose partners may be any of the whole batch."""
        own = partners[self.team.share(len(partners))]
        return lam * images + (1 - lam) * gathered(images, self.team)[own]
