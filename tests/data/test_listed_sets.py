"""Clothing1M and ImageNet-LT: their lists are read in every layout, and what is wrong there is named."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.data import imagenet_lt
from cmw_pipeline.data.clothing1m import read_clothing1m
from cmw_pipeline.data.imagenet_lt import read_imagenet_lt
from cmw_pipeline.data.survey import survey
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.methods.base import Problem
from cmw_pipeline.metrics.accuracy import shot_groups, top_k_accuracy
from cmw_pipeline.training.assemble import _shots
from tests.data.test_image_files import biased, counts, downloaded
from tests.support import trees

CLOTHES = FACTS["clothing1m"]
SIX = dataclasses.replace(FACTS["imagenet-lt"], num_classes=6)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setenv("CMW_WORKERS", "0")


def rewritten(file, change):
    """The file with its lines changed."""
    file.write_text("".join(f"{line}\n" for line in change(file.read_text().splitlines())))


# --- Clothing1M


def test_training_labels_are_the_noisy_ones_and_no_clean_image_is_trained_on(tmp_path):
    notes, rows = downloaded(tmp_path, "clothing1m", trees.clothing1m(tmp_path / "tree"))
    assert counts(rows) == {("train", ""): 56, ("unused", ""): 28, ("test", "test"): 14}
    assert np.bincount(rows.loc[rows["split"] == "train", "label"]).tolist() == [4] * 14
    clean = set(rows.loc[rows["split"] != "train", "path"])
    assert not clean & set(rows.loc[rows["split"] == "train", "path"])
    assert notes["class_names"][0] == "T-shirt"


@pytest.mark.parametrize("layout", ["annotations", "beside", "inside", "combined"])
def test_every_layout_gives_the_same_listing(tmp_path, layout):
    official = read_clothing1m(trees.clothing1m(tmp_path / "official"), CLOTHES).files
    root = trees.clothing1m(tmp_path / layout, layout)
    other = read_clothing1m(root, CLOTHES).files
    assert all((root / path).is_file() for path in other["path"])
    paths = [files["path"].str.removeprefix("images/").tolist() for files in (official, other)]
    assert paths[0] == paths[1]
    assert official.drop(columns="path").equals(other.drop(columns="path"))


def test_class_folders_are_numbered_as_they_say(tmp_path):
    files = read_clothing1m(trees.clothing1m(tmp_path, "folders"), CLOTHES).files
    folder = files["path"].str.split("/").str[1].astype(int)
    assert (folder == files["label"]).all()
    assert files["split"].value_counts().to_dict() == {"train": 56, "unused": 28, "test": 14}


def test_lists_of_another_system_are_read_alike(tmp_path):
    expected = read_clothing1m(trees.clothing1m(tmp_path), CLOTHES).files
    for file in tmp_path.glob("*.txt"):
        file.write_bytes(file.read_bytes().replace(b"\n", b" \r\n").removesuffix(b" \r\n"))
    assert read_clothing1m(tmp_path, CLOTHES).files.equals(expected)


def test_the_meta_set_is_of_clean_validation_images(tmp_path):
    _, table = biased(tmp_path, "clothing1m", trees.clothing1m(tmp_path / "tree"))
    train = table["split"] == "train"
    assert table.loc[train, "clean_label"].isna().all()
    assert (table.loc[~train, "clean_label"] == table.loc[~train, "label"]).all()


def unlabelled(lines):
    return [line for line in lines if not line.startswith(lines[2].rpartition(" ")[0])]


BAD_CLOTHES = {
    "a key twice": (
        "noisy_train_key_list.txt",
        lambda lines: [*lines, lines[4]],
        r"noisy_train_key_list\.txt: line 57: .* is in line 5 of noisy_train_key_list\.txt, too",
    ),
    "without a label": (
        "noisy_label_kv.txt",
        unlabelled,
        r"noisy_train_key_list\.txt: line 3: .* has no label in the file of labels",
    ),
    "two labels": (
        "noisy_label_kv.txt",
        lambda lines: [*lines, lines[0]],
        r"noisy_label_kv\.txt: line \d+: .* has a label before; expected one",
    ),
    "label 14": (
        "noisy_label_kv.txt",
        lambda lines: [f"{lines[0].rpartition(' ')[0]} 14", *lines[1:]],
        r"noisy_label_kv\.txt: line 1: .*; expected a key and a label from 0 to 13",
    ),
    "label -1": (
        "clean_label_kv.txt",
        lambda lines: [lines[0], f"{lines[1].rpartition(' ')[0]} -1", *lines[2:]],
        r"clean_label_kv\.txt: line 2: .*; expected a key and a label from 0 to 13",
    ),
}


@pytest.mark.parametrize("kind", BAD_CLOTHES)
def test_a_bad_list_is_named_with_its_row(tmp_path, kind):
    name, change, message = BAD_CLOTHES[kind]
    trees.clothing1m(tmp_path)
    rewritten(tmp_path / name, change)
    with pytest.raises(IntegrityError, match=message) as raised:
        read_clothing1m(tmp_path, CLOTHES)
    assert "\n" not in raised.value.message


def test_an_image_in_two_lists_is_named_with_both_rows(tmp_path):
    trees.clothing1m(tmp_path, "combined")
    folder = tmp_path / "annotations"
    shared = (folder / "clean_val.txt").read_text().splitlines()[6]
    rewritten(folder / "clean_test.txt", lambda lines: [*lines, shared])
    message = r"clean_test\.txt: line 15: .* is in line 7 of clean_val\.txt, too"
    with pytest.raises(IntegrityError, match=message):
        read_clothing1m(tmp_path, CLOTHES)


def test_a_combined_line_without_a_label_is_named(tmp_path):
    trees.clothing1m(tmp_path, "combined")
    rewritten(
        tmp_path / "annotations" / "clean_test.txt",
        lambda lines: [*lines[:9], lines[9].rpartition(" ")[0], *lines[10:]],
    )
    with pytest.raises(IntegrityError, match=r"clean_test\.txt: line 10: .*expected a key and a label"):
        read_clothing1m(tmp_path, CLOTHES)


def test_a_key_without_a_file_counts_among_the_losses(tmp_path):
    tree = trees.clothing1m(tmp_path / "tree")
    first = (tree / "noisy_train_key_list.txt").read_text().splitlines()[1]
    (tree / first).unlink()
    with pytest.raises(IntegrityError, match=f"1 of 98 files cannot be used.*the first is {first}"):
        downloaded(tmp_path, "clothing1m", tree)


def test_lists_without_their_images_are_refused(tmp_path):
    tree = trees.clothing1m(tmp_path)
    (tree / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not there"):
        read_clothing1m(tree, CLOTHES)


# --- ImageNet-LT


def test_the_lists_say_what_is_trained_tested_and_trusted(tmp_path):
    listing = read_imagenet_lt(trees.imagenet_lt(tmp_path), SIX)
    files = listing.files
    of = dict(iter(files.groupby("split")))
    assert np.bincount(of["train"]["label"]).tolist() == [101, 100, 21, 20, 19, 5]
    assert np.bincount(of["unused"]["label"]).tolist() == [2] * 6
    assert np.bincount(of["test"]["label"]).tolist() == [3] * 6
    assert listing.class_names == tuple(trees.synset(label) for label in range(6))
    assert listing.problem is not None and "is not the published list" in listing.problem


@pytest.mark.parametrize(
    "words", [{"flat": True}, {"lists": "ImageNet_LT"}, {"lists": "data_txt/ImageNet_LT", "stem": ""}]
)
def test_imagenet_lt_is_read_in_every_layout(tmp_path, words):
    usual = read_imagenet_lt(trees.imagenet_lt(tmp_path / "usual", (3, 2, 1)), six(3)).files
    root = trees.imagenet_lt(tmp_path / "other", (3, 2, 1), **words)
    other = read_imagenet_lt(root, six(3)).files
    assert all((root / path).is_file() for path in other["path"])
    assert usual.drop(columns="path").equals(other.drop(columns="path"))
    assert (usual["path"].str.split("/").str[-1] == other["path"].str.split("/").str[-1]).all()


def six(num_classes):
    return dataclasses.replace(SIX, num_classes=num_classes)


def test_published_lists_are_known_by_their_ids_in_git(tmp_path, monkeypatch):
    """The id of an empty file is known to everybody who has used git."""
    lists = {part: tmp_path / f"{part}.txt" for part in ("train", "val", "test")}
    for file in lists.values():
        file.write_bytes(b"")
    assert "a063f095fcd475db4cf8b0658c4b73955535bbf9" in imagenet_lt.problem_of_lists(lists)
    empty = dict.fromkeys(lists, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
    monkeypatch.setattr(imagenet_lt, "_PUBLISHED", empty)
    assert imagenet_lt.problem_of_lists(lists) is None


def test_a_number_that_is_not_its_synset_s_place_is_named_with_its_row(tmp_path):
    trees.imagenet_lt(tmp_path, (3, 2, 1))
    rewritten(
        tmp_path / "ImageNet_LT_val.txt",
        lambda lines: [*lines[:3], f"{lines[3].rpartition(' ')[0]} 2", *lines[4:]],
    )
    message = rf"ImageNet_LT_val\.txt: line 4: {trees.synset(1)} has the label 2; expected 1"
    with pytest.raises(IntegrityError, match=message):
        read_imagenet_lt(tmp_path, six(3))


def test_a_validation_image_that_is_trained_on_is_named_with_both_rows(tmp_path):
    trees.imagenet_lt(tmp_path, (3, 2, 1))
    shared = (tmp_path / "ImageNet_LT_train.txt").read_text().splitlines()[1]
    rewritten(tmp_path / "ImageNet_LT_val.txt", lambda lines: [*lines, shared])
    message = r"ImageNet_LT_val\.txt: line 7: .* is in line 2 of ImageNet_LT_train\.txt, too"
    with pytest.raises(IntegrityError, match=message):
        read_imagenet_lt(tmp_path, six(3))


@pytest.mark.parametrize("line", ["train/a.JPEG 0", "just-a-path", "train/n01440764/a.JPEG six", "a/b/c -1"])
def test_a_line_that_is_no_image_of_a_synset_is_named_with_its_row(tmp_path, line):
    trees.imagenet_lt(tmp_path, (3, 2, 1))
    rewritten(tmp_path / "ImageNet_LT_test.txt", lambda lines: [*lines, line])
    with pytest.raises(IntegrityError, match=r"ImageNet_LT_test\.txt: line 10: "):
        read_imagenet_lt(tmp_path, six(3))


def test_a_png_by_another_name_is_read_and_reported(tmp_path):
    tree = trees.imagenet_lt(tmp_path, (3, 2, 1))
    file = tree / "train" / trees.synset(0) / f"{trees.synset(0)}_0.JPEG"
    Image.new("CMYK", (8, 8)).save(file, format="TIFF")
    kept, faults = survey(tree, read_imagenet_lt(tree, six(3)), workers=0)
    assert len(kept) == 6 + 6 + 9
    assert not faults["left_out"].any()


def test_lists_of_ones_own_need_to_be_accepted(tmp_path):
    tree = trees.imagenet_lt(tmp_path / "tree", [1] * 1000, val=0, test=1)
    with pytest.raises(IntegrityError, match="is not the published list"):
        downloaded(tmp_path, "imagenet-lt", tree)


# --- many, medium and few


def test_groups_of_classes_are_by_their_training_samples():
    """Accuracies 1, 0.5 and 0 of the groups {101}, {100, 21, 20} and {19, 5}: overall (1 + 1.5 + 0)/6."""
    counts = np.array([101, 100, 21, 20, 19, 5])
    labels = np.repeat(np.arange(6), 4)
    guesses = np.where(labels == 0, 0, np.where((labels <= 3) & (np.arange(24) % 2 == 0), labels, 6))
    logits = np.eye(7)[guesses]
    groups = shot_groups(counts, labels)
    assert {name: set(labels[rows]) for name, rows in groups.items()} == {
        "many": {0},
        "medium": {1, 2, 3},
        "few": {4, 5},
    }
    found = {name: top_k_accuracy(logits[rows], labels[rows]) for name, rows in groups.items()}
    assert found == {"many": 100.0, "medium": 50.0, "few": 0.0}
    assert top_k_accuracy(logits, labels) == pytest.approx(100 * 2.5 / 6)


def test_a_run_on_imagenet_lt_is_tested_on_all_and_on_each_group():
    """By training counts of the given labels; groups without a test sample are left out."""
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([101, 20, 30]))
    images = SimpleNamespace(facts=SIX, device=torch.device("cpu"))
    parts = _shots(images, Problem(3, labels), np.array([2, 0, 1, 0]))
    assert {name: rows.tolist() for name, rows in parts.items()} == {
        "test": [0, 1, 2, 3],
        "many": [1, 3],
        "medium": [0, 2],
    }
    assert _shots(SimpleNamespace(facts=CLOTHES), Problem(3, labels), np.array([0])) == {}
