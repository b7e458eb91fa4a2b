"""A review of data that have changed since: marks stay with their samples, or are not taken at all."""

import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.audit.review import read_review, reviewed
from cmw_pipeline.audit.tables import short
from cmw_pipeline.data.own import own_arrays
from cmw_pipeline.errors import IntegrityError

VALUES = np.arange(24, dtype=np.float32).reshape(12, 2)
LABELS = np.array(["ant", "bee", "cow"] * 4)


def marks(rows, verdict="y", label="cow", data=None):
    """What a report of these samples saves of some rows."""
    data = data or own_arrays(VALUES, LABELS)
    content = short(data.rows["content"]).to_numpy()[rows]
    frame = pd.DataFrame({"id": rows, "verdict": verdict, "label": label, "sampled": True})
    return frame.assign(given=LABELS[rows], content=content)


def labels_of(data):
    return np.array(data.class_names)[data.labels]


def test_marks_follow_their_samples_to_other_rows(tmp_path):
    file, rows = tmp_path / "reviewed.csv", [0, 1, 10]
    marks(rows).to_csv(file, index=False)
    order = np.random.default_rng(0).permutation(12)
    data = own_arrays(VALUES[order], LABELS[order])
    said = read_review(file, data)
    assert order[said.rows["id"]].tolist() == rows
    after = reviewed(data, said)
    expected = LABELS.copy()
    expected[rows] = "cow"
    assert labels_of(after).tolist() == expected[order].tolist()
    assert np.flatnonzero(after.rows["trusted"]).tolist() == sorted(said.rows["id"])


def test_marks_of_samples_that_are_gone_are_left_out_and_the_others_stay(tmp_path, caplog):
    file = tmp_path / "reviewed.csv"
    marks([0, 4, 10]).to_csv(file, index=False)
    caplog.set_level("INFO")
    said = read_review(file, own_arrays(np.delete(VALUES, 4, 0), np.delete(LABELS, 4)))
    assert said.rows["id"].tolist() == [0, 9]
    assert said.certificate()["reviewed"] == said.certificate()["wrong"] == 3, "what was seen was seen"
    assert "1 of its 3 rows are not found in the data" in caplog.text


def test_one_of_two_equal_samples_is_where_it_was_or_not_found(tmp_path):
    file, values = tmp_path / "reviewed.csv", VALUES.copy()
    values[7] = values[3]
    data = own_arrays(values, LABELS)
    marks([3, 7, 8], data=data).to_csv(file, index=False)
    assert read_review(file, data).rows["id"].tolist() == [3, 7, 8]
    without_first = own_arrays(values[1:], LABELS[1:])
    assert read_review(file, without_first).rows["id"].tolist() == [7]


@pytest.mark.parametrize(("verdict", "label"), [("y", "cow"), ("y", ""), ("n", "")])
def test_a_mark_about_another_label_is_refused(tmp_path, verdict, label):
    file, changed = tmp_path / "reviewed.csv", LABELS.copy()
    changed[3] = "bee"
    marks([1, 3], verdict, label).to_csv(file, index=False)
    with pytest.raises(IntegrityError, match="line 3: the label 'ant' was reviewed, and now it is 'bee'"):
        read_review(file, own_arrays(VALUES, changed))


def test_a_label_that_was_mended_as_the_review_says_is_trusted(tmp_path):
    file, mended = tmp_path / "reviewed.csv", LABELS.copy()
    mended[3] = "cow"
    marks([3]).to_csv(file, index=False)
    data = own_arrays(VALUES, mended)
    after = reviewed(data, read_review(file, data))
    assert labels_of(after)[3] == "cow" and after.rows["trusted"][3]


def test_a_file_written_by_hand_needs_no_content_and_may_shout(tmp_path):
    file = tmp_path / "reviewed.csv"
    file.write_text("id;verdict;label;sampled\n3;Y;cow;TRUE\n4;N;;FALSE\n")
    said = read_review(file, own_arrays(VALUES, LABELS))
    assert said.rows["given"].tolist() == ["ant", "bee"] and said.rows["verdict"].tolist() == ["y", "n"]
    assert said.certificate()["reviewed"] == 1


def test_a_sample_that_went_before_it_was_looked_at_speaks_against_the_list(tmp_path):
    file, rows = tmp_path / "reviewed.csv", [0, 4, 10]
    marks(rows, ["y", "", "y"]).to_csv(file, index=False)
    whole = read_review(file, own_arrays(VALUES, LABELS))
    assert whole.unseen == 1 and whole.certificate() is None
    said = read_review(file, own_arrays(np.delete(VALUES, 4, 0), np.delete(LABELS, 4)))
    assert (said.certificate()["wrong"], said.certificate()["reviewed"]) == (2, 3)
