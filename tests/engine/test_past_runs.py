"""What runs of the same kind took says what a cluster is asked for, and what a table will still cost."""

import pandas as pd
import pytest

from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.contracts import Page
from cmw_pipeline.engine.forecast import Speed
from cmw_pipeline.engine.past_runs import START_MIB, START_MINUTES, estimate, like, mebibytes, minutes

RUN = "digits/asym-0.4/erm/short/seed7"
UNKNOWN = "digits/none/gce/short/seed0"


def row(run, device, seconds, peak, method="erm"):
    blank = {"string": "x", "bool": False}
    values = {name: blank.get(kind, 0) for name, kind in Page.ROWS.columns.items()}
    known = {"run": run, "dataset": "digits", "method": method, "recipe": "short", "device": device}
    return values | known | {"seconds": seconds, "peak_mib": peak}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "results").mkdir()
    rows = [
        row("a", "A GPU", 600.0, 3000.0),
        row("b", "cpu", 3000.0, 900.0),
        row("b", "cpu", 3000.0, 900.0),  # best epoch and last epoch are two rows of one run
        row("c", "cpu", 4200.0, 1000.0),
        row("d", "cpu", 90000.0, 9000.0, method="mw-net"),
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "results" / "t.parquet")
    pd.DataFrame(rows[:2]).to_parquet(tmp_path / "results" / "other.parquet")  # shares runs with it
    return tmp_path


class Known:
    """A forecast of the same range for every run, or of none."""

    here, speed = True, Speed("a machine", 0.01, 1.0, 2.0)

    def __init__(self, *span):
        self.span = span or None

    def seconds(self, cell):
        return self.span

    def lacks(self, cell):
        return "for a reason"


def cell(method, seed):
    return Cell("digits", "none", method, "short", seed)


def test_a_run_counts_once_in_the_mean_of_its_device(project):
    assert like(Cell.parse(RUN), project) == {"A GPU": (600.0, 3000.0), "cpu": (3600.0, 1000.0)}


def test_time_and_memory_come_from_the_slowest_device_and_the_highest_peak_of_its_like(project):
    assert minutes(RUN, 720, 1, project) == START_MINUTES + 1.5 * 3600 / 60
    assert mebibytes(RUN, 8000, 1, project) == START_MIB + 1.5 * 3000


def test_each_further_attempt_asks_for_as_much_again(project):
    for ask, unknown in ((minutes, 720), (mebibytes, 8000)):
        for run in (RUN, UNKNOWN):
            once = ask(run, unknown, 1, project)
            assert [ask(run, unknown, attempt, project) for attempt in (2, 3)] == [2 * once, 3 * once]


def test_where_nothing_is_on_record_the_rules_own_numbers_hold(project, tmp_path):
    assert minutes(UNKNOWN, 720, 1, project) == 720
    assert mebibytes(RUN, 8000, 1, tmp_path / "without results") == 8000


def test_a_request_is_a_whole_number_above_what_was_seen(tmp_path):
    (tmp_path / "results").mkdir()
    pd.DataFrame([row("a", "cpu", 61.7, 1023.4)]).to_parquet(tmp_path / "results" / "t.parquet")
    asked, room = minutes(RUN, 720, 1, tmp_path), mebibytes(RUN, 8000, 1, tmp_path)
    assert isinstance(asked, int)
    assert isinstance(room, int)
    assert asked * 60 > 61.7
    assert room > 1023.4


def test_an_estimate_counts_on_the_fastest_device_that_a_run_was_seen_on(project):
    lines = estimate([cell("erm", 0), cell("erm", 1), cell("mw-net", 0)], Known(), project)
    assert lines == ["2 runs, about 20 min of A GPU", "1 runs, about 25.0 h of cpu"]


def test_what_was_never_run_is_estimated_apart_by_its_operations(project):
    lines = estimate([cell("gce", 0), cell("gce", 1), cell("mw-net", 0)], Known(60.0, 120.0), project)
    assert lines == [
        "1 runs, about 25.0 h of cpu",
        "2 runs never timed, 2 to 4 min of a machine by their counted operations",
    ]


def test_what_nothing_is_known_of_is_not_guessed(tmp_path):
    assert estimate([cell("erm", 0)], Known(), tmp_path / "without results") == [
        "1 runs of unknown size (such as digits/erm/short): for a reason"
    ]
