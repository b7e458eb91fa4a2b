"""Files that somebody names: of a pipe or a device the end may never come, and some fill the memory."""

import stat
from pathlib import Path


def plain(file: Path, most: int | None = None) -> Path:
    """The file itself, if it is one that can be read to its end.

    Raises:
        OSError: it is not there; it is a folder, a pipe or a device; or it has more than ``most`` bytes.
    """
    found = file.stat()
    if stat.S_ISDIR(found.st_mode):
        raise OSError("this is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise OSError("this is a pipe or a device, not a file")
    if most is not None and found.st_size > most:
        raise OSError(f"larger than {most:,} bytes")
    return file
