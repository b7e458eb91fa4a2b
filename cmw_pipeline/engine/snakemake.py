"""Snakemake, started with the words that a user would give it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cmw_pipeline.engine.params import VARIABLE
from cmw_pipeline.errors import INSTALL, ConfigError, SystemFault


def run_snakemake(words: Sequence[str], params: Path | None = None) -> int:
    """Run it here, and give its exit code.

    Args:
        words: options and targets.
        params: the parameter file; None: that of the folder.

    Raises:
        ConfigError: this folder has no workflow.
        SystemFault: Snakemake is not installed.
    """
    if not Path("workflow", "Snakefile").is_file():
        raise ConfigError("there is no workflow/Snakefile here", "cd to the project's folder")
    own = {} if params is None else {VARIABLE: str(params)}
    try:
        return subprocess.run([sys.executable, "-m", "snakemake", *words], env=os.environ | own).returncode  # noqa: S603
    except OSError as error:
        raise SystemFault(f"snakemake cannot be started: {error.strerror}", INSTALL) from None
