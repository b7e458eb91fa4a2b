"""The ``cmw`` command as a user meets it: real processes, real signals, exit codes, and never a traceback."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from cmw_pipeline.cli import main
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.contracts import Biased, Raw
from cmw_pipeline.stages import download, inject, metaset
from cmw_pipeline.stages.base import make
from tests.support.processes import environment

CMW = str(Path(sys.executable).with_name("cmw"))
CELL = "digits/asym-0.4/cmw-net/quick/seed0"
PARAMS = """
build: [tiny]
seeds: [0]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {tiny: [asym-0.4]}
methods:
  cmw-net:
    kind: erm
    label: CMW-Net
    weighting: {kind: cmw-net, meta_set: clean-2, meta_batch: 20, meta_every: 7}
recipes:
  quick: {network: {name: small-cnn, width: 4}, optimizer: {lr: 0.1}, epochs: 40, batch_size: 100}
tables:
  tiny: {title: Tiny, grid: [{dataset: digits, biases: tiny, methods: [cmw-net], recipe: quick}]}
"""


def cmw(folder, *words):
    """Run to the end; returns exit code, standard output and standard error, the last without a traceback."""
    command = [CMW, *words]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=1800, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def plan(folder):
    return Plan(load(folder / "params.yaml"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def prepared(folder):
    """A project folder with everything that training reads."""
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(PARAMS)
    make(plan(folder).download("digits"), download.run, folder)
    make(plan(folder).inject("digits/asym-0.4"), inject.run, folder)
    make(plan(folder).metaset("digits/asym-0.4/clean-2"), metaset.run, folder)
    return folder


# --- the interface


FILTERS = ["--method", "--bias", "--dataset", "--recipe", "--seed"]
FROZEN = {
    "audit": [
        "place",
        "--out",
        "--fast",
        "--backbone",
        "--method",
        "--review",
        "--seed",
        "--fail-above",
        "--skip-bad",
        "--label",
        "--path",
        "--features",
        "--split",
        "--trusted",
        "--clean-label",
        "--group",
        "--id",
    ],
    "check": [],
    "cost": ["table"],
    "demo": ["folder"],
    "doctor": ["--profile"],
    "download": ["name", "--from", "--accept-unverified"],
    "export": ["name", "--onnx"],
    "import": [
        "place",
        "--name",
        "--again",
        "--skip-bad",
        "--label",
        "--path",
        "--features",
        "--split",
        "--trusted",
        "--clean-label",
        "--group",
        "--id",
    ],
    "init": ["folder"],
    "inject": ["name", "--labels", "--accept-unverified"],
    "list": ["table", *FILTERS],
    "make": ["table", "snakemake", *FILTERS],
    "metaset": ["name"],
    "predict": ["--id", "--path", "place", "run"],
    "prune": ["--yes"],
    "schema": [],
    "status": ["table"],
    "table": ["name", "--strict"],
    "train": ["name", "--checkpoint-seconds"],
    "transfer": ["name", "--checkpoint-seconds"],
}


def test_commands_and_options_are_these_and_no_others():
    found = {
        name: sorted(option for parameter in command.params for option in parameter.opts)
        for name, command in main.commands.items()
    }
    assert found == {name: sorted(options) for name, options in FROZEN.items()}
    own = sorted(o for p in main.params if isinstance(p, click.Option) for o in p.opts)
    assert own == ["--params", "--version"]


@pytest.mark.parametrize("words", [[], ["train"]])
def test_help_comes_without_loading_torch(words):
    code = (
        "import sys\nfrom cmw_pipeline.cli import main\n"
        f"try:\n    main({[*words, '--help']!r})\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command_and_shows_an_example():
    code, out, _ = cmw(Path.cwd(), "--help")
    assert code == 0
    assert all(f"  {name} " in out for name in FROZEN)
    code, out, _ = cmw(Path.cwd(), "train", "--help")
    assert code == 0
    assert "Example: cmw train digits/asym-0.4/cmw-net/digits-cnn/seed0" in " ".join(out.split())
    assert "--checkpoint-seconds" in out


def test_labels_of_ones_own_need_no_name(folder):
    make(plan(folder).download("digits"), download.run, folder)
    raw = folder / plan(folder).download("digits").path
    labels = pd.read_parquet(raw / Raw.LABELS).query("split == 'train'")["label"].to_numpy().copy()
    labels[:50] = 9 - labels[:50]
    np.save(folder / "mine.npy", labels)
    code, out, _ = cmw(folder, "inject", "digits", "--labels", "mine.npy")
    assert code == 0 and re.fullmatch(r"results/inject/digits/file-[0-9a-f]{12}-[0-9a-f]{10}\n", out)
    table = pd.read_parquet(folder / out.strip() / Biased.LABELS)
    assert (table[table["split"] == "train"]["label"] == labels).all()
    name = out.split("/")[3].rpartition("-")[0]
    assert "was there" in cmw(folder, "inject", f"digits/{name}", "--labels", "mine.npy")[1]


# --- exit code 2: the request is wrong


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["download", "digit"], ["'digit' is not in the section datasets", "digits"]),
        (["inject", "digits/asym-1.4"], ["asym-1.4"]),
        (["transfer", CELL], ["made by `cmw train`"]),
        (["inject", "results/inject/digits/asym-0.4-0123456789"], ["parameters now plan", "asym-0.4-"]),
        (["train", CELL, "--checkpoint-seconds", "-1"], ["--checkpoint-seconds", "-1"]),
        (["trian", CELL], ["No such command 'trian'"]),
        (["--params", "nowhere.yaml", "check"], ["nowhere.yaml", "no such file"]),
    ],
)
def test_a_wrong_request_ends_with_2_and_says_what_would_be_right(folder, words, expected):
    code, out, err = cmw(folder, *words)
    assert code == 2
    assert out == ""
    assert [word for word in expected if word not in err] == []
    assert not (folder / "results").exists()


def test_a_broken_parameter_file_shows_all_its_errors_at_once(folder):
    text = PARAMS.replace("lr: 0.1", "lr: -0.1").replace("epochs: 40", "epoch: 60")
    text = text.replace("biases: {tiny: [asym-0.4]}", "biases: {tiny: [asym-7]}")
    (folder / "params.yaml").write_text(text.replace("recipe: quick}]", "recipe: quack}]"))
    code, _, err = cmw(folder, "check")
    assert code == 2
    for place in ("lr", "epoch", "asym-7", "quack"):
        assert place in err


# --- exit code 3: bytes are not what they should be


def test_a_missing_input_ends_with_3_and_says_which(folder):
    code, _, err = cmw(folder, "inject", "digits/asym-0.4")
    assert code == 3
    assert str(plan(folder).download("digits").path) in err
    assert "make it first" in err


@pytest.mark.parametrize("damage", ["flipped", "missing", "manifest"])
def test_a_damaged_input_ends_with_3_and_says_how_to_go_on(folder, damage):
    raw = plan(folder).download("digits")
    make(raw, download.run, folder)
    file = folder / raw.path / ("manifest.json" if damage == "manifest" else "labels.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"flipped": data, "manifest": b"{"}[damage])
    code, _, err = cmw(folder, "inject", "digits/asym-0.4")
    assert code == 3
    assert str(raw.path) in err
    assert not list((folder / "results").glob("inject/**/*"))


# --- exit code 5: the machine cannot do it


def test_results_that_cannot_be_written_end_with_5(folder):
    (folder / "results").write_text("a file, not a folder")
    code, _, err = cmw(folder, "inject", "digits/asym-0.4")
    assert code == 5
    assert "results" in err


# --- being stopped in mid-training


class Run:
    """A ``cmw train`` in the background."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.process = subprocess.Popen(
            [CMW, "train", CELL, *options],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def wait_for(self, words):
        """Read standard error up to a line with these words."""
        for line in self.process.stderr:
            self.seen += line
            if words in line:
                return
        raise AssertionError(f"ended without saying {words!r}:\n{self.seen}")

    def end(self):
        """(exit code, standard output); everything said on standard error is in ``seen``."""
        out, err = self.process.communicate(timeout=1800)
        self.seen += err
        assert "Traceback" not in self.seen
        return self.process.returncode, out


def finished_files(folder):
    run = folder / plan(folder).train(CELL).path
    assert (run / "manifest.json").is_file()
    names = ("model.safetensors", "method.safetensors", "samples.parquet", "rows.parquet")
    return {name: (run / name).read_bytes() for name in names}


def checkpoints(folder):
    return list((folder / "results" / "checkpoints").glob("train-*/step-*/state.json"))


def artefacts(folder):
    return [path for path in (folder / "results" / "train").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Two identical commands at once in one folder: what each said, and the one run they made."""
    folder = prepared(tmp_path_factory.mktemp("undisturbed"))
    locks = folder / "results" / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"train-{plan(folder).train(CELL).digest}.lock"):
        runs = [Run(folder), Run(folder)]
        for run in runs:
            run.wait_for("is being made by another process: waiting")
    said = [(*run.end(), run.seen) for run in runs]
    return finished_files(folder), said, str(plan(folder).train(CELL).path)


def test_of_two_identical_commands_one_trains_and_the_other_waits(undisturbed):
    _, said, path = undisturbed
    assert [code for code, _, _ in said] == [0, 0]
    assert sorted(out for _, out, _ in said) == [f"{path}\n", f"{path} (was there)\n"]
    for _, out, err in said:
        assert ("epoch 40/40" in err) == ("was there" not in out)


def test_stopped_by_signals_and_killed_a_run_ends_as_if_nothing_had_happened(undisturbed, tmp_path):
    folder = prepared(tmp_path / "disturbed")
    for number, epoch in ((signal.SIGTERM, "epoch 4/40"), (signal.SIGUSR2, "epoch 9/40")):
        run = Run(folder)
        run.wait_for(epoch)
        run.process.send_signal(number)
        code, out = run.end()
        assert (code, out) == (143, "")
        assert f"stopped by {number.name}" in run.seen
        assert "the same command continues it" in run.seen
        assert len(checkpoints(folder)) >= 1
        assert artefacts(folder) == []

    run = Run(folder, "--checkpoint-seconds", "0")
    run.wait_for("epoch 13/40")
    assert "continuing in epoch" in run.seen
    run.process.kill()
    assert run.end()[0] == -signal.SIGKILL
    assert not (folder / plan(folder).train(CELL).path).exists()

    run = Run(folder)
    code, out = run.end()
    assert (code, out) == (0, f"{plan(folder).train(CELL).path}\n")
    assert "continuing in epoch 1" in run.seen  # epoch 13 or later, not the first
    (repeated,) = [line for line in run.seen.splitlines() if "epoch 12/40" in line]
    assert repeated.endswith("before")
    assert finished_files(folder) == undisturbed[0]
    assert checkpoints(folder) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGTERM, "waiting"), (signal.SIGINT, "on the CPU"), (signal.SIGUSR2, "on the CPU")],
)
def test_a_run_that_waits_for_another_can_be_stopped(folder, number, words):
    locks = folder / "results" / ".locks"
    locks.mkdir(parents=True)
    with FileLock(locks / f"train-{plan(folder).train(CELL).digest}.lock"), Run(folder) as run:
        run.wait_for(words)
        run.process.send_signal(number)
        code, out = run.end()
    assert (code, out) == (143, "")
    assert f"stopped by {number.name}" in run.seen
