"""Which parameters a whole run of the workflow works by, whatever becomes of their files meanwhile."""

import hashlib
import json
import os
from pathlib import Path

from cmw_pipeline.config.document import read_document
from cmw_pipeline.config.load import load, validated
from cmw_pipeline.config.schema import Params
from cmw_pipeline.io.atomic import write_text

VARIABLE = "CMW_PARAMS"
"""Names the parameter file; ``cmw --params`` takes it from here too."""
_KEPT = Path(".snakemake", "params")


def params_of_this_run() -> Params:
    """The parameters that the variable names, or those of ``params.yaml`` and ``params/``.

    Of these, one file is kept that holds all of them, and named by the variable.

    A job of a cluster waits in a queue, and parses the Snakefile again when its turn comes. It inherits the
    variable, so that it finds what it was planned by, even if they were edited since.

    Raises:
        ConfigError: the file is wrong; every problem is listed.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return load(Path(named))
    asked = Path("params.yaml")
    document = read_document(asked)
    params = validated(document, asked)  # complains of the files by their own names
    text = json.dumps(document.values, indent=1, ensure_ascii=False)  # JSON is YAML
    copy = _KEPT / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}.yaml"
    if not copy.exists():
        write_text(copy, text)
    os.environ[VARIABLE] = str(copy)
    return params
