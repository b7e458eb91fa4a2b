"""What the tables of an audit say where clean labels are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from cmw_pipeline.audit.tables import known_notes, known_table
from cmw_pipeline.data.own import UNKNOWN

LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(UNKNOWN, 2)), min_size=1, max_size=40)


def ranked(pairs, order):
    """A dataset of (given, clean) labels, -1 where nobody knows, in an order of suspicion."""
    given_label, clean = np.array(pairs).T
    data = SimpleNamespace(labels=given_label, rows=pd.DataFrame({"clean_label": clean}))
    return data, pd.DataFrame({"id": order, "rank": np.arange(1, len(order) + 1)})


@settings(deadline=None)
@given(pairs=LABELS, seed=st.integers(0, 9), listed=st.integers(0, 40))
def test_precision_and_recall_are_those_of_the_known_rows(pairs, seed, listed):
    order = np.random.default_rng(seed).permutation(len(pairs))
    data, suspects = ranked(pairs, order)
    known = known_table(data, None, suspects)
    there = [row for row in order if pairs[row][1] != UNKNOWN]
    wrong = np.array([pairs[row][0] != pairs[row][1] for row in there], bool)
    if not wrong.any():
        assert known is None and known_notes(known, listed) is None
        return
    score = -np.arange(len(wrong))
    notes = known_notes(known, listed)
    np.testing.assert_allclose(notes["average_precision"], average_precision_score(wrong, score))
    precision, recall, _ = precision_recall_curve(wrong, score)
    below = known["recall"].to_numpy() < 1
    np.testing.assert_allclose(known["precision"].to_numpy()[below], precision[::-1][1:][: below.sum()])
    np.testing.assert_allclose(known["recall"].to_numpy()[below], recall[::-1][1:][: below.sum()])
    hits = {row for row in order[:listed] if pairs[row][1] not in (UNKNOWN, pairs[row][0])}
    assert notes["recall"] == len(hits) / wrong.sum()
