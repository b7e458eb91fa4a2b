"""Vectors of the user's own: they come by ``cmw import``, from nowhere else."""

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.origins import OwnVectors
from cmw_pipeline.data.sources.asked import Asked, Notes
from cmw_pipeline.errors import ConfigError


def write(facts: DatasetFacts, origin: OwnVectors, form: str | None, asked: Asked) -> Notes:
    """Refuse.

    Raises:
        ConfigError: always; the hint names the command.
    """
    hint = "bring them again: cmw import PATH --name NAME"
    raise ConfigError(f"{facts.name}: vectors of your own have no address to fetch them from", hint)
