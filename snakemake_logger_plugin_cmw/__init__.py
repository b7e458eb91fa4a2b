"""Targets behind options of several values: ``snakemake --cores all --resources gpu=4 results/table4.md``.

Snakemake gives an option such as ``--resources`` every word up to the next option, the target too, and then
fails on it. Snakemake imports packages of this name while it builds its command line; from then on, words
that cannot be values of the option before them (no ``=`` where pairs are asked for, none of the choices
where there are some) are targets. Where values may be any name (``--forcerun``, ``--configfile``), nothing
can be told apart and nothing is changed.

Without this package, or with a Snakemake that builds its command line otherwise, ``--`` goes before targets.
"""

import logging
import sys

from snakemake_interface_logger_plugins.base import LogHandlerBase

from snakemake_logger_plugin_cmw.command_line import keep_targets_apart


class LogHandler(LogHandlerBase):
    """What makes this package one of Snakemake's logger plugins. ``--logger cmw`` adds nothing to the log."""

    writes_to_stream = False
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        """Leave the record to Snakemake's own handler."""


try:
    from snakemake.common.argparse import ArgumentParser

    keep_targets_apart(ArgumentParser)
except (ImportError, AttributeError):
    sys.stderr.write("This Snakemake's command line is not known to cmw-pipeline: put `--` before targets.\n")
