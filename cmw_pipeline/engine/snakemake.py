"""Snakemake, started with the words that a user would give it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from cmw_pipeline.engine.params import VARIABLE
from cmw_pipeline.errors import INSTALL, ConfigError, SystemFault


def has_workflow(folder: Path) -> bool:
    """Whether a folder is that of a project, as ``cmw init`` lays it out."""
    return (folder / "workflow" / "Snakefile").is_file()


def run_snakemake(words: Sequence[str], params: Path | None = None, root: Path = Path()) -> int:
    """Run it in a project's folder, and give its exit code; a SIGTERM is passed on to it, and gives 143.

    Its jobs find the commands of this Python, whether or not its environment is activated.

    Args:
        words: options and targets.
        params: the parameter file; None: that of the folder.
        root: the folder.

    Raises:
        ConfigError: the folder has no workflow.
        SystemFault: Snakemake is not installed.
    """
    if not has_workflow(root):
        hint = "cd to the project's folder, or begin one: `cmw init FOLDER`"
        raise ConfigError(
            f"there is no workflow/Snakefile {'here' if root == Path() else f'in {root}'}", hint
        )
    if find_spec("snakemake") is None:
        raise SystemFault("snakemake is not installed; this command needs it", f"{INSTALL} brings it")
    own = {} if params is None else {VARIABLE: str(params)}
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "snakemake", *words]
    stopped = False
    with subprocess.Popen(command, cwd=root, env=os.environ | {"PATH": commands} | own) as child:  # noqa: S603

        def stop(*_: object) -> None:
            nonlocal stopped
            stopped = True
            child.terminate()

        before = signal.signal(signal.SIGTERM, stop)
        try:
            child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    return 128 + signal.SIGTERM if stopped else child.returncode
