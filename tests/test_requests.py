"""What a cluster is asked for: the time and memory that runs of the same kind took, and room to grow."""

import pandas as pd
import pytest

from cmw_pipeline.tables.requests import START_MIB, START_MINUTES, mebibytes, minutes
from cmw_pipeline.types import ROW_COLUMNS

RUN = "digits/asym-0.4/erm/short/seed7"


def row(run, device, seconds, peak, method="erm"):
    blank = {"string": "x", "bool": False}
    values = {name: blank.get(kind, 0) for name, kind in ROW_COLUMNS.items()}
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
    return tmp_path


def test_time_and_memory_come_from_the_slowest_device_and_the_highest_peak_of_its_like(project):
    assert minutes(RUN, 720, 1, project) == START_MINUTES + 1.5 * 3600 / 60
    assert mebibytes(RUN, 8000, 1, project) == START_MIB + 1.5 * 3000


def test_each_further_attempt_asks_for_as_much_again(project):
    for ask, unknown in ((minutes, 720), (mebibytes, 8000)):
        for run in (RUN, "digits/none/gce/short/seed0"):
            once = ask(run, unknown, 1, project)
            assert [ask(run, unknown, attempt, project) for attempt in (2, 3)] == [2 * once, 3 * once]


def test_where_nothing_is_on_record_the_rules_own_numbers_hold(project, tmp_path):
    assert minutes("digits/none/gce/short/seed0", 720, 1, project) == 720
    assert mebibytes(RUN, 8000, 1, tmp_path / "without results") == 8000


def test_a_request_is_a_whole_number_above_what_was_seen(project):
    table = project / "results" / "t.parquet"
    pd.DataFrame([row("a", "cpu", 61.7, 1023.4)]).to_parquet(table)
    asked, room = minutes(RUN, 720, 1, project), mebibytes(RUN, 8000, 1, project)
    assert isinstance(asked, int)
    assert isinstance(room, int)
    assert asked * 60 > 61.7
    assert room > 1023.4
