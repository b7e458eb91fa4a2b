"""Where data come from: one module an origin, each with a function that fills a folder from it."""

from pkgutil import resolve_name

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.origins import Archives, Bundled, ImageFiles, OwnVectors
from cmw_pipeline.data.sources.asked import Asked, Notes

WRITERS: dict[type, str] = {
    Archives: "archive",
    Bundled: "bundled",
    ImageFiles: "image_files",
    OwnVectors: "own_vectors",
}
"""Module by the type of an origin; imported when it is needed, as that of image files loads torch."""


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
    write = resolve_name(f"{__name__}.{WRITERS[type(facts.origin)]}:write")
    notes: Notes = write(facts, facts.origin, form, asked)
    return notes
