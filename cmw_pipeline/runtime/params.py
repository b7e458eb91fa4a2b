"""Which parameters a whole run of the workflow works by, whatever becomes of ``params.yaml`` meanwhile."""

import hashlib
import os
from pathlib import Path

from cmw_pipeline.config.load import load
from cmw_pipeline.config.schema import Params
from cmw_pipeline.io.atomic import write_text

VARIABLE = "CMW_PARAMS"
"""Names the parameter file; ``cmw --params`` takes it from here too."""
_KEPT = Path(".snakemake", "params")


def params_of_this_run() -> Params:
    """The parameters that the variable names, or ``params.yaml``, of which a copy is kept and named.

    A job of a cluster waits in a queue, and parses the Snakefile again when its turn comes. It inherits the
    variable, so that it finds what it was planned by, even if ``params.yaml`` was edited since.

    Raises:
        ConfigError: the file is wrong; every problem is listed.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return load(Path(named))
    asked = Path("params.yaml")
    load(asked)  # complains of the file by its own name
    text = asked.read_text(encoding="utf-8")
    copy = _KEPT / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}.yaml"
    if not copy.exists():
        write_text(copy, text)
    os.environ[VARIABLE] = str(copy)
    return load(copy)
