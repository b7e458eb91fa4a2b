"""Each command of the README and of ``docs/``, as printed and in order, in a fresh clone.

The clone has today's files and the recipe of the demo cut to seconds: one bias, one seed, four channels.
``documented_commands.txt`` says how each command is tried; the first tests hold that it lists what is
printed, neither more nor less.
"""

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.support.processes import CHECKOUT, TESTS, environment

RUN, PLAN, OPTIONS = "run", "plan", "options"
PROGRAMS = {"make", "snakemake", "dvc", "cmw", "python", "pytest", "podman", "apptainer"}
PROGRAMS |= {".venv/bin/pre-commit", ".venv/bin/cmw"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def listed():
    """Page -> command -> how it is tried."""
    pages, lines = {}, {}
    for line in (TESTS / "journeys" / "documented_commands.txt").read_text().splitlines():
        if line.startswith("["):
            lines = pages.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            command, _, how = line.partition("  # ")
            lines[command] = how
    return pages


COMMANDS = listed()


def printed(page):
    """The commands in the blocks of a page, without their comments, in order."""
    blocks = BLOCK.findall((CHECKOUT / page).read_text())
    text = "\n".join(block for language, block in blocks if not language).replace("\\\n", " ")
    lines = [" ".join(re.split(r"\s#\s", line)[0].split()) for line in text.splitlines()]
    return [line for line in lines if first_word(line) in PROGRAMS]


def first_word(line):
    return next((word for word in line.split() if not re.fullmatch("[A-Z_]+=.*", word)), "")


def tried(how):
    """(page, command) of those that are tried in one way, in order."""
    return [(page, line) for page, lines in COMMANDS.items() for line, way in lines.items() if way == how]


def test_every_page_with_commands_is_here():
    pages = ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in CHECKOUT.glob("docs/*.md"))]
    assert {page for page in pages if printed(page)} == set(COMMANDS)


@pytest.mark.parametrize("page", COMMANDS)
def test_what_is_printed_is_what_is_tried(page):
    assert list(dict.fromkeys(printed(page))) == list(COMMANDS[page])


@pytest.mark.parametrize("page", COMMANDS)
def test_a_command_that_is_tried_elsewhere_is_tried_there(page):
    for way in COMMANDS[page].values():
        if "::" in way:
            file, test = way.split("::")
            assert f"def {test}(" in next(TESTS.rglob(file)).read_text()


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What ``git clone`` would give of the files as they are now."""
    root = tmp_path_factory.mktemp("fresh") / "clone"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=CHECKOUT, text=True).split("\0"):
        if (CHECKOUT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, root / name)
    shorten(root / "params.yaml")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "clone"]):
        subprocess.run(["git", *words], cwd=root, env=environment(), check=True)
    return root


def shorten(path):
    """Cut the demo to two seconds of training."""
    params = yaml.safe_load(path.read_text())
    params["seeds"] = [0]
    params["biases"]["demo"] = ["asym-0.4"]
    params["recipes"]["digits-cnn"]["network"]["width"] = 4
    params["tables"]["demo"]["grid"][0]["methods"] = ["erm", "cmw-net"]
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    digits = path.parent / "params" / "digits.yaml"
    digits.write_text(
        digits.read_text().replace("data: digits/asym-0.4}", "data: digits/asym-0.4, folds: 0}")
    )


def typed(line, folder):
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.workflow
def test_commands_of_the_workflow_run_in_order(clone):
    """From planning to the report."""
    said = {line: typed(line, clone) for _, line in tried(RUN) if not line.startswith("cmw ")}
    assert "2 to train" in said["snakemake -n results/demo.md"]
    assert "Nothing to be done" not in said["snakemake results/demo.md"]
    assert "not made yet" not in (clone / "results/demo.md").read_text()
    report = (clone / "report.html").read_text()
    assert "demo.md" in report
    assert "demo.png" in report


@pytest.mark.workflow
def test_commands_of_the_stages_run_in_order_and_need_nothing_made_before(clone, tmp_path):
    """Without Snakemake: the whole table that git keeps stays; the partial one lies apart."""
    shutil.copy(clone / "params.yaml", tmp_path)
    shutil.copytree(clone / "params", tmp_path / "params")
    (tmp_path / "results").mkdir()
    for file in (CHECKOUT / "results").glob("demo*"):
        shutil.copy(file, tmp_path / "results")
    kept = (tmp_path / "results/demo.md").read_bytes()
    for _, line in tried(RUN):
        assert not line.startswith("cmw ") or "(was there)" not in typed(line, tmp_path)
    assert (tmp_path / "results/demo.md").read_bytes() == kept
    assert "not made yet" in (tmp_path / "results/partial/demo/demo.md").read_text()


@pytest.mark.workflow
@pytest.mark.parametrize(("page", "line"), tried(PLAN))
def test_a_command_is_planned(clone, page, line):
    said = typed(re.sub(r"\b(snakemake|make)\b", r"\1 -n", line, count=1), clone)
    assert "snakemake" not in line or "This was a dry-run" in said or "Nothing to be done" in said


@pytest.mark.parametrize(("page", "line"), tried(OPTIONS))
def test_a_measurement_knows_its_options(page, line):
    script, *words = line.partition("python ")[2].split()
    known = subprocess.run(
        [sys.executable, script, "--help"], cwd=CHECKOUT, env=environment(), capture_output=True, text=True
    )
    assert known.returncode == 0, known.stderr
    assert all(word in known.stdout for word in words if word.startswith("--"))
