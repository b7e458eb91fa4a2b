"""Processes that decode: what they do when the whole process group is asked to stop."""

import os
import signal

import pytest

from cmw_pipeline.data.workers import in_workers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_workers_leave_it_to_their_parent_to_stop(number):
    made = in_workers(lambda item: (item, os.getpid()), range(20), workers=2)
    seen = [next(made) for _ in range(4)]  # both are at work by now
    workers = {process for _, process in seen}
    for process in workers:
        os.kill(process, number)
    seen += list(made)
    assert [item for item, _ in seen] == list(range(20))
    assert {process for _, process in seen} == workers and len(workers) == 2
