"""The digits inside scikit-learn, and the raw artefact that any dataset becomes."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.contracts import DatasetRequest, Raw
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.data.digits import read_digits
from cmw_pipeline.data.raw import write_raw
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.tables import write_table
from cmw_pipeline.stages import download
from cmw_pipeline.stages.base import make
from tests.support.raw import read_raw


def test_the_digits_are_those_of_scikit_learn():
    images, labels, _ = read_digits()
    assert (images.shape, images.dtype) == ((1_797, 8, 8, 1), np.uint8)
    assert (labels.shape, labels.dtype) == ((1_797,), np.int16)
    assert np.array_equal(images[..., 0] / 15, load_digits().images)
    facts = FACTS["digits"]
    assert images.mean() / 255 == pytest.approx(facts.mean[0], abs=1e-3)
    assert images.std() / 255 == pytest.approx(facts.std[0], abs=1e-3)


def test_every_fifth_of_each_class_is_for_testing():
    _, labels, split = read_digits()
    for label in range(10):
        own = split[labels == label]
        assert (np.flatnonzero(own == "test") == np.arange(4, len(own), 5)).all()
    assert (split == "test").sum() == 355


def test_the_halves_are_the_digits_and_share_nothing():
    images, labels, split = read_digits()
    for source, first in (("digits-0-4", 0), ("digits-5-9", 5)):
        half, own, parts = read_digits(FACTS[source])
        rows = (labels >= first) & (labels < first + 5)
        assert np.array_equal(half, images[rows])
        assert (own + first == labels[rows]).all()
        assert (parts == split[rows]).all()


def test_other_digits_in_scikit_learn_are_noticed(monkeypatch):
    changed = load_digits()
    changed.images[5, 0, 0] += 1
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: changed)
    with pytest.raises(IntegrityError, match="sha256"):
        read_digits()


def test_the_stage_needs_no_network_and_gives_the_same_bytes_again(tmp_path):
    artefact = Artefact("download", "digits", DatasetRequest(source="digits", form="binary"))
    manifests = []
    for root in (tmp_path / "one", tmp_path / "two"):
        assert make(artefact, download.run, root)
        manifests.append(json.loads((root / artefact.manifest).read_text()))
    assert manifests[0]["files"] == manifests[1]["files"]
    assert set(manifests[0]["files"]) == {"images.npy", "labels.parquet"}
    assert manifests[0]["notes"]["verified"] is True
    assert manifests[0]["notes"]["origin"].startswith("scikit-learn ")
    images, frame = read_raw(tmp_path / "one" / artefact.path)
    expected, labels, split = read_digits()
    assert np.array_equal(images, expected)
    assert frame["label"].tolist() == labels.tolist()
    assert frame["split"].tolist() == split.tolist()
    assert frame["index"].tolist() == list(range(1_797))


# --- the raw artefact


def arrays(count=4):
    return np.zeros((count, 2, 2, 1), np.uint8), np.arange(count, dtype=np.int16), np.full(count, "train")


def test_images_are_mapped_not_loaded_and_cannot_be_written(tmp_path):
    write_raw(tmp_path, *arrays())
    images, frame = read_raw(tmp_path)
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert list(frame) == list(Raw.LABELS.columns)


@pytest.mark.parametrize(
    ("images", "labels", "split", "words"),
    [
        (np.zeros((3, 2, 2, 1), np.uint8), None, None, "3 images, 4 labels, 4 splits"),
        (np.zeros((4, 2, 2, 1), np.float32), None, None, r"images\.npy: float32 of shape"),
        (np.zeros((4, 2, 2), np.uint8), None, None, r"images\.npy: uint8 of shape \(4, 2, 2\)"),
        (None, np.array([0, 1, -1, 2], np.int16), None, r"labels\.parquet: row 2: label is .*-1"),
        (None, None, np.array(["train", "test", "train", "val"]), "row 3: split is 'val'"),
    ],
)
def test_what_does_not_fit_together_is_not_written(tmp_path, images, labels, split, words):
    given = [
        new if new is not None else old for new, old in zip((images, labels, split), arrays(), strict=True)
    ]
    with pytest.raises(IntegrityError, match=words):
        write_raw(tmp_path, *given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": [0, 1, 3, 2]}, "row 2: index is .*3"),
        ({"index": [0, None, 2, 3]}, "row 1: index is None"),
        ({"label": [0, 1, 2, None]}, "row 3: label is None"),
        ({"label": [-5, 1, 2, 3]}, "row 0: label is .*-5"),
        ({"split": ["train", None, "test", "test"]}, "row 1: split is"),
        ({"split": ["train", "unused", "test", "test"]}, "row 1: split is 'unused'"),
    ],
)
def test_a_wrong_label_table_is_refused_with_its_file_and_row(tmp_path, changes, words):
    write_raw(tmp_path, *arrays())
    frame = pd.DataFrame({"index": range(4), "label": range(4), "split": ["train"] * 4} | changes)
    write_table(tmp_path / "labels.parquet", frame, Raw.LABELS.columns)
    with pytest.raises(IntegrityError, match=rf"labels\.parquet: {words}"):
        read_raw(tmp_path)


def test_a_label_table_of_another_length_is_refused(tmp_path):
    write_raw(tmp_path, *arrays())
    np.save(tmp_path / "images.npy", np.zeros((3, 2, 2, 1), np.uint8))
    with pytest.raises(IntegrityError, match=r"labels\.parquet: 4 rows; images\.npy holds 3 images"):
        read_raw(tmp_path)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "pickled", "several"])
def test_images_that_are_no_array_are_refused(tmp_path, kind):
    write_raw(tmp_path, *arrays())
    file = tmp_path / "images.npy"
    whole = file.read_bytes()
    file.unlink()
    if kind == "pickled":
        np.save(file, np.array([{}], object))
    elif kind == "several":
        with file.open("wb") as stream:
            np.savez(stream, images=np.zeros(3))
    elif kind != "missing":
        file.write_bytes({"empty": b"", "text": b"hello", "truncated": whole[:-1]}[kind])
    with pytest.raises(IntegrityError, match=r"images\.npy: "):
        read_raw(tmp_path)
