"""Labels that a file gives in place of the dataset's."""

from cmw_pipeline.bias.samples import Draws, Samples
from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts


def from_file(samples: Samples, step: BiasStep, facts: DatasetFacts, draws: Draws) -> Samples:
    """Every label is replaced by that of the label file."""
    if samples.given is None:
        raise ValueError(f"{step.name} needs the labels of a file")
    return samples.labelled(samples.given)
