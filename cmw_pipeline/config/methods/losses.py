"""Options of the methods that are a loss, a head, or both."""

from typing import Literal

from cmw_pipeline.config.methods.base import MethodBase


class Erm(MethodBase):
    """Empirical risk minimisation: mean cross-entropy of the given labels."""

    kind: Literal["erm"]
