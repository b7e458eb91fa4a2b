"""Targets behind options of several values: ``snakemake --cores all --resources gpu=4 results/table4.md``.

Snakemake gives an option such as ``--resources`` every word up to the next option, the target too, and then
fails on it. Snakemake imports packages of this name while it builds its command line; from then on, words
that cannot be values of the option before them (no ``=`` where pairs are asked for, none of the choices
where there are some) are targets. Where values may be any name (``--forcerun``, ``--configfile``), nothing
can be told apart and nothing is changed.

Without this package, or with a Snakemake that builds its command line otherwise, ``--`` goes before targets.
"""

import contextlib
import logging
import sys

from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_cmw.command_line import keep_targets_apart
from snakemake_logger_plugin_cmw.lines import Lines


class LogHandler(LogHandlerBase):
    """Snakemake's log in a line a job, errors last; ``-p``, ``--verbose`` or ``--debug-dag``: all of it."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Decide what is said, and where."""
        asked = self.common_settings
        self.stream = sys.stdout if asked.stdout else sys.stderr
        self._all = DefaultFormatter(asked.quiet, asked.show_failed_logs)
        whole = asked.printshellcmds or asked.verbose or asked.debug_dag
        self._lines = None if whole else Lines(asked.dryrun)

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record."""
        event = getattr(record, "event", None)
        if self._lines is None:
            self._say(self._all.format(record))
        else:
            kind = None if event is None else str(event.value)
            self._say(self._lines.of(kind, record.getMessage(), record.levelname, vars(record)))

    def close(self) -> None:
        """Say what failed."""
        if self._lines is not None:
            self._say(self._lines.end())
            self._lines = Lines(dry=False)
        super().close()

    def _say(self, text: str | None) -> None:
        if text and text != "None":
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                self.stream.write(text + "\n")
                self.stream.flush()


try:
    from snakemake.common.argparse import ArgumentParser

    keep_targets_apart(ArgumentParser)
except (ImportError, AttributeError):
    sys.stderr.write("This Snakemake's command line is not known to cmw-pipeline: put `--` before targets.\n")
