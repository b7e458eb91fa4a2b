"""Snakemake as a child: what a signal to the command does to it."""

import os
import signal
import sys
import threading
import time

from cmw_pipeline.engine.snakemake import run_snakemake

CHILD = """#!/bin/sh
trap 'echo stopped > {folder}/stopped; exit 1' TERM
echo started > {folder}/started
for _ in $(seq 600); do sleep 0.1; done
"""


def test_a_sigterm_reaches_snakemake_and_is_the_exit_code(tmp_path, monkeypatch):
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "Snakefile").touch()
    child = tmp_path / "child"
    child.write_text(CHILD.format(folder=tmp_path))
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))

    def stop():
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop).start()
    assert run_snakemake([], root=tmp_path) == 143
    assert (tmp_path / "stopped").exists()
    assert signal.getsignal(signal.SIGTERM) == before
