"""Datasets of image files, in the layouts that users have them: what is read, what is refused, and why."""

import functools
import zlib

import numpy as np
import pandas as pd
import pytest
import tree_factory
from PIL import Image

from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.plan import Artefact
from cmw_pipeline.data.listings import fault_of
from cmw_pipeline.data.pictures import MAX_PIXELS, Unreadable, decode
from cmw_pipeline.data.raw import read_files, read_labels
from cmw_pipeline.data.survey import survey
from cmw_pipeline.data.webvision import read_webvision
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.manifests import open_stored
from cmw_pipeline.io.tables import read_table
from cmw_pipeline.stages import download, inject, metaset
from cmw_pipeline.stages.base import make
from cmw_pipeline.types import LABEL_COLUMNS, META_COLUMNS


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setenv("CMW_WORKERS", "0")


def downloaded(root, source, folder):
    """The notes, and the rows of labels and files together, of a dataset read from a folder."""
    artefact = Artefact("download", source, {"source": source, "form": "binary"})
    make(artefact, functools.partial(download.run, local=folder), root)
    path = root / artefact.path
    rows = read_labels(path).merge(read_files(path), on="index", validate="one_to_one")
    return open_stored(path).manifest["notes"], rows


def counts(rows):
    return {key: len(part) for key, part in rows.groupby(["split", "test_set"])}


# --- what is read


def test_mini_webvision_is_the_google_part_of_the_first_50_classes(tmp_path):
    tree = tree_factory.webvision(tmp_path / "tree", classes=60)
    notes, rows = downloaded(tmp_path, "mini-webvision", tree)
    assert counts(rows) == {("train", ""): 150, ("test", "webvision"): 50, ("test", "ilsvrc12"): 50}
    assert set(rows["label"]) == set(range(50))
    train = rows[rows["split"] == "train"]
    assert train["path"].str.startswith("google/q").all()
    assert (train["path"].str.slice(8, 12).astype(int) == train["label"]).all()
    assert notes["class_names"] == [f"digit {label}" for label in range(50)]
    assert notes["root"] == str(tree)
    assert notes["faults"] == {}


def test_all_of_webvision_takes_google_and_flickr(tmp_path):
    tree = tree_factory.webvision(tmp_path / "tree", classes=20, listed=1000)
    _, rows = downloaded(tmp_path, "webvision", tree)
    assert counts(rows)["train", ""] == 20 * 4


@pytest.mark.parametrize("layout", ["folders", "list", "numbers", "devkit"])
def test_ilsvrc12_is_mapped_by_its_synsets_whatever_its_layout(tmp_path, layout):
    tree = tree_factory.webvision(tmp_path, classes=50, train=1, flickr=0, ilsvrc12=layout)
    files = read_webvision(tree, FACTS["mini-webvision"]).files
    found = files[files["test_set"] == "ilsvrc12"]
    number = found["path"].str.extract(r"_(\d+)\.JPEG$")[0].astype(int)
    assert (found["label"] == 7 * number % 50).all()
    assert len(found) == 50


def test_webvision_without_ilsvrc12_has_one_test_set(tmp_path, caplog):
    tree = tree_factory.webvision(tmp_path / "tree", ilsvrc12=None)
    _, rows = downloaded(tmp_path, "mini-webvision", tree)
    assert ("test", "ilsvrc12") not in counts(rows)
    assert "no second test set" in caplog.text


def test_animal10n_has_its_labels_in_the_names(tmp_path):
    notes, rows = downloaded(tmp_path, "animal10n", tree_factory.animal10n(tmp_path / "tree"))
    assert counts(rows) == {("train", ""): 40, ("test", "test"): 20}
    assert (rows["path"].str.extract(r"/(\d)_img_")[0].astype(int) == rows["label"]).all()
    assert notes["class_names"][0] == "cat"


def test_a_folder_of_ones_own_has_its_classes_in_sorted_order(tmp_path):
    tree = tree_factory.class_folders(tmp_path / "tree", ["zebra", "ant", "été"], test_folder="val")
    notes, rows = downloaded(tmp_path, "folder-3", tree)
    assert notes["class_names"] == ["ant", "zebra", "été"]
    assert set(rows.loc[rows["path"].str.contains("zebra"), "label"]) == {1}
    assert counts(rows) == {("train", ""): 12, ("test", "test"): 6}


def test_webfg_is_a_folder_of_as_many_classes_as_published(tmp_path):
    tree = tree_factory.class_folders(tmp_path / "tree", 100, train=1, test=1, test_folder="val")
    _, rows = downloaded(tmp_path, "web-aircraft", tree)
    assert rows["label"].nunique() == 100
    with pytest.raises(ConfigError, match="100 class folders; expected 196"):
        downloaded(tmp_path, "web-car", tree)


def test_a_file_is_known_by_its_size_and_sum(tmp_path):
    tree = tree_factory.class_folders(tmp_path / "tree", 3, train=1, test=1)
    _, rows = downloaded(tmp_path, "folder-3", tree)
    for row in rows.itertuples():
        data = (tree / row.path).read_bytes()
        assert (row.bytes, row.crc32) == (len(data), zlib.crc32(data))


# --- labels are as found


def biased(root, source, folder, bias="none"):
    downloaded(root, source, folder)
    raw = Artefact("download", source, {"source": source, "form": "binary"})
    artefact = Artefact("inject", f"x/{bias}", {"bias": bias, "seed": 1, "source": source}, {"raw": raw})
    make(artefact, inject.run, root)
    return artefact, read_table(root / artefact.path / "labels.parquet", LABEL_COLUMNS)


def test_nobody_knows_the_clean_label_of_an_image_from_the_web(tmp_path):
    tree = tree_factory.class_folders(tmp_path / "tree", 3, meta=2)
    _, table = biased(tmp_path, "folder-3", tree, "sym-0.5")
    train = table["split"] == "train"
    assert table.loc[train, "clean_label"].isna().all()
    assert (table.loc[~train, "clean_label"] == table.loc[~train, "label"]).all()
    assert table.loc[train, "is_flipped"].any()


def test_trustworthy_images_of_ones_own_are_the_meta_set(tmp_path):
    tree = tree_factory.class_folders(tmp_path / "tree", 3, meta=2)
    source, table = biased(tmp_path, "folder-3", tree)
    artefact = Artefact("metaset", "x", {"rule": "clean-2", "seed": 1}, {"biased": source})
    make(artefact, metaset.run, tmp_path)
    chosen = read_table(tmp_path / artefact.path / "metaset.parquet", META_COLUMNS)
    assert set(chosen["index"]) == set(table.loc[table["split"] == "unused", "index"])
    assert np.bincount(chosen["label"]).tolist() == [2, 2, 2]


def test_without_them_there_is_no_clean_meta_set(tmp_path):
    source, _ = biased(tmp_path, "folder-3", tree_factory.class_folders(tmp_path / "tree", 3))
    artefact = Artefact("metaset", "x", {"rule": "clean-2", "seed": 1}, {"biased": source})
    with pytest.raises(ConfigError, match="not known"):
        make(artefact, metaset.run, tmp_path)


# --- what is refused


@pytest.mark.parametrize("source", ["animal10n", "web-bird", "mini-webvision", "webvision", "folder-3"])
def test_where_the_images_are_had_is_said_when_they_are_not_there(tmp_path, source):
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (None, tmp_path / "nowhere", empty):
        with pytest.raises(ConfigError) as raised:
            downloaded(tmp_path, source, folder)
        assert "not there" in str(raised.value)
        assert FACTS[source].files.home in str(raised.value)
        assert FACTS[source].files.expected in str(raised.value)
    assert not list((tmp_path / "results" / "download").glob("*"))


def test_a_set_with_too_many_bad_files_is_refused_and_the_report_stays(tmp_path):
    tree = tree_factory.class_folders(tmp_path / "tree", 3)
    (tree / "train" / "class 000" / "0.jpg").write_bytes(b"")
    (tree / "train" / "class 001" / "1.jpg").write_text("no image")
    with pytest.raises(IntegrityError) as raised:
        downloaded(tmp_path, "folder-3", tree)
    message = str(raised.value)
    assert "2 of 18 files cannot be used, more than 0.1%: " in message
    assert "1 empty" in message
    assert "1 no image" in message
    assert "train/class 000/0.jpg" in message
    report = pd.read_parquet(message.rpartition("are in ")[2])
    assert set(report["path"]) == {"train/class 000/0.jpg", "train/class 001/1.jpg"}


def test_one_bad_file_in_a_thousand_is_left_out_and_reported(tmp_path):
    tree = tree_factory.class_folders(tmp_path / "tree", 2, train=1, test=1)
    for number in range(998):
        (tree / "train" / "class 000" / f"link{number}.jpg").hardlink_to(
            tree / "train" / "class 000" / "0.jpg"
        )
    (tree / "test" / "class 001" / "0.jpg").rename(tree / "test" / "class 001" / "gone.jpg")
    (tree / "test" / "class 001" / "gone.jpg").write_bytes(b"\xff\xd8\xff")
    notes, rows = downloaded(tmp_path, "folder-2", tree)
    assert notes["faults"] == {"damaged": 1} or notes["faults"] == {"no image": 1}
    assert len(rows) == 1001
    assert not rows["path"].str.contains("gone").any()
    assert rows["index"].tolist() == list(range(1001))


def spoilt(kind, file):
    """Make a file of this kind, and return the reason that must be given."""
    whole = tree_factory.picture(3, 0)
    if kind == "missing":
        return "missing"
    if kind == "empty":
        file.write_bytes(b"")
        return "empty"
    if kind == "truncated":
        whole.resize((200, 200)).save(file, "JPEG")
        file.write_bytes(file.read_bytes()[:-400])
        return "truncated"
    if kind == "bomb":
        side = int(MAX_PIXELS**0.5) + 1
        Image.new("1", (side, side)).save(file, "PNG")
        assert file.stat().st_size < 100_000
        return "pixels"
    if kind == "narrow":
        Image.new("L", (1, 60_000)).save(file, "PNG")
        return "times as long"
    if kind == "folder":
        file.mkdir()
        return "no file"
    file.write_bytes(b"GIF89a" + b"\0" * 50)
    return ""


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "bomb", "narrow", "folder", "damaged"])
def test_each_kind_of_bad_file_is_counted_by_its_reason(tmp_path, kind):
    tree = tree_factory.webvision(tmp_path, train=1, flickr=0, val=1, ilsvrc12=None)
    file = tree / "google" / "q0003" / "0.jpg"
    file.unlink()
    reason = spoilt(kind, file)
    kept, faults = survey(tree, read_webvision(tree, FACTS["mini-webvision"]), workers=0)
    assert faults["path"].tolist() == ["google/q0003/0.jpg"]
    assert reason in faults["fault"].iloc[0]
    assert faults["left_out"].all()
    assert len(kept) == 99


CONVERTED = [
    ("CMYK", lambda: tree_factory.picture(3, 0).convert("CMYK"), "JPEG"),
    ("16 bits", lambda: Image.fromarray((np.arange(64 * 64) * 16).astype(np.uint16).reshape(64, 64)), "PNG"),
    ("L", lambda: tree_factory.picture(3, 0).convert("L"), "JPEG"),
    ("P", lambda: tree_factory.picture(3, 0).convert("P"), "PNG"),
    ("RGBA", lambda: tree_factory.picture(3, 0).convert("RGBA"), "PNG"),
]


@pytest.mark.parametrize(("name", "make_image", "form"), CONVERTED, ids=[c[0] for c in CONVERTED])
def test_other_colours_are_converted_and_reported(tmp_path, name, make_image, form):
    make_image().save(tmp_path / "x", form)
    image, converted = decode((tmp_path / "x").read_bytes())
    assert (image.mode, converted) == ("RGB", name)
    if name == "16 bits":
        assert np.asarray(image)[..., 0].ravel().tolist() == [16 * n >> 8 for n in range(64 * 64)]
    tree = tree_factory.class_folders(tmp_path / "tree", 2)
    make_image().save(tree / "train" / "class 000" / "odd.jpg", form)
    notes, rows = downloaded(tmp_path, "folder-2", tree)
    assert notes["faults"] == {f"converted from {name}": 1}
    assert len(rows) == 13


def test_what_no_parser_is_meant_for_is_not_parsed(tmp_path):
    """Only everyday formats: PIL has readers for dozens of others, some of which start programs."""
    tree_factory.picture(3, 0).save(tmp_path / "x.eps")
    with pytest.raises(Unreadable, match="no image"):
        decode((tmp_path / "x.eps").read_bytes())


BAD_LINES = [
    (b"google/../../etc/passwd 3", "outside the folder"),
    (b"/etc/passwd 3", "outside the folder"),
    (b"google/q0003/\xff\xfe.jpg 3", "not UTF-8"),
    (b"google/q0003/a\x1b[2J.jpg 3", "control characters"),
    (b"google/q0003/0.jpg 4", "listed twice"),
    (b"google/q0003/" + b"x" * 5000 + b".jpg 3", "name too long"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES, ids=[reason for _, reason in BAD_LINES])
def test_a_bad_path_in_a_list_is_counted_and_never_opened(tmp_path, line, reason):
    tree = tree_factory.webvision(tmp_path, train=1, flickr=0, ilsvrc12=None)
    with (tree / "info" / "train_filelist_google.txt").open("ab") as stream:
        stream.write(line + b"\n")
    kept, faults = survey(tree, read_webvision(tree, FACTS["mini-webvision"]), workers=0)
    (fault,) = faults["fault"]
    assert reason in fault.lower() or reason in fault
    assert len(kept) == 100


@pytest.mark.parametrize("line", [b"just-a-path", b"a.jpg minus", b"a.jpg 1000", b"a.jpg -1", b"\n", b" 3"])
def test_a_line_that_is_no_path_and_label_is_refused_with_its_place(tmp_path, line):
    tree = tree_factory.webvision(tmp_path, train=1, flickr=0, ilsvrc12=None)
    (tree / "info" / "val_filelist.txt").write_bytes(b"val000050.jpg 0\n" + line + b"\n")
    with pytest.raises(IntegrityError, match=r"val_filelist\.txt: "):
        read_webvision(tree, FACTS["mini-webvision"])


def test_names_of_bytes_that_are_no_utf8_are_counted_in_folders_too(tmp_path):
    tree = tree_factory.class_folders(tmp_path / "tree", 2)
    bad = bytes(tree / "train" / "class 000") + b"/\xff.jpg"
    with open(bad, "wb") as stream:  # noqa: PTH123
        stream.write((tree / "train" / "class 000" / "0.jpg").read_bytes())
    with pytest.raises(IntegrityError, match="1 a name that is not UTF-8"):
        downloaded(tmp_path, "folder-2", tree)


def test_any_path_that_leaves_the_folder_is_found():
    assert (
        fault_of("a/../b") == fault_of("..") == fault_of("/a") == fault_of("a\\..\\b") == "outside the folder"
    )
    assert fault_of("a..b/c...jpg") == ""


def test_another_synset_than_webvisions_is_refused(tmp_path):
    tree = tree_factory.webvision(tmp_path, train=1, flickr=0)
    tree_factory.save(tree / "imagenet" / "val" / "n99999999" / "x.JPEG", 1, 1)
    with pytest.raises(IntegrityError, match="n99999999 is no synset"):
        read_webvision(tree, FACTS["mini-webvision"])


def test_the_same_files_give_the_same_artefact_whatever_the_number_of_workers(tmp_path, monkeypatch):
    tree = tree_factory.class_folders(tmp_path / "tree", 3, train=40)
    contents = []
    for workers in ("0", "2"):
        monkeypatch.setenv("CMW_WORKERS", workers)
        root = tmp_path / workers
        downloaded(root, "folder-3", tree)
        (manifest,) = root.rglob("manifest.json")
        contents.append(open_stored(manifest.parent).content)
    assert contents[0] == contents[1]
