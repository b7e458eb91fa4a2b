"""Snakemake's log in lines: one a job with its verdict, failures last and only those that stayed."""

import time

import pytest

from snakemake_logger_plugin_cmw.lines import Lines


@pytest.fixture
def lines(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "12:00:00")
    told = Lines(dry=False)
    said = told.of("run_info", "", "INFO", {"stats": {"train": 2, "table": 1, "total": 3}})
    assert said == (
        "3 jobs: 2 train, 1 table (a line for each at its end; `cmw status` shows the runs at work)"
    )
    for number in (1, 2):
        job = {"jobid": number, "rule_name": "train", "log": [f"{number}.log"]}
        assert told.of("job_info", "", "INFO", job | {"wildcards": {"name": f"d/b/m/r/seed{number}"}}) is None
    return told


def test_a_job_is_a_line_with_what_came_of_it(lines, tmp_path):
    (tmp_path / "1.log").write_text("epoch 1/1\n12:00:00 finished: test 97.50% after epoch 1\nresults/x\n")
    said = [lines.of("job_finished", "", "INFO", {"job_id": number}) for number in (1, 2)]
    assert said == [
        "12:00:00  1/3  train d/b/m/r/seed1  test 97.50% after epoch 1",
        "12:00:00  2/3  train d/b/m/r/seed2",
    ]
    assert lines.end() is None


def test_what_failed_and_stayed_so_comes_last_with_the_end_of_its_log(lines, tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.log").write_text("start\ncmw: the disk is full\nHint: free some\n")
        failed = {"jobid": number, "rule_name": "train", "log": []}
        said = lines.of("job_error", "", "ERROR", failed)
        assert said == f"12:00:00  failed  train d/b/m/r/seed{number}"
    lines.of("job_finished", "", "INFO", {"job_id": 2})
    assert lines.end() == (
        "Error in rule train: train d/b/m/r/seed1\n  1.log\n    start\n"
        "    cmw: the disk is full\n    Hint: free some"
    )


def test_a_job_that_did_not_start_is_not_explained_by_the_log_of_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.log").write_text("finished: test 97.50% after epoch 1\n")
    lines, job = Lines(dry=False), {"jobid": 1, "rule_name": "train", "log": ["1.log"]}
    lines.of("job_info", "", "INFO", job | {"wildcards": {"name": "a"}})
    lines.of("job_error", "", "ERROR", job | {"rule_msg": "sbatch: invalid partition"})
    told = lines.end()
    assert "97.50" not in told
    assert "it did not start: sbatch: invalid partition" in told


@pytest.mark.parametrize(
    ("event", "message", "level", "said"),
    [
        (None, "Building DAG of jobs...", "INFO", None),
        (None, "Nothing to be done (all requested files are present).", "INFO", "Nothing to be done (all"),
        (None, "\nThis was a dry-run (flag -n).", "INFO", "This was a dry-run"),
        (None, "MissingInputException in rule train", "ERROR", "MissingInputException in rule train"),
        (None, "an input is young", "WARNING", "an input is young"),
        ("progress", "1 of 3 steps", "INFO", None),
        ("shellcmd", "cmw train", "INFO", None),
        ("error", "WorkflowError: no such profile", "ERROR", "WorkflowError: no such profile"),
    ],
)
def test_what_is_passed_on(event, message, level, said):
    found = Lines(dry=True).of(event, message, level, {})
    assert found == said if said is None else found.startswith(said)


def test_a_dry_run_counts_once():
    lines, stats = Lines(dry=True), {"stats": {"train": 1, "total": 1}}
    assert lines.of("run_info", "", "INFO", stats) == "1 jobs: 1 train (-p lists each)"
    assert lines.of("run_info", "", "INFO", stats) is None
