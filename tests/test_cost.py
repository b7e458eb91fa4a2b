"""What a table will still cost is said from what its like has cost."""

import pandas as pd
import pytest

from cmw_pipeline.config.plan import Cell
from cmw_pipeline.tables.cost import estimate, recorded_speeds
from cmw_pipeline.types import ROW_COLUMNS


def row(run, method, device, seconds):
    blank = {"string": "x", "bool": False}
    values = {name: blank.get(kind, 0) for name, kind in ROW_COLUMNS.items()}
    return values | {
        "run": run,
        "dataset": "digits",
        "method": method,
        "recipe": "short",
        "device": device,
        "seconds": seconds,
    }


@pytest.fixture
def project(tmp_path):
    (tmp_path / "results").mkdir()
    rows = [
        row("a", "erm", "cpu", 3600.0),
        row("a", "erm", "cpu", 3600.0),  # best epoch and last epoch are two rows of one run
        row("b", "erm", "cpu", 7200.0),
        row("c", "erm", "A GPU", 360.0),
        row("d", "mw-net", "cpu", 1800.0),
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "results" / "t.parquet")
    return tmp_path


def cell(method, seed):
    return Cell("digits", "none", method, "short", seed)


def test_runs_count_once_and_on_the_fastest_device_that_they_were_seen_on(project):
    speeds = recorded_speeds(project)
    assert speeds["digits", "erm", "short"] == {"cpu": 5400.0, "A GPU": 360.0}
    lines = estimate([cell("erm", 0), cell("erm", 1), cell("mw-net", 0)], speeds)
    assert lines == ["2 runs, about 0.20 hours of A GPU", "1 runs, about 0.50 hours of cpu"]


def test_what_was_never_run_is_not_guessed(project):
    lines = estimate([cell("gce", 0), cell("gce", 1), cell("mw-net", 0)], recorded_speeds(project))
    assert lines[-1] == "2 runs whose like has no recorded speed (such as digits/gce/short)"
    assert estimate([cell("gce", 0)], {}) == [
        "1 runs whose like has no recorded speed (such as digits/gce/short)"
    ]


def test_a_fresh_project_has_no_speeds(tmp_path):
    assert recorded_speeds(tmp_path) == {}
