"""The trajectory margin in other people's training: callbacks for Lightning and for Hugging Face's Trainer.

>>> margin = TrajectoryMargin(len(samples), num_classes)                           # doctest: +SKIP
>>> trainer = Trainer(..., callbacks=[trainer_callback(margin, loader)])           # doctest: +SKIP
>>> trainer = lightning.Trainer(callbacks=[lightning_callback(margin, loader)])    # doctest: +SKIP
>>> margin.scores(labels)                                                          # doctest: +SKIP
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import nn

from cmw_pipeline.audit.scores import TrajectoryMargin
from cmw_pipeline.errors import ConfigError, SystemFault

Logits: TypeAlias = Callable[[Any, Any], torch.Tensor]
"""(model, batch) -> (B, K) logits."""


def _of_first_part(model: Any, batch: Any) -> torch.Tensor:
    said: torch.Tensor = model(batch[0])
    return said


def _own_logits(model: Any, batch: Any) -> torch.Tensor:
    said: torch.Tensor = model(**{name: part for name, part in batch.items() if name != "labels"}).logits
    return said


def lightning_callback(
    margin: TrajectoryMargin, loader: Iterable[Any], logits: Logits = _of_first_part
) -> Any:
    """A callback of Lightning that shows all samples to the margin after each epoch.

    Args:
        margin: of as many samples as the loader gives.
        loader: the training samples in their order, not shuffled, without augmentation.
        logits: what the module says of a batch; by default of its first part.

    Raises:
        SystemFault: neither lightning nor pytorch_lightning is installed.
    """
    base: Any = _first_of("lightning.pytorch", "pytorch_lightning").Callback

    def on_train_epoch_end(self: Any, trainer: Any, module: Any) -> None:
        see_all(margin, module, loader, logits)

    return type("WatchTrajectory", (base,), {"on_train_epoch_end": on_train_epoch_end})()


def trainer_callback(
    margin: TrajectoryMargin,
    loader: Iterable[Any],
    logits: Logits = _own_logits,
) -> Any:
    """A callback of Hugging Face's Trainer that shows all samples to the margin after each epoch.

    Args:
        margin: of as many samples as the loader gives.
        loader: the training samples in their order, not shuffled, without augmentation.
        logits: what the model says of a batch; by default the ``logits`` of its output.

    Raises:
        SystemFault: transformers is not installed.
    """
    base: Any = _first_of("transformers").TrainerCallback

    def on_epoch_end(self: Any, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        see_all(margin, model, loader, logits)

    return type("WatchTrajectory", (base,), {"on_epoch_end": on_epoch_end})()


@torch.no_grad()
def see_all(margin: TrajectoryMargin, model: nn.Module, loader: Iterable[Any], logits: Logits) -> None:
    """Show every sample of a loader to the margin, as the model in evaluation mode sees it.

    Raises:
        ConfigError: the loader gives another number of samples than the margin is of.
    """
    device = next(model.parameters()).device
    was = model.training
    model.eval()
    try:
        said = [logits(model, _moved(batch, device)).float().cpu() for batch in loader]
    finally:
        model.train(was)
    seen = sum(map(len, said))
    if seen != len(margin.updates):
        hint = "give it the training samples in their order, all of them"
        raise ConfigError(f"the loader gives {seen} samples; the margin is of {len(margin.updates)}", hint)
    margin.update(torch.arange(seen), torch.cat(said))


def _moved(batch: Any, device: torch.device) -> Any:
    """Every tensor of a batch, also within lists and mappings, on the device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: _moved(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [_moved(value, device) for value in batch]
    return batch


def _first_of(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
    library = names[-1].replace("_", "-")
    raise SystemFault(f"{library} is not installed", f"pip install {library}")
