"""Options of every method, as ``params.yaml`` writes them; ``kind`` says which method."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from cmw_pipeline.config.methods import learned_labels as learned_labels
from cmw_pipeline.config.methods import losses as losses
from cmw_pipeline.config.methods import memory as memory
from cmw_pipeline.config.methods import mixtures as mixtures
from cmw_pipeline.config.methods import self_supervised as self_supervised
from cmw_pipeline.config.methods import tasks as tasks
from cmw_pipeline.config.methods import twins as twins
from cmw_pipeline.config.methods.base import MethodBase

__all__ = [
    "KINDS",
    "Method",
    "learned_labels",
    "losses",
    "memory",
    "mixtures",
    "self_supervised",
    "tasks",
    "twins",
]

KINDS = MethodBase.kinds
"""The options of each method by its kind."""

if TYPE_CHECKING:
    Method = MethodBase
else:
    Method = Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind")]  # noqa: UP007
