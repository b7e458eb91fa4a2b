"""The page about the layout of the code names what there is."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cmw_pipeline"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
QUOTED = re.findall(r"`([^`\n]+)`", PAGE)
PATHS = [
    text
    for text in QUOTED
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", text) and re.search(r"/|\.py$|\.yaml$", text)
]
SYMBOLS = [text for text in QUOTED if re.fullmatch(r"[\w/]+\.py:[\w.]+", text)]
MADE = {"results/"}
"""What a run makes, not the repository."""


def names(tree):
    """Everything that a module or a class defines, by name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id, node


def test_the_page_names_enough_to_be_of_use():
    assert len(PATHS) > 20 and len(SYMBOLS) > 30


@pytest.mark.parametrize("path", sorted(set(PATHS) - MADE))
def test_a_path_of_the_page_exists(path):
    assert any((folder / path).exists() for folder in (ROOT, PACKAGE, PACKAGE / "training")), path


@pytest.mark.parametrize("symbol", sorted(set(SYMBOLS)))
def test_a_name_of_the_page_exists(symbol):
    file, _, dotted = symbol.partition(":")
    node = ast.parse((PACKAGE / file).read_text())
    for name in dotted.split("."):
        found = dict(names(node))
        assert name in found, symbol
        node = found[name]


def test_the_table_of_rooms_is_whole():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    section = PAGE.split("## Rooms")[1].split("\n## ")[0]
    assert set(re.findall(r"`cmw_pipeline/(\w+)`", section)) == rooms
    torchless = {room for room in rooms if re.search(rf"`cmw_pipeline/{room}` \|[^\n]*no torch", section)}
    contracts = (ROOT / "pyproject.toml").read_text()
    contract = re.search(r'"Planning, drawing.*?source_modules = \[(.*?)\]', contracts, re.DOTALL)
    assert torchless == set(re.findall(r'"cmw_pipeline\.(\w+)"', contract[1]))
