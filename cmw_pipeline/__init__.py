"""Training well on biased data, and proving it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmw_pipeline.audit.model import load_classifier
    from cmw_pipeline.audit.scores import TrajectoryMargin
    from cmw_pipeline.meta.weighting import load_weighting
    from cmw_pipeline.training.reweighter import Reweighter

__all__ = ["Reweighter", "TrajectoryMargin", "load_classifier", "load_weighting"]
__version__ = "0.1.0"

_HOMES = {
    "Reweighter": "training.reweighter",
    "TrajectoryMargin": "audit.scores",
    "load_classifier": "audit.model",
    "load_weighting": "meta.weighting",
}


def __getattr__(name: str) -> Any:
    """Load the public names that need torch only when they are asked for."""
    if name in _HOMES:
        return getattr(import_module(f"cmw_pipeline.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
