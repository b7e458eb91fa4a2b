"""Datasets that come inside an installed package."""

from importlib import metadata
from pkgutil import resolve_name

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.origins import Bundled
from cmw_pipeline.data.raw import write_raw
from cmw_pipeline.data.sources.asked import Asked, Notes
from cmw_pipeline.errors import ConfigError


def write(facts: DatasetFacts, origin: Bundled, form: str | None, asked: Asked) -> Notes:
    """Write the dataset as the installed package holds it.

    Raises:
        ConfigError: a file was named in its place.
        IntegrityError: the package has other data than the expected.
    """
    if asked.local is not None:
        raise ConfigError(f"{facts.name} come with {origin.package}; there is nothing to read from a file")
    read = resolve_name(f"cmw_pipeline.data.{origin.reader}")
    write_raw(asked.out, *read(facts))
    return {"origin": f"{origin.package} {metadata.version(origin.package)}", "verified": True}
