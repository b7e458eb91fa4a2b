"""ERM: mean cross-entropy of the given labels; the reference row of every table."""

from cmw_pipeline.methods.base import Method


class Erm(Method):
    """Nothing differs from the defaults."""
