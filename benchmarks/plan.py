"""Time that `snakemake -n` takes to plan a table of many cells.

    python benchmarks/plan.py --json benchmarks/results/plan.json

The cells are those of the demo with more seeds. ``own_seconds`` is our share: reading the parameters and
expanding the plan in a process that has the package loaded.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.document import read_document

ROOT = Path(__file__).parents[1]


def project(folder, cells):
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    params = read_document(ROOT / "params.yaml").values
    params["seeds"] = list(range(cells // 12))  # 3 biases x 4 methods
    (folder / "params.yaml").write_text(json.dumps(params))


def measure(cells):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project(folder, cells)
        start = time.perf_counter()
        count = len(Plan(load(folder / "params.yaml")).artefacts(["demo"]))
        own = time.perf_counter() - start
        start = time.perf_counter()
        command = ["snakemake", "results/demo.md", "-n", "--quiet", "all"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return {
            "cells": cells,
            "artefacts": count,
            "own_seconds": own,
            "dry_run_seconds": time.perf_counter() - start,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[36, 1_008, 9_996])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(cells) for cells in options.cells]
    for row in rows:
        print({key: round(value, 2) for key, value in row.items()})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
