"""Processes that tests start: they import this checkout, use this environment's commands, and one thread."""

import os
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
CHECKOUT = TESTS.parent
BIN = Path(sys.executable).parent


def environment(**changes):
    """The environment of a process that a test starts: ours, with this checkout, these commands, no GPU."""
    people = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    own = {
        "PYTHONPATH": _ahead([CHECKOUT], "PYTHONPATH"),
        "PATH": _ahead([BIN], "PATH"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "DVC_NO_ANALYTICS": "1",
        **dict.fromkeys(people, "t@example.org"),
    }
    return os.environ | own | changes


def _ahead(folders, variable):
    """The folders, and behind them what the variable holds."""
    rest = os.environ.get(variable)
    return os.pathsep.join([*map(str, folders), *([rest] if rest else [])])
