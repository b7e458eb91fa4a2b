"""Two rounds of kill_rounds.py; the recorded fifty are in docs/faults.md."""

import random

import pytest

from tests.journeys.kill_rounds import one_round, scraps, undisturbed


@pytest.mark.workflow
def test_tables_do_not_notice_that_everything_was_killed(tmp_path):
    expected, seconds = undisturbed(tmp_path / "undisturbed")
    assert {"results/tiny.md", "results/tiny.parquet", "results/numbers/tiny.json"} <= set(expected)
    for number in range(2):
        root = tmp_path / f"round-{number}"
        kills, found = one_round(root, random.Random(number), seconds)
        assert found == expected, kills
        assert not scraps(root)
