"""What the README repeats is what its sources say.

``python tests/project/test_readme.py`` writes the generated parts anew.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cmw_pipeline.config.load import load
from cmw_pipeline.config.methods import KINDS
from cmw_pipeline.config.weightings import WeightingBase

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PARAMS = load(ROOT / "params.yaml")
END = "<!-- end -->\n"


def step_cost():
    """Of the recorded steps: seconds and memory of ours and of the published structure, in plain steps."""
    steps = json.loads((ROOT / "benchmarks/results/step-cpu.json").read_text())["steps"]
    plain, ours, published = (steps[name] for name in ("erm", "lookahead", "double_backward"))
    seconds = [step["seconds"] / plain["seconds"] for step in (ours, published)]
    memory = ours["peak_bytes"] / published["peak_bytes"]
    return (
        f"The step costs {seconds[0]:.2f} plain ones where the published structure costs {seconds[1]:.2f}, "
        f"at {memory:.2f} of its memory"
    )


def natural(name):
    """Orders ``table10`` behind ``table2``."""
    return [(word, int(digits or -1)) for word, digits in re.findall(r"(\D+)(\d*)", name)]


def pages():
    """Every table of the parameters, linked where its page is in git."""
    command = ["git", "ls-files", "results/*.md"]
    kept = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split()
    lines = ["| page | what |", "|---|---|"]
    for name in sorted(PARAMS.tables, key=natural):
        link = f"[`{name}`](results/{name}.md)" if f"results/{name}.md" in kept else f"`{name}`"
        lines.append(f"| {link} | {PARAMS.tables[name].title} |")
    return "\n".join(lines)


def facts(options):
    """(what, paper) of the first line of the docstring: ``Name (authors, venue): words.``"""
    line = options.__doc__.split("\n")[0].replace("``", "`").removesuffix(".")
    paper = re.search(r" \(([^)]*\d{4}[^)]*)\)", line)
    return line.replace(paper[0], "") if paper else line, paper[1] if paper else ""


def methods():
    """Every weighting and every method from its options: its kind, what it is, its paper, its file."""
    lines = ["| kind | what | paper |", "|---|---|---|"]
    for title, folder, kinds in (
        ("Weightings: how much each loss counts", "methods/weightings", WeightingBase.kinds),
        ("Methods: what is minimised", "methods", KINDS),
    ):
        lines.append(f"| **{title}** | | |")
        for kind, options in kinds.items():
            file = f"cmw_pipeline/{folder}/{options.implemented_by.partition(':')[0]}.py"
            lines.append("| [`{}`]({}) | {} | {} |".format(kind, file, *facts(options)))
    return "\n".join(lines)


@pytest.mark.parametrize("kind", sorted({*KINDS, *WeightingBase.kinds} - {"erm", "uniform"}))
def test_every_method_names_its_paper(kind):
    what, paper = facts(KINDS.get(kind) or WeightingBase.kinds[kind])
    assert what and re.search(r"\w+ .*(19|20)\d\d|arXiv", paper)


GENERATED = {"step cost": step_cost, "pages": pages, "methods": methods}


def parts(text, name):
    """(before, content, after) of a marked part."""
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    content, end, after = rest.partition(END)
    assert begin and end, name
    return before + begin, content, end + after


def with_part(text, name):
    before, _, after = parts(text, name)
    return f"{before}{GENERATED[name]()}\n{after}"


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_part_is_what_its_source_says(name):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    text = README.read_text()
    assert text == with_part(text, name), "run `python tests/project/test_readme.py`"


@pytest.mark.parametrize(("name", "page"), [("demo table", "demo"), ("photographs table", "cifar-fast")])
def test_a_table_is_that_of_its_page(name, page):
    """As committed: a demo run again on another machine may differ in the last digits."""
    committed = [
        subprocess.run(["git", "show", f"HEAD:{file}"], cwd=ROOT, capture_output=True, text=True)
        for file in ("README.md", f"results/{page}.md")
    ]
    if any(done.returncode for done in committed):
        pytest.skip("not a git checkout")
    readme, page = (done.stdout for done in committed)
    table = next(block for block in page.split("\n\n") if block.startswith("|"))
    assert parts(readme, name)[1] == table + "\n"


def test_the_picture_is_snakemakes_own(tmp_path):
    """Where nothing is made yet."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for folder in ("params", "workflow"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    command = ["snakemake", "--rulegraph", "mermaid-js", "--forceall", "results/demo.md"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert arrows(parts(README.read_text(), "dag")[1]) == arrows(done.stdout)


def arrows(chart):
    """(from, to) names of rules of a Mermaid flow chart."""
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]", chart, re.MULTILINE))
    return {(names[a], names[b]) for a, b in re.findall(r"^\s*(id\d+) --> (id\d+)", chart, re.MULTILINE)}


def test_every_linked_file_is_there():
    links = re.findall(r"\]\(([^):]+?)(?:#[\w-]+)?\)", README.read_text())
    assert len(links) > 20
    assert not [link for link in links if not (ROOT / link).exists()]


if __name__ == "__main__":
    for part in GENERATED:
        README.write_text(with_part(README.read_text(), part))
