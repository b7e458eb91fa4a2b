"""One thin click command a stage; the same commands that Snakemake calls work by hand."""

import contextlib
import logging
import os
import sys

from cmw_pipeline.cli import begin as _begin  # noqa: F401  (its commands join the group)
from cmw_pipeline.cli import grid as _grid  # noqa: F401  (its commands join the group)
from cmw_pipeline.cli import own as _own  # noqa: F401  (its commands join the group)
from cmw_pipeline.cli import upkeep as _upkeep  # noqa: F401  (its commands join the group)
from cmw_pipeline.cli.main import main
from cmw_pipeline.errors import SystemFault

__all__ = ["main", "run"]


def run() -> None:
    """The command line: run a command, and leave without taking the loaded libraries apart.

    All that a command opens is closed inside it. Python's own way out frees every module of PyTorch first,
    which takes most of a second.
    """
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        os._exit(code or _all_is_written())
    except OSError as error:
        if error.filename is not None:
            raise
        _say(f"cmw: what was printed could not be written: {error.strerror}\n")
        os._exit(SystemFault.exit_code)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line)
        sys.stderr.flush()


def _all_is_written() -> int:
    """0, or the exit code of what was printed and could not be written."""
    logging.shutdown()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError) as error:
        _say(f"cmw: what was printed could not be written: {error}\n")
        return SystemFault.exit_code
    return 0
