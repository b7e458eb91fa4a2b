"""An audit from end to end, on vectors small enough to take seconds."""

import html
import json
import re
import shlex

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from cmw_pipeline.audit import Audit, audit, load_classifier
from cmw_pipeline.audit.features import View
from cmw_pipeline.audit.fit import Samples
from cmw_pipeline.audit.run import Asked, find
from cmw_pipeline.cli import main
from cmw_pipeline.data.own import own_arrays
from cmw_pipeline.data.scale import Scale
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.runtime.signals import StopRequest

CLASSES = ("ant", "bee", "cow")


def planted(each=60, wrong_every=6, seed=0):
    """Three clusters; every sixth label is wrong."""
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(3), each)
    values = (rng.normal(size=(len(true), 8)) + 4 * np.eye(8)[true]).astype(np.float32)
    given = np.where(np.arange(len(true)) % wrong_every == 0, (true + 1) % 3, true)
    return values, true, given


def names(labels):
    return np.array(CLASSES)[labels]


def cmw(*words):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """An .npz with planted errors, and what an audit of it left."""
    folder = tmp_path_factory.mktemp("audit")
    values, true, given = planted()
    np.savez(
        folder / "own.npz", X=values, y=names(given), split=np.where(np.arange(180) % 5, "train", "test")
    )
    done = cmw("audit", folder / "own.npz", "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return folder, true, given


def test_the_list_holds_the_wrong_labels_and_suggests_the_right_ones():
    values, true, given = planted()
    found = audit(values, names(given))
    assert isinstance(found, Audit)
    listed, wrong = set(found.listed["id"]), set(np.flatnonzero(true != given))
    assert len(listed & wrong) >= 0.9 * len(wrong)
    assert len(listed & wrong) >= 0.9 * len(listed)
    rows = found.listed[found.listed["id"].isin(wrong)]
    assert (rows["suggested"].to_numpy() == names(true)[rows["id"]]).mean() > 0.9
    assert found.notes["noise"]["low"] <= (true != given).mean() <= found.notes["noise"]["high"]
    assert found.suspects["rank"].tolist() == list(range(1, 181))
    assert found.suspects["margin"].is_monotonic_decreasing


def test_the_same_seed_gives_the_same_audit():
    values, _, given = planted(20)
    first, again = (audit(values, names(given), folds=2, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.suspects, again.suspects)


def test_without_folds_there_are_ranks_and_no_estimates():
    values, _, given = planted(30)
    found = audit(values, names(given), folds=0)
    assert found.transition is None and found.notes["noise"] is None
    assert found.suspects["loss"].isna().all() and found.classes["noise_in"].isna().all()


def test_a_class_of_fewer_samples_than_folds_is_ranked_and_not_estimated():
    values, _, given = planted(30)
    labels = names(given).astype(object)
    labels[:2] = "rare"
    found = audit(values, labels)
    rare = found.classes.set_index("name").loc["rare"]
    assert rare["count"] == 2 and np.isnan(rare["noise_in"])
    assert rare["action"] == "too few samples to estimate anything: look at all 2"
    assert found.suspects[found.suspects["given"] == "rare"]["loss"].isna().all()


def one_patient_class():
    """Forty patients of ten rows of two classes that lie far apart; the eight rows of a third are of one."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 10)
    labels = rng.integers(0, 2, 400)
    labels[0], labels[1:9] = 0, 2
    values = (0.3 * rng.normal(size=(400, 8)) + 3 * labels[:, None]).astype(np.float32)
    return values, names(labels), patient.astype(str)


@pytest.mark.parametrize("seed", [12, 13, 22])
def test_a_class_of_one_patient_is_not_estimated_by_fits_that_never_saw_it(seed):
    """By these seeds the patient is dealt to the last fold, as the first label of its rows has it."""
    values, labels, patient = one_patient_class()
    found = audit(values, labels, groups=patient, method="erm", seed=seed)
    lonely = found.classes.set_index("name").loc["cow"]
    assert np.isnan(lonely["noise_in"]) and lonely["action"].startswith("too few samples")
    assert found.notes["noise"]["value"] == 0


def test_trusted_rows_are_never_suspects():
    values, true, given = planted()
    trusted = (true == given) & (np.arange(180) % 4 == 1)
    found = audit(values, names(given), trusted=trusted, folds=0)
    assert found.notes["meta_set"] == "trusted"
    assert not set(found.listed["id"]) & set(np.flatnonzero(trusted))


def test_equal_samples_under_two_labels_are_errors_without_a_model():
    values, _, given = planted()
    values[1] = values[70]
    values[3] = values[4]
    found = audit(values, names(given), folds=0)
    assert given[1] != given[70] and given[3] == given[4]
    assert found.conflicts["id"].tolist() == [1, 70]
    assert found.notes["conflicts"] == 1


def test_pictures_are_audited_by_their_pixels():
    rng = np.random.default_rng(0)
    true = np.arange(60) % 2
    images = rng.integers(0, 60, (60, 8, 8, 1)).astype(np.uint8)
    images[true == 1, 2:6, 2:6] += 150
    given = true.copy()
    given[:6] = 1 - given[:6]
    found = audit(images, given, folds=0, backbone="none")
    assert set(found.suspects["id"][:5]) <= set(range(6))
    assert found.picture(0).shape == (32, 32, 3)


def test_an_audit_leaves_its_files_and_a_model(stored):
    folder, true, _ = stored
    left = {file.name for file in (folder / "out").iterdir()}
    assert left >= {"suspects.csv", "suspects.parquet", "classes.csv", "transition.csv", "audit.json"}
    assert left >= {"report.html", "model", "weighting"}
    summary = json.loads((folder / "out" / "audit.json").read_text())
    assert summary["train"] == 144 and summary["test"] == 36 and summary["test_accuracy"] > 60
    model = load_classifier(folder / "out")
    values = np.load(folder / "own.npz")["X"]
    assert np.mean(np.array(model.predict(values)) == names(true)) > 0.9


def test_predict_says_a_class_for_every_sample(stored):
    folder, _, _ = stored
    done = cmw("predict", folder / "out", folder / "own.npz")
    lines = done.stdout.splitlines()
    assert lines[0] == "sample,label,probability" and len(lines) == 181
    assert {line.split(",")[1] for line in lines[1:]} <= set(CLASSES)


def test_predict_calls_samples_by_their_ids(stored, tmp_path):
    values = np.load(stored[0] / "own.npz")["X"][:2]
    np.savez(tmp_path / "new.npz", X=values, id=["p7", "p9"])
    lines = cmw("predict", stored[0] / "out", tmp_path / "new.npz").stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == ["sample", "p7", "p9"]


def not_a_zip(file):
    file.write_bytes(b"PK no")


UNUSABLE = {
    "damaged": (not_a_zip, 3, "not an .npz file"),
    "objects": (lambda file: np.savez(file, X=np.zeros((2, 4), dtype=object)), 3, "y.astype(str)"),
    "words": (lambda file: np.savez(file, X=np.array([["a"] * 4])), 2, "expected (N, D) numbers"),
    "a hole": (lambda file: np.savez(file, X=[[0, 0], [0, np.nan]]), 3, "row 1: feature 1 is nan"),
    "another name": (lambda file: np.savez(file, values=np.zeros((2, 4))), 2, "call it X"),
    "too few ids": (lambda file: np.savez(file, X=np.zeros((2, 8)), id=["p7"]), 2, "1 ids of 2 samples"),
    "too few features": (lambda file: np.savez(file, X=np.zeros((2, 1))), 2, "expected (n, "),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_predicted_is_said_in_one_line(stored, tmp_path, case):
    write, code, message = UNUSABLE[case]
    write(tmp_path / "new.npz")
    done = cmw("predict", stored[0] / "out", tmp_path / "new.npz")
    assert done.exit_code == code and message in done.stderr and not done.stdout


def test_the_same_command_again_trains_nothing_and_says_the_same(stored, monkeypatch):
    folder, _, _ = stored
    before = (folder / "out" / "suspects.csv").read_bytes()
    steps = []
    monkeypatch.setattr("cmw_pipeline.training.loop._step", lambda *a: steps.append(1))
    assert cmw("audit", folder / "own.npz", "--out", folder / "out").exit_code == 0
    assert not steps and (folder / "out" / "suspects.csv").read_bytes() == before


def test_more_noise_than_allowed_is_an_exit_code(stored):
    folder, _, _ = stored
    assert cmw("audit", folder / "own.npz", "--out", folder / "out", "--fail-above", "0.05").exit_code == 3
    assert cmw("audit", folder / "own.npz", "--out", folder / "out", "--fail-above", "0.5").exit_code == 0


def test_a_review_replaces_labels_and_certifies_the_list(stored, tmp_path):
    folder, true, given = stored
    suspects = pd.read_csv(folder / "out" / "suspects.csv")
    drawn = suspects[suspects["sampled"]]
    wrong = true[drawn["id"]] != given[drawn["id"]]
    rows = {
        "id": drawn["id"],
        "verdict": np.where(wrong, "y", "n"),
        "label": np.where(wrong, names(true[drawn["id"]]), ""),
        "sampled": True,
    }
    pd.DataFrame(rows).to_csv(tmp_path / "reviewed.csv", index=False)
    done = cmw(
        "audit",
        folder / "own.npz",
        "--fast",
        "--out",
        tmp_path / "out",
        "--review",
        tmp_path / "reviewed.csv",
    )
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "audit.json").read_text())
    certificate = summary["certificate"]
    assert certificate["reviewed"] == len(drawn) and certificate["wrong"] == wrong.sum()
    assert 0 < certificate["precision_at_least"] < wrong.mean()
    after = pd.read_csv(tmp_path / "out" / "suspects.csv").set_index("id").loc[drawn["id"]]
    assert (after["given"].to_numpy() == names(true)[drawn["id"]]).all() and not after["in_list"].any()


def test_a_report_names_the_whole_command_that_takes_its_review(stored, tmp_path):
    file, out = stored[0] / "own.npz", tmp_path / "my out"
    words = ("audit", file, "--fast", "--seed", "3", "--method", "erm", "--label", "y", "--skip-bad")
    assert cmw(*words, "--out", out).exit_code == 0
    text = html.unescape((out / "report.html").read_text())
    command = re.search(r"<code>cmw (audit .* --review reviewed.csv)</code>", text)[1]
    assert set(shlex.split(command)) == {*map(str, words), "--out", str(out), "--review", "reviewed.csv"}


def test_where_results_cannot_be_or_pictures_are_not_is_said_before_anything_is_trained(stored, tmp_path):
    file = stored[0] / "own.npz"
    done = cmw("audit", file, "--out", file)
    assert done.exit_code == 2 and "own.npz: no folder" in done.stderr
    done = cmw("audit", file, "--out", tmp_path / "out", "--backbone", "weights.pt")
    assert done.exit_code == 2 and "the samples are vectors, which weights.pt cannot see" in done.stderr
    done = cmw("predict", tmp_path, file)
    assert done.exit_code == 3 and "no card.json" in done.stderr and "audit/NAME" in done.stderr


def test_classes_of_one_sample_each_are_ranked_and_not_estimated(tmp_path):
    labels = [f"kind {row}" for row in range(20)]
    np.savez(tmp_path / "own.npz", X=np.random.default_rng(0).normal(size=(20, 3)), y=labels)
    done = cmw("audit", tmp_path / "own.npz", "--out", tmp_path / "out", "--fail-above", "1")
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert summary["noise"] is None and summary["train"] == 20


REVIEWS = {
    "id,verdict,sampled\n1,y,1\n": "no column 'label'",
    "id,verdict,label,sampled\n180,y,ant,1\n": "line 2: id '180'",
    "id,verdict,label,sampled\n1,maybe,,1\n": "line 2: verdict 'maybe'",
    "id,verdict,label,sampled\n1,n,,1\n2,y,owl,1\n": "line 3: label 'owl' is no class",
    "id,verdict,label,sampled\n1,n,,1\n1,n,,1\n": "the id 1 stands there twice",
}


@pytest.mark.parametrize("text", REVIEWS)
def test_a_bad_review_is_refused(stored, tmp_path, text):
    (tmp_path / "reviewed.csv").write_text(text)
    done = cmw(
        "audit", stored[0] / "own.npz", "--out", tmp_path / "out", "--review", tmp_path / "reviewed.csv"
    )
    assert done.exit_code == 3 and REVIEWS[text] in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_audited_is_said_in_one_line(tmp_path):
    done = cmw("audit", "nowhere")
    assert done.exit_code == 2 and done.stderr.startswith("cmw: nowhere: no such file or folder")
    values, _, given = planted(10)
    with pytest.raises(ConfigError, match="'sgd' is no method of an audit"):
        audit(values, names(given), method="sgd")
    with pytest.raises(ConfigError, match="1 folds; should be 0, or at least 2"):
        audit(values, names(given), folds=1)
    with pytest.raises(IntegrityError, match="not a classifier of an audit"):
        load_classifier(tmp_path)


def wards(file, count=120):
    """A table whose column of words has values that are numbers, too."""
    rng = np.random.default_rng(0)
    true = np.arange(count) % 2
    codes = np.array([["01", "A1", "A2"], ["02", "B1", "B2"]])[true, rng.integers(0, 3, count)]
    table = pd.DataFrame(
        {"code": codes, "x": rng.normal(size=count).round(3), "label": np.array(["no", "yes"])[true]}
    )
    table.to_csv(file, index=False)
    return table


def test_words_are_read_alike_whatever_else_the_file_holds(tmp_path):
    table = wards(tmp_path / "wards.csv")
    assert cmw("audit", tmp_path / "wards.csv", "--out", tmp_path / "out", "--fast").exit_code == 0
    whole = cmw("predict", tmp_path / "out", tmp_path / "wards.csv").output.splitlines()
    some = table[table["code"].isin(["01", "02"])]
    some.to_csv(tmp_path / "some.csv", index=False)
    part = cmw("predict", tmp_path / "out", tmp_path / "some.csv").output.splitlines()
    assert [line.partition(",")[2] for line in part[1:]] == [
        whole[row + 1].partition(",")[2] for row in some.index
    ]


def test_a_word_that_was_never_trained_on_is_refused_by_its_row(tmp_path):
    table = wards(tmp_path / "wards.csv")
    assert cmw("audit", tmp_path / "wards.csv", "--out", tmp_path / "out", "--fast").exit_code == 0
    table.loc[7, "code"] = "Z9"
    table.to_csv(tmp_path / "new.csv", index=False)
    done = cmw("predict", tmp_path / "out", tmp_path / "new.csv")
    assert done.exit_code == 3
    assert "line 9: code is 'Z9'; known are 01, 02, A1, A2, B1, B2" in done.output


def test_what_an_earlier_audit_left_in_the_folder_is_gone(tmp_path):
    values, true, given = planted(20)
    np.savez(tmp_path / "own.npz", X=values, y=names(given), clean_label=names(true))
    out = tmp_path / "out"
    assert cmw("audit", tmp_path / "own.npz", "--out", out).exit_code == 0
    assert all((out / name).exists() for name in ("known.csv", "transition.csv", "weighting"))
    np.savez(tmp_path / "own.npz", X=values, y=names(given))
    assert cmw("audit", tmp_path / "own.npz", "--out", out, "--fast", "--method", "erm").exit_code == 0
    assert not any((out / name).exists() for name in ("known.csv", "transition.csv", "weighting"))


def test_a_folder_that_holds_the_audit_of_other_data_of_that_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        wards(tmp_path / place / "data.csv")
    assert cmw("audit", "a/data.csv", "--fast").exit_code == 0
    assert cmw("audit", tmp_path / "a/data.csv", "--fast").exit_code == 0
    done = cmw("audit", "b/data.csv", "--fast")
    assert done.exit_code == 2 and "name another folder: --out FOLDER" in done.output


def test_data_without_test_samples_are_not_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cmw("init").exit_code == 0
    (tmp_path / "few.csv").write_text("x,label\n" + "".join(f"{i},{i % 2}\n" for i in range(8)))
    done = cmw("import", "few.csv")
    assert done.exit_code == 2 and "few.csv: no samples to test on" in done.output
    assert not (tmp_path / "params/few.yaml").exists() and not (tmp_path / "results").exists()


def test_another_frozen_network_is_another_fit(tmp_path):
    """Equal pictures, equal labels, equal shapes of features: what they are features of differs."""
    labels = np.arange(60) % 3
    data = own_arrays(
        np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8), names(labels)
    )
    told = (np.eye(8)[labels] * 5).astype(np.float32)
    said = [
        find(
            data,
            Samples(seen, scale=Scale.of(told)),
            View("frozen", 96, weights),
            Asked("erm", 2),
            tmp_path,
            StopRequest(),
        )[0]
        for weights, seen in (("a", told), ("b", told[:, ::-1].copy() * 0))
    ]
    assert (said[0].mean.argmax(axis=1) == labels).all()
    assert (said[1].mean.argmax(axis=1) != labels).any()
