"""From options to a method and the weighting under it."""

import pkgutil
from typing import Any

import torch

from cmw_pipeline.config.methods import Method as Options
from cmw_pipeline.methods.base import Method, Problem


def build(options: Options, problem: Problem, seed: int) -> Method:
    """A method ready to train, under its weighting; equal seeds give equal weight nets.

    Args:
        options: the method's entry in the parameters, as it is in this cell.
        problem: the training set by its given labels.
        seed: of what the method and the weighting initialise themselves.
    """
    weighting = options.weighting
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method: Method = implementation(type(options))(options, problem)
        method.weighting = _named(f"weightings.{weighting.implemented_by}")(weighting, problem)
        return method


def implementation(options: type[Options]) -> Any:
    """The class of the method that has these options."""
    return _named(options.implemented_by)


def _named(place: str) -> Any:
    return pkgutil.resolve_name(f"cmw_pipeline.methods.{place}")
