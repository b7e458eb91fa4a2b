"""Rules that no single file shows: who imports whom, what never appears, what reaches a shell.

What a tool holds stands in pyproject.toml (import-linter's contracts, ruff's rules and banned names); here
it is run, and each rule is shown to bite.
"""

import ast
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from cmw_pipeline.cli import main
from cmw_pipeline.config.artefact import STAGE_VERSIONS
from cmw_pipeline.config.document import read_yaml
from cmw_pipeline.config.load import load
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cmw_pipeline"
SOURCES = sorted(PACKAGE.rglob("*.py"))
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))

TORCHLESS = ("config", "bias", "metrics", "tables", "engine")

WRONG = {
    "A room imports only from rooms below it": ("io/atomic.py", "cmw_pipeline.runtime.logs"),
    "Planning, drawing a bias and rendering need no torch": ("tables/markdown.py", "torch"),
    "Methods never import each other": ("methods/gce.py", "cmw_pipeline.methods.focal"),
    "Weightings never import each other": (
        "methods/weightings/mcw.py",
        "cmw_pipeline.methods.weightings.l2rw",
    ),
    "The contract of the methods stands on no method and no part": (
        "methods/base.py",
        "cmw_pipeline.methods.parts.losses",
    ),
    "The loop knows methods only by their contract": ("training/ema.py", "cmw_pipeline.methods.gce"),
    "Stages never import each other": ("stages/export.py", "cmw_pipeline.stages.metaset"),
    "What learns knows no files and no data sets": ("methods/elr.py", "cmw_pipeline.io.atomic"),
}
"""contract of import-linter: (module, an import that breaks it)."""

SECURITY = {"TID251", "S102", "S202", "S301", "S307", "S501", "S602", "S604", "S605"}
REFUSED = [
    "import pickle\n",
    "import dill\n",
    "import shelve\n",
    "import yaml\n",
    "from ruamel.yaml import YAML\n",
    "import subprocess\n",
    "import multiprocessing\n",
    "import os\n\nos.environ['X'] = '1'\n",
    "import os\n\nos.getenv('X')\n",
    "import os\n\nos.system('ls')\n",
    "import torch\n\ntorch.save({}, 'x')\n",
    "import torch\n\ntorch.hub.load('x', 'y')\n",
    "import pandas as pd\n\npd.read_pickle('x')\n",
    "import tarfile\n\ntarfile.open('x').extractall()\n",
    "import shutil\n\nshutil.unpack_archive('x')\n",
    "import requests\n\nrequests.get('x', verify=False)\n",
    "eval(input())\n",
    "exec(input())\n",
    "run('ls', shell=True)\n",
]

WRITES_OUTSIDE_IO = {
    ("tables/canvas.py", "savefig"): "fills a draft: of atomic_file for tables, of publish for exports",
    ("stages/table.py", "shutil.copyfile"): "fills the draft that io.atomic.atomic_file hands to it",
    ("runtime/devices.py", "mkdir"): "makes the folder of the lock files of leased GPUs",
}
"""(file, call): why it may."""


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def room(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts != ("__init__",) else ""


def name_of(node):
    """Dotted name of an expression: ``torch.load``; of what is not a name, only the attribute: ``.load``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return ""


def calls(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield name_of(node.func), node


def keyword(call, name):
    """The value of a constant keyword argument; the argument's code where it is not a constant."""
    for argument in call.keywords:
        if argument.arg == name:
            value = argument.value
            return value.value if isinstance(value, ast.Constant) else ast.unparse(value)
    return None


# --- rooms


def lint_imports(folder):
    """The contracts of pyproject.toml on a folder's package: what import-linter says, which are broken."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout, re.findall(r"^(.*?) BROKEN", done.stdout, re.MULTILINE)


def test_rooms_import_in_their_order():
    output, broken = lint_imports(ROOT)
    assert re.search(r"Contracts: \d+ kept, 0 broken", output) and not broken, output


def test_every_contract_can_be_broken(tmp_path):
    """In a copy of the package, one import against each contract."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, imported in WRONG.values():
        with (tmp_path / PACKAGE.name / module).open("a") as file:
            file.write(f"\nimport {imported}\n")
    output, broken = lint_imports(tmp_path)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert set(broken) == set(WRONG) == {contract["name"] for contract in contracts}, output


def test_the_front_door_imports_nothing_until_it_is_asked():
    door = tree(PACKAGE / "__init__.py")
    top = [node.module for node in door.body if isinstance(node, ast.ImportFrom)]
    assert set(top) <= {"importlib", "typing"}


def test_rules_import_the_engine_and_nothing_else_of_the_package():
    allowed = {"import sys", "from cmw_pipeline import engine", "from snakemake.utils import min_version"}
    for path in [ROOT / "workflow" / "Snakefile", *RULES]:
        found = re.findall(r"^\s*((?:from|import)\s.+)$", path.read_text(), re.MULTILINE)
        assert set(found) <= allowed, f"{path.name}: {set(found) - allowed}"


def test_planning_and_rendering_need_no_torch():
    """Every module of the rooms without torch, and what Snakemake and the stages without training import."""
    script = f"""
import importlib, pkgutil, sys
for name in ("torch", "torchvision"):
    sys.modules[name] = None
for room in {TORCHLESS}:
    package = importlib.import_module("cmw_pipeline." + room)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in ("download", "inject", "metaset", "table"):
    importlib.import_module("cmw_pipeline.stages." + name)
for name in ("io.receipts", "io.manifests", "cli.main"):
    importlib.import_module("cmw_pipeline." + name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- what never appears


def ruff(*arguments, **options):
    command = [str(Path(sys.executable).with_name("ruff")), "check", "--no-cache", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_functions_are_simple_and_call_nothing_that_is_banned():
    done = ruff(PACKAGE.name)
    assert done.returncode == 0, done.stdout
    excused = [
        relative(path) for path in SOURCES if re.search(r"noqa: *(C901|PLR09|S30|TID)", path.read_text())
    ]
    assert not excused


@pytest.mark.parametrize("line", REFUSED)
def test_nothing_that_is_read_can_run_code(line):
    """Ruff refuses each way to it that a library offers, and what only ``runtime`` may do."""
    found = json.loads(
        ruff("--output-format=json", "--stdin-filename=cmw_pipeline/io/x.py", "-", input=line).stdout
    )
    assert {finding["code"] for finding in found} & SECURITY, line


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_arrays_are_read_and_written_without_pickle(path):
    """What no rule of ruff holds."""
    wrong = [
        f"line {call.lineno}: {ast.unparse(call)[:80]}"
        for name, call in calls(path)
        if (name in ("np.load", "np.save") and keyword(call, "allow_pickle") is not False)
        or (name == "torch.load" and keyword(call, "weights_only") is not True)
        or name.endswith((".to_pickle", ".read_pickle"))
    ]
    assert not wrong, f"{relative(path)}: {wrong}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_address_without_tls(path):
    found = [
        f"line {node.lineno}: {node.value[:60]!r}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "http://" in node.value
    ]
    assert not found, f"{relative(path)}: {found}"


WRITERS = {
    "write_text", "write_bytes", "savefig", "save_file", "to_parquet", "to_feather", "to_excel", "to_hdf",
    "unlink", "rename", "mkdir", "rmdir", "touch", "symlink_to", "hardlink_to", "rmtree", "savez",
    "savez_compressed", "tofile", "savetxt", "imsave", "mkdtemp", "mkstemp", "NamedTemporaryFile",
}  # fmt: skip
"""Methods that change the disk; as a plain name, ``write_text`` is the atomic one of ``io``."""


def writes(path):
    """(what, line) of everything in a file that changes the disk."""
    for node in ast.walk(tree(path)):
        name = name_of(node) if isinstance(node, ast.Attribute) else ""
        if re.fullmatch(r"shutil\.\w+|np\.save|torch\.save|pq\.write_\w+|os\.(replace|remove|link)", name):
            yield name, node.lineno
        elif name.rpartition(".")[2] in WRITERS:
            yield name.rpartition(".")[2], node.lineno
    for name, call in calls(path):
        last = name.rpartition(".")[2]
        given = {argument.arg for argument in call.keywords}
        if last in ("to_csv", "to_json", "to_markdown") and (call.args or given & {"path_or_buf", "buf"}):
            yield last, call.lineno
        words = call.args[1:] if name == "open" else call.args  # a method's first argument is the mode
        mode = keyword(call, "mode") or next(
            (a.value for a in words if isinstance(a, ast.Constant) and isinstance(a.value, str)), "r"
        )
        if last == "open" and set(str(mode)) & set("wax+"):
            yield "open", call.lineno
        if last == "replace" and len(call.args) == 1 and not name.startswith("dataclasses"):
            yield "replace", call.lineno


def test_only_io_writes_files():
    found = {
        (relative(path), what): f"{relative(path)}:{line}: {what}"
        for path in SOURCES
        if room(path) != "io"
        for what, line in writes(path)
    }
    unknown = [text for key, text in found.items() if key not in WRITES_OUTSIDE_IO]
    assert not unknown, "outside io; go through io.atomic, or add it to WRITES_OUTSIDE_IO with the reason"
    assert set(WRITES_OUTSIDE_IO) == set(found), "an exception that nothing needs any more"


def test_the_search_for_writers_finds_them(tmp_path):
    lines = [
        "Path('x').write_text('y')",
        "open('x', 'w')",
        "Path('x').open('ab')",
        "open('x', mode='r+')",
        "frame.to_csv('x')",
        "frame.to_csv(path_or_buf='x')",
        "np.save('x', a)",
        "draft.replace(path)",
        "shutil.move('a', 'b')",
    ]
    harmless = ["open('x')", "open('x', 'rb')", "frame.to_csv(index=False)", "'a'.replace('b', 'c')"]
    file = tmp_path / "module.py"
    file.write_text("\n".join(lines + harmless))
    assert sorted({line for _, line in writes(file)}) == list(range(1, len(lines) + 1))


# --- budgets


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_functions_and_files_are_short(path):
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= 60
    ]
    assert not long, f"{relative(path)}: {long}; at most 60"
    assert len(path.read_text().splitlines()) <= 300


def test_rule_files_are_short():
    assert len((ROOT / "workflow" / "Snakefile").read_text().splitlines()) <= 60
    for path in RULES:
        assert len(path.read_text().splitlines()) <= 45, path.name


# --- what reaches a shell


def shell_commands(path):
    """The commands of a rule file: all strings behind ``shell:``."""
    blocks = re.findall(r'shell:\s*\n((?:[ \t]+"[^"\n]*"[ \t]*\n?)+)', path.read_text())
    assert len(blocks) == len(re.findall(r"\bshell:", path.read_text())), (
        f"{path.name}: a shell in other form"
    )
    return ["".join(re.findall(r'"([^"\n]*)"', block)) for block in blocks]


NO_STAGES = {"init", "demo", "list", "make", "status", "import", "predict"}
NO_STAGES |= {"check", "cost", "doctor", "prune", "schema"}


def test_every_stage_is_one_rule_one_command_and_quotes_what_it_is_given():
    rules = {path.stem for path in RULES} - {"common", "resources"}
    assert rules == set(STAGE_VERSIONS)
    assert isinstance(main, click.Group)
    assert set(main.commands) - NO_STAGES == set(STAGE_VERSIONS)
    for path in RULES:
        text = path.read_text()
        assert not re.search(r"^\s+(run|script|notebook|wrapper):", text, re.MULTILINE), path.name
        if path.stem not in rules:
            continue
        if again := re.search(r"^use rule (\w+) as (\w+) with:$", text, re.MULTILINE):
            assert again[2] == path.stem
            assert f'stage="{path.stem}",' in text
            assert "params.stage" in path.with_name(f"{again[1]}.smk").read_text()
            continue
        (command,) = shell_commands(path)
        command = command.removeprefix("{params.launcher}")  # made of numbers only, in resources.smk
        assert command.startswith((f"cmw {path.stem} ", "cmw {params.stage:q} "))
        assert "params.stage" not in command or f'stage="{path.stem}",' in text
        fields = re.findall(r"\{([^{}]*)\}", command)
        assert fields
        assert all(field.endswith(":q") for field in fields), f"{path.name}: {command}"


HOSTILE = [
    "; rm -rf x",
    "$(touch canary)",
    "`touch canary`",
    "../x",
    "..",
    "/etc/passwd",
    "~root",
    "a b",
    "a\nb",
    "a\n",
    "a\0b",
    "a'b",
    'a"b',
    "a|b",
    "a&b",
    "a>b",
    "a*",
    "a\\b",
    "{output}",
    "--help",
    "-x",
    "",
    "é",
    "a" * 61,
]
CELL = "digits/asym-0.4/erm/quick/seed0"


def body(**changes):
    erm = {"kind": "erm", "label": "ERM"}
    weighting = {"kind": "cmw-net", "meta_set": "clean-2"}
    cmw = {"kind": "erm", "label": "CMW-Net", "weighting": weighting}
    return {
        "build": ["tiny"],
        "seeds": [0],
        "bias_seed": 1,
        "datasets": {"digits": {"source": "digits"}},
        "biases": {"few": ["asym-0.4"]},
        "methods": {"erm": erm, "cmw-net": cmw},
        "recipes": {
            "quick": {
                "network": {"name": "small-cnn"},
                "optimizer": {"lr": 0.1},
                "epochs": 1,
                "batch_size": 10,
            }
        },
        "tables": {
            "tiny": {
                "title": "Tiny",
                "grid": [{"dataset": "digits", "biases": "few", "methods": ["erm"], "recipe": "quick"}],
            }
        },
    } | changes


def loaded(folder, content):
    file = folder / "params.yaml"
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return load(file)


def with_name(place, text):
    """A parameter file that has the text wherever a name of this kind is written, so that it fits."""
    content = body()
    if place in ("datasets", "methods", "recipes", "biases", "tables"):
        old = {"datasets": "digits", "methods": "erm", "recipes": "quick", "biases": "few", "tables": "tiny"}
        content[place] = {text if key == old[place] else key: v for key, v in content[place].items()}
    block = next(iter(content["tables"].values()))["grid"][0]
    if place == "tables":
        content["build"] = [text]
    elif place in ("methods", "block-method"):
        block["methods"] = [text]
    elif place == "bias":
        content["biases"] = {"few": [text]}
    elif place == "meta_set":
        content["methods"]["cmw-net"]["weighting"]["meta_set"] = text
    elif place == "weighting":
        run = f"digits/{text}/cmw-net/quick/seed0"
        content["methods"]["t"] = {"kind": "erm", "label": "T", "weighting": {"kind": "frozen", "run": run}}
    elif place != "tables":
        block[{"datasets": "dataset", "recipes": "recipe", "biases": "biases"}[place]] = text
    return content


PLACES = ["datasets", "methods", "recipes", "biases", "tables", "bias", "meta_set", "weighting"]


def test_the_places_take_ordinary_names(tmp_path):
    for place in PLACES:
        text = {"bias": "sym-0.2", "meta_set": "lowest-3", "weighting": "asym-0.4"}.get(place, "plain-1.0")
        loaded(tmp_path, with_name(place, text))


@pytest.mark.parametrize("place", PLACES)
def test_a_name_with_shell_characters_is_refused_where_it_is_written(tmp_path, place):
    for text in HOSTILE:
        with pytest.raises(ConfigError):
            loaded(tmp_path, with_name(place, text))


@pytest.mark.parametrize("stage", list(STAGE_VERSIONS))
def test_a_hostile_argument_of_a_command_names_nothing(tmp_path, stage):
    plan = Plan(loaded(tmp_path, body()))
    whole = {
        "download": "digits",
        "inject": "digits/asym-0.4",
        "metaset": "digits/asym-0.4/clean-2",
        "table": "tiny",
    }.get(stage, CELL)
    parts = whole.split("/")
    for text in HOSTILE:
        for position in range(len(parts)):
            name = "/".join([*parts[:position], text, *parts[position + 1 :]])
            for form in (name, f"results/{stage}/{name}-0123456789/manifest.json", f"../{name}"):
                with pytest.raises(ConfigError):
                    plan.resolve(stage, form)


def test_free_text_reaches_no_path(tmp_path):
    """Titles and labels may hold anything; every path that Snakemake hands to a shell is of plain letters."""
    content = body()
    content["methods"]["erm"]["label"] = "$(touch canary); `x` | y"
    content["tables"]["tiny"]["title"] = "../; rm -rf x $(touch canary)"
    plain = Plan(loaded(tmp_path, body())).artefacts()
    free = Plan(loaded(tmp_path, content)).artefacts()
    assert {p for p in plain if "/table/" not in p} == {p for p in free if "/table/" not in p}
    for path in [*free, *Plan(load(ROOT / "params.yaml")).artefacts()]:
        assert re.fullmatch(r"[a-z0-9][a-zA-Z0-9.+:/-]*", path), path
        assert ".." not in path.split("/")


def test_no_secret_is_in_the_tree(tmp_path):
    """By the hook that runs before a commit, on every text of the project; and the hook can tell."""
    hooks = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    (entry,) = [hook["entry"] for hook in hooks if hook["id"] == "secrets"]

    def passes(files):
        return subprocess.run([*shlex.split(entry), *files], capture_output=True).returncode == 0

    kinds = {".py", ".md", ".yaml", ".toml", ".smk", ".rst", ".json", ".lock", ".cff", ".csv"}
    folders = ["cmw_pipeline", "workflow", "tests", "docs", "benchmarks", ".github", ".dvc"]
    texts = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    texts = [path for path in [*texts, *ROOT.iterdir()] if path.suffix in kinds and path.is_file()]
    assert len(texts) > 200
    assert passes(texts)
    for secret in ("-----BEGIN RSA " + "PRIVATE KEY-----", "AKIA" + "0" * 16, "ghp_" + "a1" * 18):
        (tmp_path / "notes.md").write_text(f"first line\n{secret}\n")
        assert not passes([*texts, tmp_path / "notes.md"])
