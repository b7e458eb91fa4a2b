"""Datasets of image files, which stay where the user has them."""

from pathlib import Path

import pandas as pd

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.origins import ImageFiles
from cmw_pipeline.data.listings import missing
from cmw_pipeline.data.raw import write_files
from cmw_pipeline.data.sources.asked import Asked, Notes
from cmw_pipeline.data.survey import READERS, survey
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.tables import write_table
from cmw_pipeline.types import FAULT_COLUMNS

FAULTS = "faults.parquet"
MAX_LEFT_OUT = 0.001
"""Share of a dataset's files that may be unreadable."""


def write(facts: DatasetFacts, origin: ImageFiles, form: str | None, asked: Asked) -> Notes:
    """List the files of a folder, open every one of them once, and write which can be used.

    Raises:
        ConfigError: no folder was named, or it holds nothing of the dataset.
        IntegrityError: too many of the files cannot be used; ``asked.side`` has a report on all of them.
    """
    if asked.local is None or not asked.local.is_dir():
        raise missing(Path(facts.name) if asked.local is None else asked.local, facts)
    root = asked.local.resolve()
    listing = READERS[origin.layout](root, facts)
    files, faults = survey(root, listing, asked.workers)
    report = asked.side / FAULTS
    write_table(report, faults, FAULT_COLUMNS)
    _refuse_losses(asked.local, faults[faults["left_out"]], len(listing.files), report)
    write_files(asked.out, files)
    write_table(asked.out / FAULTS, faults, FAULT_COLUMNS)
    return {
        "root": str(root),
        "class_names": list(listing.class_names),
        "faults": {str(reason): int(n) for reason, n in faults["fault"].value_counts().items()},
    }


def _refuse_losses(local: Path, lost: pd.DataFrame, total: int, report: Path) -> None:
    if len(lost) > MAX_LEFT_OUT * total:
        reasons = ", ".join(f"{count} {reason}" for reason, count in lost["fault"].value_counts().items())
        raise IntegrityError(
            f"{local}: {len(lost)} of {total} files cannot be used, more than 0.1%: {reasons}; "
            f"the first is {lost['path'].iloc[0]}",
            f"all of them are in {report}",
        )
