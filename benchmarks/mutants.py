"""Mutants of five rooms, tried by the tests of those rooms: which of them does no test notice?

    pip install mutmut                                                      # not in the lock file
    nice python benchmarks/mutants.py --seed 0 --each 40 --json benchmarks/results/mutants.json

A copy of the checkout is made in ``--folder``; there mutmut (``[tool.mutmut]`` in pyproject.toml) changes one
place of one function at a time and runs the tests that call it. So many mutants a room are drawn with the
seed from all there are. Called again, it takes the tests as they are by then and tries those that were not
killed. Why one may survive is written into the report by hand; a later report keeps it.
"""

import argparse
import json
import platform
import random
import shutil
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

ROOMS = ("meta", "methods", "bias", "io", "stages")
KILLED = ("killed", "timeout", "segfault")
FIRST = "cmw_pipeline.bias.long_tail.x_draw__mutmut_1"
"""Any one: there is no command that finds the mutants and the tests of each, and tries none."""
MUTMUT = str(Path(sys.executable).with_name("mutmut"))


def git(*words):
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def copy_into(folder):
    """What git tracks, or would, as it is in the checkout."""
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, folder / name)


def mutmut(folder, *words):
    done = subprocess.run([MUTMUT, *words], cwd=folder, capture_output=True, text=True)
    (folder / "mutmut.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"mutmut {words[0]} ended with {done.returncode}; see {folder / 'mutmut.log'}")
    return done.stdout


def statuses(folder):
    """Name of each mutant of a room -> what became of it."""
    lines = (line.strip().rpartition(": ") for line in mutmut(folder, "results", "--all", "1").splitlines())
    return {name: status for name, _, status in lines if name.startswith("cmw_pipeline.")}


def drawn(names, seed, each):
    """So many of each room."""
    by_room = {room: sorted(name for name in names if name.split(".")[1] == room) for room in ROOMS}
    return {
        room: random.Random(f"{seed}/{room}").sample(found, min(each, len(found)))
        for room, found in by_room.items()
    }


def change(folder, name):
    """The changed lines of a mutant."""
    lines = mutmut(folder, "show", name).splitlines()
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("---", "+++")]


def known_reasons(path):
    """By function and change, of the report before."""
    if path is None or not path.exists():
        return {}
    before = json.loads(path.read_text())["survivors"]
    return {(s["function"], *s["change"]): s.get("reason", "") for s in before}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=40, help="mutants a room")
    parser.add_argument("--folder", type=Path, default=Path("build/mutants"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    copy_into(args.folder)
    mutmut(args.folder, "run", "--max-children", "1", FIRST)
    before = statuses(args.folder)
    chosen = drawn(before, args.seed, args.each)
    open_ones = [name for names in chosen.values() for name in names if before[name] not in KILLED]
    if open_ones:
        mutmut(args.folder, "run", "--max-children", "1", *open_ones)
    after, reasons = statuses(args.folder), known_reasons(args.json)
    survivors = []
    for name in [name for names in chosen.values() for name in names if after[name] not in KILLED]:
        function, lines = name.rpartition("__mutmut_")[0], change(args.folder, name)
        reason = reasons.get((function, *lines), "")
        survivors.append({"function": function, "change": lines, "status": after[name], "reason": reason})
    report = {
        "commit": git("rev-parse", "--short", "HEAD").strip(),
        "python": platform.python_version(),
        "mutmut": version("mutmut"),
        "seed": args.seed,
        "mutants": {room: sum(name.split(".")[1] == room for name in after) for room in ROOMS},
        "tried": {room: len(names) for room, names in chosen.items()},
        "killed": {room: sum(after[n] in KILLED for n in names) for room, names in chosen.items()},
        "ended": dict(Counter(after[name] for names in chosen.values() for name in names)),
        "survivors": survivors,
    }
    print(json.dumps({key: value for key, value in report.items() if key != "survivors"}, indent=1))
    for survivor in survivors:
        print(survivor["function"], *survivor["change"], survivor["reason"] or "(no reason yet)", sep="\n  ")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
