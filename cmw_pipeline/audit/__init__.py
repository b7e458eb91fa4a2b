"""Looks for wrong labels in a dataset of the user's own, and learns from it all the same.

>>> from cmw_pipeline.audit import audit
>>> audit(embeddings, labels).listed                          # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmw_pipeline.audit.callbacks import lightning_callback, trainer_callback
    from cmw_pipeline.audit.make import audit
    from cmw_pipeline.audit.model import Classifier, load_classifier
    from cmw_pipeline.audit.result import Audit
    from cmw_pipeline.audit.scores import TrajectoryMargin

__all__ = [
    "Audit",
    "Classifier",
    "TrajectoryMargin",
    "audit",
    "lightning_callback",
    "load_classifier",
    "trainer_callback",
]

_HOMES = {
    "Audit": "result",
    "Classifier": "model",
    "TrajectoryMargin": "scores",
    "audit": "make",
    "lightning_callback": "callbacks",
    "load_classifier": "model",
    "trainer_callback": "callbacks",
}


def __getattr__(name: str) -> Any:
    """Load what needs torch only when it is asked for."""
    if name in _HOMES:
        return getattr(import_module(f"cmw_pipeline.audit.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
