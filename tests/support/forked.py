"""Snakemake and DVC as forks of a process that has imported them: seconds less for each command of a test."""

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MAINS = {"snakemake": "snakemake.cli", "dvc": "dvc.cli"}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([*MAINS.values(), "cmw_pipeline.engine"])


def run(command, cwd, environment):
    """What `subprocess.run` gives of a command that ends by itself, its output as text."""
    program, *words = map(str, command)
    if program not in MAINS:
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        arguments = (program, words, Path(cwd).absolute(), environment, out, err)
        process = _FORKS.Process(target=_become, args=arguments)
        process.start()
        process.join()
        return subprocess.CompletedProcess(command, process.exitcode, out.read_text(), err.read_text())


def _become(program, words, cwd, environment, out, err):
    for fd, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program, *words]
    sys.exit(importlib.import_module(MAINS[program]).main())
