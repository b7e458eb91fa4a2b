"""What every source is asked for, and the rule for files that are not the published ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cmw_pipeline.errors import IntegrityError

Notes: TypeAlias = dict[str, Any]
"""What the manifest says of where data came from; ``verified`` is False of other than the published files."""


@dataclass(frozen=True)
class Asked:
    """What a source is asked for.

    ``out`` is the folder to fill, ``downloads`` where fetched files stay, ``side`` where a report is left
    that outlives a refusal. ``local`` is a file or folder to read in place of fetching; ``accept_unverified``
    takes it though its hashes are not the published ones. ``workers`` processes decode image files.
    """

    out: Path
    downloads: Path
    side: Path
    local: Path | None = None
    accept_unverified: bool = False
    workers: int = 0

    def verified(self, file: Path | None, problem: str | None) -> Notes:
        """The note on a file that is the published one but for the ``problem``, if there is any.

        Raises:
            IntegrityError: there is one, and nobody has said to take the file as it is.
        """
        if problem and not self.accept_unverified:
            raise IntegrityError(
                f"{file}: {problem}",
                "use `--accept-unverified` to go on; everything made from them will say so",
            )
        return {"verified": problem is None}
