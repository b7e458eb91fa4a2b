"""All losses count alike: what a method is without a weighting."""

from cmw_pipeline.methods.weightings.base import Weighting


class Uniform(Weighting):
    """Nothing differs from the defaults."""
