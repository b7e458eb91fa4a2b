"""Where data come from: one module an origin, each with a function that fills a folder from it."""

from collections.abc import Callable
from typing import Any

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.origins import Archives, Bundled, ImageFiles, OwnVectors
from cmw_pipeline.data.sources import archive, bundled, image_files, own_vectors
from cmw_pipeline.data.sources.asked import Asked, Notes

WRITERS: dict[type, Callable[[DatasetFacts, Any, str | None, Asked], Notes]] = {
    Archives: archive.write,
    Bundled: bundled.write,
    ImageFiles: image_files.write,
    OwnVectors: own_vectors.write,
}
"""By the type of a dataset's origin."""


def write_dataset(facts: DatasetFacts, form: str | None, asked: Asked) -> Notes:
    """Fill a folder with a dataset, as :mod:`cmw_pipeline.data.raw` reads it.

    Args:
        facts: of the dataset.
        form: which of its published archives; None for the first, and where it has no choice.
        asked: the folder, and what to read in place of fetching.

    Raises:
        ConfigError: nothing of the dataset is where it should be.
        IntegrityError: the bytes are not the published ones, or not a dataset.
        SystemFault: no mirror can be reached, or a file cannot be read or written.
    """
    return WRITERS[type(facts.origin)](facts, facts.origin, form, asked)
