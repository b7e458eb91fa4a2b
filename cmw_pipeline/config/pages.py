"""A file that a stage leaves, and the files of an audit."""

from dataclasses import dataclass, field

RECEIPT = ".manifest.json"
"""The ending of what says from what a page was made."""


@dataclass(frozen=True)
class File:
    """A file of an artefact, by its name in the folder: ``folder / file`` is its path.

    ``holds`` says what is in it; ``columns`` are those of a table with their types. A value may be missing
    only where ``holds`` says so.
    """

    name: str
    holds: str
    columns: dict[str, str] = field(default_factory=dict, hash=False)

    def __fspath__(self) -> str:
        return self.name


class AuditPage:
    """An audit of labels: endings of ``results/audit/NAME``."""

    PAGE = File(".html", "the report, one file")
    SUSPECTS = File("/suspects.parquet", "every training sample, the most suspicious first; as CSV, too")
    CLASSES = File("/classes.csv", "how many labels of each class look wrong, with intervals, and what to do")
    TRANSITION = File("/transition.csv", "estimated share of each true class under each given label")
    CONFLICTS = File("/conflicts.csv", "equal samples under different labels")
    CURVES = File("/curves.csv", "the learned weighting function of each class group")
    SUMMARY = File("/audit.json", "the verdict, what was chosen, what was counted")
    MODEL = File("/model/", "the classifier, for `cmw predict` and `load_classifier`")
    WEIGHTING = File("/weighting/", "the weighting function, for `load_weighting`")
    RECEIPT = File(RECEIPT, "what it was made from, written last")
