"""Rules that no single file shows: who imports whom, what never appears, what reaches a shell."""

import ast
import functools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from cmw_pipeline.cli import main
from cmw_pipeline.config.document import read_yaml
from cmw_pipeline.config.load import load
from cmw_pipeline.config.plan import STAGE_VERSIONS, Plan
from cmw_pipeline.errors import ConfigError

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cmw_pipeline"
SOURCES = sorted(PACKAGE.rglob("*.py"))
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))

ORDER = [
    "errors",
    "types",
    "config",
    "io",
    "runtime",
    "data",
    "bias",
    "models",
    "metrics",
    "meta",
    "methods",
    "tables",
    "training",
    "stages",
    "cli",
]
"""A room imports only from rooms before it."""
GROUND = {"errors", "types", "config"}
"""What every later room may import."""
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "config": set(),
    "io": set(),
    "runtime": {"io"},
    "data": {"io"},
    "bias": {"runtime"},
    "models": set(),
    "metrics": set(),
    "meta": {"io", "runtime"},
    "methods": {"meta"},
    "tables": {"metrics"},
    "training": {"io", "runtime", "data", "metrics", "meta", "methods"},
    "stages": {"io", "runtime", "data", "bias", "models", "meta", "methods", "tables", "training"},
    "cli": {"io", "runtime", "stages", "tables"},
}
"""What each room imports beside itself and the ground. A new line between two rooms is written down here."""

TORCHLESS = ("config", "bias", "metrics", "tables")

WRITES_OUTSIDE_IO = {
    ("tables/figures.py", "savefig"): "fills a draft: of atomic_file for tables, of publish for exports",
    ("stages/table.py", "shutil.copyfile"): "fills the draft that io.atomic.atomic_file hands to it",
    ("stages/table.py", "unlink"): "takes away a receipt before the files that it describes change",
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


class Imported(NamedTuple):
    module: str
    line: int


def imports(path):
    """Every import of a file, also those inside functions; relative ones are refused elsewhere (TID)."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Imported(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                yield Imported(f"{node.module}.{alias.name}", node.lineno)


def own_imports(path):
    """(parts of the module after the package's name, line) of imports from this package."""
    for module, line in imports(path):
        head, *rest = module.split(".")
        if head == "cmw_pipeline":
            yield rest, line


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


def test_every_room_has_its_place():
    found = {room(path) for path in SOURCES} - {""}
    assert found == set(ORDER) == set(MAY_IMPORT)
    for name, others in MAY_IMPORT.items():
        before = set(ORDER[: ORDER.index(name)])
        assert others <= before, f"{name} may import only what stands before it: {sorted(others - before)}"
    sisters = {"data", "bias", "models", "metrics"}
    assert not any(MAY_IMPORT[name] & sisters for name in sisters)


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path)], ids=relative)
def test_a_room_imports_only_rooms_before_it(path):
    here = room(path)
    allowed = MAY_IMPORT[here] | (GROUND & set(ORDER[: ORDER.index(here)])) | {here, "__version__"}
    wrong = [f"line {line}: {'.'.join(to)}" for to, line in own_imports(path) if to[0] not in allowed]
    assert not wrong, f"{relative(path)} (room {here}) imports {wrong}"


def test_the_front_door_imports_nothing_until_it_is_asked():
    door = tree(PACKAGE / "__init__.py")
    top = [node.module for node in door.body if isinstance(node, ast.ImportFrom)]
    assert top == ["typing"]


def test_methods_never_import_each_other():
    """A file of the room imports its contract and the parts; a part imports the contract and other parts."""
    folder = PACKAGE / "methods"
    for path in folder.rglob("*.py"):
        if path.name != "registry.py":
            wrong = {".".join(to) for to, _ in own_imports(path) if to[0] == "methods"}
            wrong = {to for to in wrong if not to.startswith(("methods.base", "methods.parts."))}
            assert not wrong, f"{relative(path)} imports {wrong}"
    assert not [to for to, _ in own_imports(folder / "base.py") if to[0] == "methods"]


def test_the_loop_knows_methods_only_by_their_contract():
    for path in (PACKAGE / "training").glob("*.py"):
        known = {to[1] for to, _ in own_imports(path) if to[0] == "methods"}
        assert known <= {"base"}, f"{relative(path)} imports {known}"


def test_rules_import_only_the_plan_the_receipts_and_what_to_ask_for():
    allowed = {"cmw_pipeline.config", "cmw_pipeline.io.receipts", "snakemake.utils"}
    allowed |= {"cmw_pipeline.runtime.params", "cmw_pipeline.tables"}
    for path in [ROOT / "workflow" / "Snakefile", *RULES]:
        found = re.findall(r"^\s*(?:from|import)\s+(\S+)", path.read_text(), re.MULTILINE)
        assert set(found) <= allowed, f"{path.name} imports {set(found) - allowed}"


def test_planning_and_rendering_need_no_torch():
    """Every module of the rooms without torch, and what Snakemake and `cmw table` import, with torch away."""
    script = f"""
import importlib, pkgutil, sys
for name in ("torch", "torchvision"):
    sys.modules[name] = None
for room in {TORCHLESS}:
    package = importlib.import_module("cmw_pipeline." + room)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in ("io.receipts", "io.manifests", "stages.base", "stages.table", "cli.main"):
    importlib.import_module("cmw_pipeline." + name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- what never appears

CODE_LOADERS = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_that_is_read_can_run_code(path):
    wrong = []
    for module, line in imports(path):
        if module.split(".")[0] in CODE_LOADERS and relative(path) != "data/cifar_pickle.py":
            wrong.append(f"line {line}: imports {module}")
    for name, call in calls(path):
        last = name.rpartition(".")[2]
        if (
            name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen")
            or last in ("read_pickle", "to_pickle", "extractall", "extract", "unpack_archive")
            or (last == "YAML" and ast.unparse(call) != "YAML(typ='safe', pure=True)")
            or (name == "torch.load" and keyword(call, "weights_only") is not True)
            or (name in ("np.load", "np.save") and keyword(call, "allow_pickle") is not False)
            or name in ("torch.save", "torch.hub.load", "torch.jit.load")
            or keyword(call, "shell") not in (None, False)
            or keyword(call, "verify") is False
        ):
            wrong.append(f"line {call.lineno}: calls {ast.unparse(call)[:80]}")
    assert not wrong, f"{relative(path)}: {wrong}"


def test_yaml_is_read_in_one_place():
    readers = {relative(path) for path in SOURCES for name, _ in calls(path) if name == "YAML"}
    assert readers == {"config/document.py"}
    importers = {relative(path) for path in SOURCES for module, _ in imports(path) if "yaml" in module}
    assert importers == readers


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_address_without_tls(path):
    found = [
        f"line {node.lineno}: {node.value[:60]!r}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "http://" in node.value
    ]
    assert not found, f"{relative(path)}: {found}"


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path) != "runtime"], ids=relative)
def test_only_runtime_looks_at_the_environment_or_starts_processes(path):
    named = {name_of(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    environment = {name for name in named if re.match(r"os\.(environ|getenv|putenv|exec|spawn|fork)", name)}
    started = {m for m, _ in imports(path) if m.split(".")[0] in ("subprocess", "multiprocessing")}
    assert not environment | started, relative(path)


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


def test_functions_are_simple():
    command = ["ruff", "check", "--no-cache", "--select", "C901,PLR0911,PLR0912,PLR0915", "cmw_pipeline"]
    command[0] = str(Path(sys.executable).with_name("ruff"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    excused = [relative(path) for path in SOURCES if re.search(r"noqa: *(C901|PLR09)", path.read_text())]
    assert not excused


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


def test_every_stage_is_one_rule_one_command_and_quotes_what_it_is_given():
    rules = {path.stem for path in RULES} - {"common", "resources"}
    assert rules == set(STAGE_VERSIONS)
    assert isinstance(main, click.Group)
    assert set(main.commands) - {"check", "cost", "doctor", "prune", "schema"} == set(STAGE_VERSIONS)
    for path in RULES:
        text = path.read_text()
        assert not re.search(r"^\s+(run|script|notebook|wrapper):", text, re.MULTILINE), path.name
        if path.stem not in rules:
            continue
        (command,) = shell_commands(path)
        command = command.removeprefix("{params.launcher}")  # made of numbers only, in resources.smk
        assert command.startswith(f"cmw {path.stem} ")
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
    cmw = {"kind": "cmw-net", "label": "CMW-Net", "meta_set": "clean-2"}
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
        content["methods"]["cmw-net"]["meta_set"] = text
    elif place == "weighting":
        run = f"digits/{text}/cmw-net/quick/seed0"
        content["methods"]["t"] = {"kind": "transfer", "label": "T", "weighting": run}
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
