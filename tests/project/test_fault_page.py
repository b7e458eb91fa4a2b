"""docs/faults.md: every fault of the list has its row, every row a test that is there or a reason."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|\n ").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| F\d+ \|", line)
]
NUM_FAULTS = 108


def test_every_fault_has_one_row():
    assert [row[0] for row in ROWS] == [f"F{number:02}" for number in range(1, NUM_FAULTS + 1)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_no_row_is_empty_and_its_tests_are_there(row):
    _, fault, behaviour, tests = row
    assert fault
    assert behaviour
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
    _, _, reason = tests.partition("· ")
    assert named or reason
    for file, test in named:
        functions = {
            node.name
            for node in ast.parse(next(TESTS.rglob(file)).read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        assert test in functions, f"{file} has no {test}"
