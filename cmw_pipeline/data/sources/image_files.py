"""Datasets of image files, which stay where the user has them."""

import logging
from pathlib import Path

import pandas as pd

from cmw_pipeline.config.contracts import Raw
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.origins import ImageFiles
from cmw_pipeline.data.layouts import READERS, stamp
from cmw_pipeline.data.listings import STRAY, missing, printable
from cmw_pipeline.data.raw import Folder, write_files, write_folder
from cmw_pipeline.data.sources.asked import Asked, Notes
from cmw_pipeline.data.survey import LEAK, copies, survey
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.tables import write_table
from cmw_pipeline.types import TEST, TRAIN

MAX_LEFT_OUT = 0.001
"""Share of a dataset's files that may be unreadable."""
log = logging.getLogger(__name__)


def write(facts: DatasetFacts, origin: ImageFiles, form: str | None, asked: Asked) -> Notes:
    """List the files of a folder, open every one of them once, and write which can be used.

    Raises:
        ConfigError: no folder was named, or it holds nothing of the dataset.
        IntegrityError: too many of the files cannot be used, no picture is left of the training set's class
            or of the test set, or a test picture is also a training or a trusted one;
            ``asked.side`` has a report on all of them.
    """
    if asked.local is None or not asked.local.is_dir():
        raise missing(Path(facts.name) if asked.local is None else asked.local, facts)
    root = asked.local.resolve()
    listing = READERS[origin.layout](root, facts)
    seen = stamp(root, listing.good)  # before any is read: one that changes meanwhile is noticed
    files, faults = survey(root, listing, asked.workers)
    faults = pd.concat([faults, copies(files)])
    report = asked.side / Raw.FAULTS
    write_table(report, faults, Raw.FAULTS.columns)
    lost = faults[faults["left_out"]]
    strays = lost["fault"] == STRAY
    if strays.any():
        log.info("left out: %d stray files; the first is %s", strays.sum(), lost["path"][strays].iloc[0])
    _refuse_losses(asked.local, lost[~strays], len(listing.files) - int(strays.sum()), report)
    _refuse_gaps(asked.local, files, listing.class_names)
    notes = asked.verified(asked.local, _leak(files, faults) or listing.problem)
    write_files(asked.out, {str(name): files[name].to_numpy() for name in files})
    write_table(asked.out / Raw.FAULTS, faults, Raw.FAULTS.columns)
    write_folder(asked.out, Folder(root, imported=False))
    return notes | {
        "root": str(root),
        "stamp": seen,
        "class_names": list(listing.class_names),
        "faults": {str(reason): int(n) for reason, n in faults["fault"].value_counts().items()},
    }


def _leak(files: pd.DataFrame, faults: pd.DataFrame) -> str | None:
    """Which pictures of training or of the meta-set are test pictures too, in words."""
    leaks = faults[faults["fault"] == LEAK]
    if leaks.empty:
        return None
    first = files[files["path"] == leaks["path"].iloc[0]].iloc[0]
    same = files[(files["bytes"] == first["bytes"]) & (files["crc32"] == first["crc32"])]
    tested = same.loc[same["split"] == TEST, "path"].iloc[0]
    return (
        f"{len(leaks)} pictures outside the test set are test pictures too, so a test would not be one; the "
        f"first is {printable(first['path'])}, the same as {printable(tested)}"
    )


def _refuse_gaps(local: Path, files: pd.DataFrame, class_names: tuple[str, ...]) -> None:
    """Refuse a training set without one of its classes, and an empty test set."""
    held = {split: set(files.loc[files["split"] == split, "label"]) for split in (TRAIN, TEST)}
    for split, labels in held.items():
        if not labels:
            raise IntegrityError(f"{local}: no picture of the {split} set can be used; expected one at least")
        gaps = [f"{number} ({name})" for number, name in enumerate(class_names) if number not in labels]
        if gaps and split == TRAIN:
            found = f"{len(gaps)} of {len(class_names)} classes have no picture to train on"
            hint = "class numbers begin at 0; leave out a class that has no pictures"
            raise IntegrityError(f"{local}: {found}; the first is class {gaps[0]}", hint)
        if gaps:
            log.warning("%s: %d classes have no test picture; the first is %s", local, len(gaps), gaps[0])


def _refuse_losses(local: Path, lost: pd.DataFrame, total: int, report: Path) -> None:
    if len(lost) > MAX_LEFT_OUT * total:
        reasons = ", ".join(f"{count} {reason}" for reason, count in lost["fault"].value_counts().items())
        raise IntegrityError(
            f"{local}: {len(lost)} of {total} files cannot be used, more than 0.1%: {reasons}; "
            f"the first is {printable(lost['path'].iloc[0])}",
            f"all of them are in {report}",
        )
