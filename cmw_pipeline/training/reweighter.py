"""A weighting that is learned and applied in anybody's training loop, with any ``nn.Module``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt
import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from cmw_pipeline.config.methods.losses import Erm
from cmw_pipeline.config.nearest import nearest
from cmw_pipeline.config.weightings import Frozen, MetaLearned, NetWeighting, WeightingBase
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.meta.class_groups import class_sizes
from cmw_pipeline.meta.tangent import Forward
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weighting import save_weighting
from cmw_pipeline.methods import registry as methods
from cmw_pipeline.methods.base import Batch, Problem, Weights
from cmw_pipeline.runtime.team import SOLO, Team
from cmw_pipeline.training.parallel import Shared, gathered
from cmw_pipeline.training.step import meta_step

Logits: TypeAlias = Callable[[nn.Module, Any], torch.Tensor]
"""(model, inputs) -> (B, C) logits."""


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_OF_THE_LOOP = MetaLearned.model_fields
"""Options that a loop of one's own answers by what it passes, and when."""


class Reweighter:
    """How much each sample's loss counts, learned on trustworthy samples while a model trains.

    It uses what the pipeline uses: the look-ahead gradient of :mod:`cmw_pipeline.meta.lookahead`, the
    weightings of :mod:`cmw_pipeline.methods.weightings`, cross-entropy as the loss. The model, its optimiser
    and the loop stay yours.

    >>> rw = Reweighter(model, "cmw-net", class_counts=counts, lr=optimizer)      # doctest: +SKIP
    >>> for (x, y), meta in zip(loader, trusted):                                 # doctest: +SKIP
    ...     loss = rw.step(x, y, meta)
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()

    Args:
        model: what is trained, in the mode that it is to train in; wrapped in ``DistributedDataParallel`` or
            not.
        weighting: cmw-net, mw-net, l2rw, mcw, class-balanced or uniform.
        class_counts: (C,) training samples of each class, by the labels in use.
        lr: the rate of the look-ahead: a number, or the optimiser, whose first rate is taken at each step.
        logits: how the model's logits come of its inputs; by default it is called with them.
        seed: of the weight net.
        options: of the weighting, as in the parameters: ``normalisation="sum"``, ``weight_net={"lr": 0.01}``.

    Raises:
        ConfigError: no such weighting or option, counts that no training set can have, or a negative rate.
    """

    def __init__(
        self,
        model: nn.Module,
        weighting: str = "cmw-net",
        *,
        class_counts: npt.ArrayLike | torch.Tensor,
        lr: float | torch.optim.Optimizer,
        logits: Logits = nn.Module.__call__,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if not isinstance(lr, torch.optim.Optimizer) and float(lr) < 0:
            raise ConfigError(f"lr is {lr}; expected the rate of the look-ahead, or the optimiser")
        counts = torch.from_numpy(class_sizes(class_counts)).long()
        labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
        self.options = _options(weighting, options)
        asked = Erm(kind="erm", weighting=self.options)
        self.method = methods.build(asked, Problem(len(counts), labels), seed)
        self.logits = torch.empty(0)
        """(B, C) of the last step, detached: for metrics."""
        self._network: nn.Module = _Asked(_unwrapped(model), logits)
        self._team = SOLO
        self._lr = lr

    @property
    def lr(self) -> float | torch.Tensor:
        """The rate of the look-ahead as it is now."""
        rate = self._lr.param_groups[0]["lr"] if isinstance(self._lr, torch.optim.Optimizer) else self._lr
        return rate if isinstance(rate, torch.Tensor) else float(rate)

    def step(
        self, inputs: Any, labels: torch.Tensor, meta: tuple[Any, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The weighted training loss of a batch; with a meta batch, the weighting is improved first.

        The one pass of the batch through the model serves the look-ahead and the loss. Nothing is stepped:
        ``loss.backward()`` and the optimiser's step are the loop's. On several processes each gives its
        share, all of one size, and the loss is that of the whole batch.

        Args:
            inputs: of the batch, as ``logits`` takes them.
            labels: (B,) given labels, integers.
            meta: inputs and (M,) labels of trustworthy samples; None: the weighting stays as it is.

        Returns:
            The scalar loss, with its graph.

        Raises:
            NumericsError: the meta-gradient is not finite; looked at on a CPU only, where it costs nothing.
            ConfigError: the logits are not one row a label and one column a class; labels are no numbers of
                classes, whose range is looked at on a CPU only; or there is no gradient to learn from.
        """
        if (
            self._team.size == 1
            and dist.is_available()
            and dist.is_initialized()
            and dist.get_world_size() > 1
        ):
            self._team = Team(dist.get_rank(), dist.get_world_size())
            self._network = Shared(self._network, self._team)
        batch = self._batch(inputs, labels, "labels")
        self.method.to(batch.labels.device)
        forward = Forward(self._network, inputs)
        _check(forward.logits, batch.labels, self.method.num_classes)
        if meta is not None and isinstance(self.options, MetaLearned):
            if not isinstance(meta, tuple | list) or len(meta) != 2:
                raise ConfigError(f"the meta batch is {type(meta).__name__}; expected (inputs, labels)")
            if not forward.logits.requires_grad:
                raise ConfigError(
                    "the logits have no gradient, of which the weighting could learn",
                    "call .step outside torch.no_grad(), on a model with parameters that require gradients",
                )
            trusted = self._batch(*meta, "labels of the meta batch")
            on_cpu = batch.labels.device.type == "cpu"  # elsewhere to look means to wait
            meta_step(forward, self.method, batch, trusted, self.lr, check_finite=on_cpu)
        self.logits = forward.logits.detach()
        return self.method.objective(forward.logits, batch, self.weigh)

    @torch.no_grad()
    def weigh(self, losses: torch.Tensor, labels: torch.Tensor) -> Weights:
        """What (B,) losses of (B,) int64 labels count now: ``.values``, (B,), and ``.mean(losses)``."""
        return self.method.weigh(losses, labels)

    def settle(self, losses: torch.Tensor, labels: torch.Tensor) -> None:
        """End the learning, with the (N,) losses of all training samples; only bounded levels need it."""
        self.method.eval()
        with torch.no_grad():
            self.method.weighting.settle(losses, labels)

    def save(self, folder: str | Path) -> None:
        """Write the learned function for :func:`cmw_pipeline.load_weighting`.

        Raises:
            ConfigError: the weighting is no function of the loss; its bounded levels are not settled.
        """
        weighting, options = self.method.weighting, self.options
        if not isinstance(options, NetWeighting):
            raise ConfigError(
                f"{options.kind} learns no function that could be saved", "use cmw-net or mw-net"
            )
        if options.levels == "bounded" and self.method.training:
            raise ConfigError("the bounded levels are not settled", "call .settle(losses, labels) first")
        groups = weighting.get_buffer("groups").cpu().numpy()
        net = weighting.get_submodule("net")
        assert isinstance(net, WeightNet)
        save_weighting(Path(folder), net, groups, {"run": "Reweighter"}, options.normalisation)

    def state_dict(self) -> dict[str, Any]:
        """All that the weighting has learned, with the state of its optimiser, for a checkpoint."""
        return dict(self.method.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""
        self.method.load_state_dict(state)

    def _batch(self, inputs: Any, labels: torch.Tensor, what: str) -> Batch:
        labels = _class_numbers(labels, self.method.num_classes, what)
        labels = labels if self._team.size == 1 else gathered(labels, self._team)
        return Batch(inputs, labels, torch.arange(len(labels), device=labels.device))


class _Asked(nn.Module):
    """A model whose call is the way that its logits come of its inputs."""

    def __init__(self, model: nn.Module, logits: Logits) -> None:
        super().__init__()
        self.model, self._logits = model, logits

    def forward(self, inputs: Any) -> torch.Tensor:
        """(B, C) logits."""
        return self._logits(self.model, inputs)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, whose parameters are those of what is around it."""
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    return _unwrapped(model.module) if isinstance(model, DataParallel | DistributedDataParallel) else model


def _options(kind: str, options: dict[str, Any]) -> WeightingBase:
    known = {name: model for name, model in WeightingBase.kinds.items() if model is not Frozen}
    if kind not in known:
        raise ConfigError(f"there is no weighting {kind!r}{nearest(kind, list(known))}")
    model = known[kind]
    loops = {"meta_set": "labelled"} if issubclass(model, MetaLearned) else {}
    own = [name for name in model.model_fields if name not in _OF_THE_LOOP]
    for name in options:
        if name not in own:
            raise ConfigError(f"{kind} has no option {name!r}{nearest(name, own)}")
    try:
        return model.model_validate({"kind": kind, **loops, **options})
    except ValidationError as error:
        said = error.errors()[0]
        raise ConfigError(f"{kind}, option {'.'.join(map(str, said['loc']))}: {said['msg']}") from None


def _class_numbers(labels: Any, num_classes: int, what: str) -> torch.Tensor:
    """(B,) int64 labels; their range is looked at where that means no waiting."""
    if not isinstance(labels, torch.Tensor):
        raise ConfigError(f"the {what} are {type(labels).__name__}; expected a tensor of integers, (B,)")
    if labels.ndim != 1 or not len(labels) or labels.dtype not in _INTEGERS:
        found = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ConfigError(f"the {what} are {found}; expected integers of shape (B,), one a sample")
    if labels.device.type == "cpu" and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ConfigError(f"the {what} are {found}; by class_counts they are 0 to {num_classes - 1}")
    return labels.long()


def _check(logits: Any, labels: torch.Tensor, num_classes: int) -> None:
    expected = (len(labels), num_classes)
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else None
    if shape != expected:
        found = f"a {type(logits).__name__}" if shape is None else f"logits of shape {shape}"
        raise ConfigError(
            f"the model gives {found}; expected {expected}",
            "say by `logits=` how they come of model and inputs",
        )
