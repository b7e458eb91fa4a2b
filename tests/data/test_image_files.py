"""Datasets of image files, in the layouts that users have them: what is read, what is refused, and why."""

import functools
import io
import json
import shutil
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.contracts import Biased, BiasRequest, DatasetRequest, MetaSet, MetaSetRequest
from cmw_pipeline.config.datasets import FACTS
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
from tests.support import trees


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setenv("CMW_WORKERS", "0")


def downloaded(root, source, folder, **words):
    """The notes, and the rows of labels and files together, of a dataset read from a folder."""
    artefact = Artefact("download", source, DatasetRequest(source=source, form="binary"))
    make(artefact, functools.partial(download.run, local=folder, **words), root)
    path = root / artefact.path
    labels, files = pd.DataFrame(read_labels(path)), read_files(path).to_pandas()
    rows = labels.merge(files, on="index", validate="one_to_one")
    return open_stored(path).manifest["notes"], rows


def counts(rows):
    return {key: len(part) for key, part in rows.groupby(["split", "test_set"])}


# --- what is read


def test_mini_webvision_is_the_google_part_of_the_first_50_classes(tmp_path):
    tree = trees.webvision(tmp_path / "tree", classes=60)
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
    tree = trees.webvision(tmp_path / "tree", classes=1000, train=1, flickr=1, ilsvrc12=None)
    _, rows = downloaded(tmp_path, "webvision", tree)
    assert counts(rows)["train", ""] == 1000 * 2


@pytest.mark.parametrize("layout", ["folders", "list", "numbers", "devkit"])
def test_ilsvrc12_is_mapped_by_its_synsets_whatever_its_layout(tmp_path, layout):
    tree = trees.webvision(tmp_path, classes=50, train=1, flickr=0, ilsvrc12=layout)
    files = read_webvision(tree, FACTS["mini-webvision"]).files
    found = files[files["test_set"] == "ilsvrc12"]
    number = found["path"].str.extract(r"_(\d+)\.JPEG$")[0].astype(int)
    assert (found["label"] == 7 * number % 50).all()
    assert len(found) == 50


def test_webvision_without_ilsvrc12_has_one_test_set(tmp_path, caplog):
    tree = trees.webvision(tmp_path / "tree", ilsvrc12=None)
    _, rows = downloaded(tmp_path, "mini-webvision", tree)
    assert ("test", "ilsvrc12") not in counts(rows)
    assert "no second test set" in caplog.text


def test_animal10n_has_its_labels_in_the_names(tmp_path):
    notes, rows = downloaded(tmp_path, "animal10n", trees.animal10n(tmp_path / "tree"))
    assert counts(rows) == {("train", ""): 40, ("test", "test"): 20}
    assert (rows["path"].str.extract(r"/(\d)_img_")[0].astype(int) == rows["label"]).all()
    assert notes["class_names"][0] == "cat"


def test_a_folder_of_ones_own_has_its_classes_in_sorted_order(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", ["zebra", "ant", "été"], test_folder="val")
    notes, rows = downloaded(tmp_path, "folder-3", tree)
    assert notes["class_names"] == ["ant", "zebra", "été"]
    assert set(rows.loc[rows["path"].str.contains("zebra"), "label"]) == {1}
    assert counts(rows) == {("train", ""): 12, ("test", "test"): 6}


def test_webfg_is_a_folder_of_as_many_classes_as_published(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", 100, train=1, test=1, test_folder="val")
    _, rows = downloaded(tmp_path, "web-aircraft", tree)
    assert rows["label"].nunique() == 100
    with pytest.raises(ConfigError, match="100 class folders; expected 196"):
        downloaded(tmp_path, "web-car", tree)


def test_a_file_is_known_by_its_size_and_sum(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", 3, train=1, test=1)
    _, rows = downloaded(tmp_path, "folder-3", tree)
    for row in rows.itertuples():
        data = (tree / row.path).read_bytes()
        assert (row.bytes, row.crc32) == (len(data), zlib.crc32(data))


# --- labels are as found


def biased(root, source, folder, bias="none"):
    downloaded(root, source, folder)
    raw = Artefact("download", source, DatasetRequest(source=source, form="binary"))
    artefact = Artefact("inject", f"x/{bias}", BiasRequest(source=source, bias=bias, seed=1), {"raw": raw})
    make(artefact, inject.run, root)
    return artefact, read_table(root / artefact.path / "labels.parquet", Biased.LABELS.columns)


def test_nobody_knows_the_clean_label_of_an_image_from_the_web(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", 3, meta=2)
    artefact, table = biased(tmp_path, "folder-3", tree, "sym-0.5")
    train = table["split"] == "train"
    notes = json.loads((tmp_path / artefact.path / "manifest.json").read_text())["notes"]
    assert notes["noise_rate"] is None and notes["clean_label_unknown"] == train.sum()
    assert table.loc[train, "clean_label"].isna().all()
    assert (table.loc[~train, "clean_label"] == table.loc[~train, "label"]).all()
    assert table.loc[train, "is_flipped"].any()


def test_trustworthy_images_of_ones_own_are_the_meta_set(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", 3, meta=2)
    source, table = biased(tmp_path, "folder-3", tree)
    artefact = Artefact("metaset", "x", MetaSetRequest(rule="clean-2", seed=1), {"biased": source})
    make(artefact, metaset.run, tmp_path)
    chosen = read_table(tmp_path / artefact.path / "metaset.parquet", MetaSet.SAMPLES.columns)
    assert set(chosen["index"]) == set(table.loc[table["split"] == "unused", "index"])
    assert np.bincount(chosen["label"]).tolist() == [2, 2, 2]


def test_without_them_there_is_no_clean_meta_set(tmp_path):
    source, _ = biased(tmp_path, "folder-3", trees.class_folders(tmp_path / "tree", 3))
    artefact = Artefact("metaset", "x", MetaSetRequest(rule="clean-2", seed=1), {"biased": source})
    with pytest.raises(ConfigError, match="not known"):
        make(artefact, metaset.run, tmp_path)


# --- what is refused


@pytest.mark.parametrize(
    "source", ["animal10n", "web-bird", "mini-webvision", "clothing1m", "imagenet-lt", "folder-3"]
)
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
    tree = trees.class_folders(tmp_path / "tree", 3)
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
    tree = trees.class_folders(tmp_path / "tree", 2, train=1, test=1)
    for number in range(998):
        (tree / "train" / "class 000" / f"link{number}.jpg").hardlink_to(
            tree / "train" / "class 000" / "0.jpg"
        )
    (tree / "test" / "class 001" / "0.jpg").rename(tree / "test" / "class 001" / "gone.jpg")
    (tree / "test" / "class 001" / "gone.jpg").write_bytes(b"\xff\xd8\xff")
    notes, rows = downloaded(tmp_path, "folder-2", tree)
    assert notes["faults"] == {"no image": 1, "a copy": 998}
    assert len(rows) == 1001
    assert not rows["path"].str.contains("gone").any()
    assert rows["index"].tolist() == list(range(1001))


def spoilt(kind, file):
    """Make a file of this kind, and return the reason that must be given."""
    whole = trees.picture(3, 0)
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
    tree = trees.webvision(tmp_path, train=1, flickr=0, val=1, ilsvrc12=None)
    file = tree / "google" / "q0003" / "0.jpg"
    file.unlink()
    reason = spoilt(kind, file)
    kept, faults = survey(tree, read_webvision(tree, FACTS["mini-webvision"]), workers=0)
    assert faults["path"].tolist() == ["google/q0003/0.jpg"]
    assert reason in faults["fault"].iloc[0]
    assert faults["left_out"].all()
    assert len(kept) == 99


CONVERTED = [
    ("CMYK", lambda: trees.picture(3, 0).convert("CMYK"), "JPEG"),
    ("16 bits", lambda: Image.fromarray((np.arange(64 * 64) * 16).astype(np.uint16).reshape(64, 64)), "PNG"),
    ("L", lambda: trees.picture(3, 0).convert("L"), "JPEG"),
    ("P", lambda: trees.picture(3, 0).convert("P"), "PNG"),
    ("RGBA", lambda: trees.picture(3, 0).convert("RGBA"), "PNG"),
]


@pytest.mark.parametrize(("name", "make_image", "form"), CONVERTED, ids=[c[0] for c in CONVERTED])
def test_other_colours_are_converted_and_reported(tmp_path, name, make_image, form):
    make_image().save(tmp_path / "x", form)
    image, converted = decode((tmp_path / "x").read_bytes())
    assert (image.mode, converted) == ("RGB", name)
    if name == "16 bits":
        assert np.asarray(image)[..., 0].ravel().tolist() == [16 * n >> 8 for n in range(64 * 64)]
    tree = trees.class_folders(tmp_path / "tree", 2)
    make_image().save(tree / "train" / "class 000" / "odd.jpg", form)
    notes, rows = downloaded(tmp_path, "folder-2", tree)
    assert notes["faults"] == {f"converted from {name}": 1}
    assert len(rows) == 13


# --- a picture is what a person sees


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def tagged(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def a_scene():
    """Four corners of their own brightness, so that every turn and mirror image is another picture."""
    scene = np.zeros((40, 60, 3), np.uint8)
    scene[:20, :30], scene[:20, 30:], scene[20:, :30] = 255, 170, 85
    return scene


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_as_its_exif_says(form, orientation):
    scene = a_scene()
    mirrored = orientation in (2, 4, 5, 7)
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}[orientation]
    seen = np.rot90(np.fliplr(scene) if mirrored and orientation in (2, 4) else scene, turns)
    if orientation in (5, 7):  # mirrored, then turned: the tables of the EXIF standard
        seen = np.fliplr(seen)
    image, converted = decode(saved(Image.fromarray(scene), form, exif=tagged(orientation)))
    assert converted == ""
    assert image.size == (seen.shape[1], seen.shape[0])
    assert np.abs(np.asarray(image).astype(int) - seen)[5:-5:10, 5:-5:10].max() <= 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"II*\0\xff\xff\xff\x7f" + b"junk" * 4, b"MM\0*\0\0\0\x08\0", b"\0" * 9])
def test_metadata_that_cannot_be_read_do_no_harm(form, exif):
    data = saved(Image.fromarray(a_scene()), form, exif=exif if form == "PNG" else b"Exif\0\0" + exif)
    assert decode(data)[0].size == (60, 40)


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_there_is_not_leaves_a_picture_as_it_is(orientation):
    assert decode(saved(Image.fromarray(a_scene()), "JPEG", exif=tagged(orientation)))[0].size == (60, 40)


def a_text(zipped):
    info = PngInfo()
    info.add_text("history", "x" * (3_000_000 if zipped else 10), zip=zipped)
    return info


def test_a_png_with_a_text_of_millions_of_letters_is_a_picture():
    data = saved(Image.fromarray(a_scene()), "PNG", pnginfo=a_text(True), exif=tagged(6))
    assert decode(data)[0].size == (40, 60)


def test_a_png_whose_text_is_damaged_is_a_picture_and_one_whose_pixels_are_is_none():
    whole = saved(Image.fromarray(a_scene()), "PNG", pnginfo=a_text(False))
    for chunk, good in ((b"tEXt", True), (b"IDAT", False)):
        data = bytearray(whole)
        data[data.index(chunk) + 6] ^= 1
        if good:
            assert np.array_equal(np.asarray(decode(bytes(data))[0]), a_scene())
        else:
            with pytest.raises(Unreadable):
                decode(bytes(data))


def drawn_on_nothing(mode):
    """A black square on a transparent sheet whose hidden colour is black or, with a palette, magenta."""
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[8:24, 8:24, 3] = 255
    if mode != "P":
        return Image.fromarray(pixels).convert(mode)
    image = Image.new("P", (32, 32), 0)
    image.putpalette([255, 0, 255, 0, 0, 0] + [0] * 762)
    image.paste(1, (8, 8, 24, 24))
    return image


SEE_THROUGH = [
    ("RGBA", "PNG", {}),
    ("LA", "PNG", {}),
    ("RGBA", "WEBP", {"lossless": True, "exact": True}),
    ("RGBA", "TIFF", {}),
    ("P", "PNG", {"transparency": 0}),
    ("P", "PNG", {"transparency": bytes([0, 255])}),
    ("P", "GIF", {"transparency": 0}),
]


@pytest.mark.parametrize(("mode", "form", "options"), SEE_THROUGH)
def test_what_is_transparent_is_white(mode, form, options):
    image, converted = decode(saved(drawn_on_nothing(mode), form, **options))
    pixels = np.asarray(image)
    assert (pixels[0, 0] == 255).all()
    assert (pixels[16, 16] == 0).all()
    assert converted


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_a_colour_that_stands_for_nothing_is_white(mode):
    key = {"L": 77, "RGB": (77, 77, 77), "I;16": 77}[mode]
    pixels = np.where(np.arange(32 * 32).reshape(32, 32) < 512, 77, 0).astype(np.uint16)
    image = Image.fromarray(pixels if mode == "I;16" else pixels.astype(np.uint8))
    found = np.asarray(
        decode(saved(image if mode == "I;16" else image.convert(mode), "PNG", transparency=key))[0]
    )
    assert (found[0] == 255).all()
    assert (found[-1] == 0).all()


RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


@pytest.mark.parametrize(
    ("values", "form", "words"),
    [
        ((RAMP * 65_535).astype(np.uint16), "PNG", "16 bits"),
        ((RAMP * 65_535).astype(np.uint16), "TIFF", "16 bits"),
        ((RAMP * 65_535).astype(">u2"), "TIFF", "16 bits"),
        ((RAMP * 255).astype(np.int32), "TIFF", "32-bit integers, taken to be of 0 to 255"),
        ((RAMP * 65_535).astype(np.int32), "TIFF", "32-bit integers, taken to be of 0 to 65,535"),
        ((RAMP * (2**31 - 1)).astype(np.int32), "TIFF", "32-bit integers, taken to be of 0 to 2,147,483,647"),
        (RAMP.astype(np.float32), "TIFF", "32-bit floats, taken to be of 0 to 1"),
        ((RAMP * 255).astype(np.float32), "TIFF", "32-bit floats, taken to be of 0 to 255"),
    ],
    ids=str,
)
def test_every_depth_goes_from_black_to_white_and_what_was_taken_for_white_is_said(values, form, words):
    image, converted = decode(saved(Image.fromarray(values), form))
    assert converted == words
    assert np.abs(np.asarray(image)[..., 0] - RAMP * 255).max() <= 1


@pytest.mark.parametrize("values", [RAMP - 0.5, RAMP * 300, np.full((64, 64), np.nan), RAMP * np.inf])
def test_numbers_of_no_known_range_are_not_guessed(values):
    with np.errstate(all="ignore"), pytest.raises(Unreadable, match="32-bit floats of no known range"):
        decode(saved(Image.fromarray(values.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_that_counts_from_white_down_is_seen_as_it_is_meant(dtype):
    data = bytearray(saved(Image.fromarray((RAMP * np.iinfo(dtype).max).astype(dtype)), "TIFF"))
    place = data.find(struct.pack("<HHIH", 262, 3, 1, 1))
    data[place + 8] = 0
    assert np.abs(255 - np.asarray(decode(bytes(data))[0])[..., 0] - RAMP * 255).max() <= 1


def test_what_no_parser_is_meant_for_is_not_parsed(tmp_path):
    """Only everyday formats: PIL has readers for dozens of others, some of which start programs."""
    trees.picture(3, 0).save(tmp_path / "x.eps")
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
    tree = trees.webvision(tmp_path, train=1, flickr=0, ilsvrc12=None)
    with (tree / "info" / "train_filelist_google.txt").open("ab") as stream:
        stream.write(line + b"\n")
    kept, faults = survey(tree, read_webvision(tree, FACTS["mini-webvision"]), workers=0)
    (fault,) = faults["fault"]
    assert reason in fault.lower() or reason in fault
    assert len(kept) == 100


@pytest.mark.parametrize("line", [b"just-a-path", b"a.jpg minus", b"a.jpg 1000", b"a.jpg -1", b"\n", b" 3"])
def test_a_line_that_is_no_path_and_label_is_refused_with_its_place(tmp_path, line):
    tree = trees.webvision(tmp_path, train=1, flickr=0, ilsvrc12=None)
    (tree / "info" / "val_filelist.txt").write_bytes(b"val000050.jpg 0\n" + line + b"\n")
    with pytest.raises(IntegrityError, match=r"val_filelist\.txt: "):
        read_webvision(tree, FACTS["mini-webvision"])


def test_names_of_bytes_that_are_no_utf8_are_counted_in_folders_too(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", 2)
    bad = bytes(tree / "train" / "class 000") + b"/\xff.jpg"
    with open(bad, "wb") as stream:  # noqa: PTH123
        stream.write((tree / "train" / "class 000" / "0.jpg").read_bytes())
    with pytest.raises(IntegrityError, match="1 a name that is not UTF-8"):
        downloaded(tmp_path, "folder-2", tree)


def test_any_path_that_leaves_the_folder_is_found():
    assert fault_of("a/../b") == fault_of("..") == fault_of("/a") == "outside the folder"
    assert fault_of("a..b/c...jpg") == ""


GOOD_NAMES = [
    "Screenshot at 9.41.07\u202fAM.jpg",
    "Sn\u00edmek\u00a013.05.jpg",
    "\u3000\u5199\u771f.jpg",
    "mum \U0001f469\u200d\U0001f467.jpg",
    "co\u00adop.jpg",
    "\u200e\u05d0.jpg",
    "a\\b.jpg",
    "  spaces .jpg",
    "no suffix",
    "-rf.jpg",
    "line\u2028separator.jpg",
    "\ue000.jpg",
]


def test_good_files_are_used_whatever_letters_and_spaces_their_names_have(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", 2)
    for number, name in enumerate(GOOD_NAMES):
        trees.save(tree / "train" / "class 000" / "x.jpg", 0, 100 + number)
        (tree / "train" / "class 000" / "x.jpg").rename(tree / "train" / "class 000" / name)
    notes, rows = downloaded(tmp_path, "folder-2", tree)
    assert notes["faults"] == {}
    assert {f"train/class 000/{name}" for name in GOOD_NAMES} <= set(rows["path"])


# --- whose class is whose


def spelt_anew(tree, line):
    with (tree / "info" / "train_filelist_google.txt").open("a") as stream:
        stream.write(line + "\n")


@pytest.mark.parametrize("path", ["google//q0003/0.jpg", "google/./q0003/0.jpg", "./google/q0003/0.jpg"])
def test_a_file_that_is_listed_again_is_found_in_every_spelling(tmp_path, path):
    tree = trees.webvision(tmp_path, train=1, flickr=0, ilsvrc12=None)
    spelt_anew(tree, f"{path} 4")
    files = read_webvision(tree, FACTS["mini-webvision"]).files
    assert files.loc[files["fault"] != "", ["path", "fault"]].values.tolist() == [[path, "listed twice"]]


@pytest.mark.parametrize("name", ["train_filelist_google.txt", "val_filelist.txt"])
def test_a_list_whose_class_numbers_begin_at_1_is_noticed(tmp_path, name):
    tree = trees.webvision(tmp_path, train=1, flickr=0, ilsvrc12=None)
    file = tree / "info" / name
    lines = [line.rpartition(" ") for line in file.read_text().splitlines()]
    file.write_text("".join(f"{path} {int(label) + 1}\n" for path, _, label in lines))
    with pytest.raises(IntegrityError, match=rf"{name}: no file has the label 0\n.*from 1 to 50: subtract 1"):
        read_webvision(tree, FACTS["mini-webvision"])


def test_ilsvrc12_by_numbers_from_1_on_is_noticed(tmp_path):
    tree = trees.webvision(tmp_path, train=1, flickr=0, ilsvrc12="numbers")
    file = tree / "imagenet" / "val" / "val.txt"
    lines = [line.rpartition(" ") for line in file.read_text().splitlines()]
    file.write_text("".join(f"{path} {int(label) + 1}\n" for path, _, label in lines))
    with pytest.raises(IntegrityError, match="no file has the label 0"):
        read_webvision(tree, FACTS["mini-webvision"])


def test_a_synset_that_is_there_twice_would_move_all_classes_behind_it(tmp_path):
    tree = trees.webvision(tmp_path, train=1, flickr=0, ilsvrc12=None, listed=60)
    file = tree / "info" / "synsets.txt"
    lines = file.read_text().splitlines()
    file.write_text("".join(f"{line}\n" for line in [lines[0], *lines]))
    with pytest.raises(IntegrityError, match="synset 'n01440764' is there 2 times"):
        read_webvision(tree, FACTS["mini-webvision"])


def test_a_byte_order_mark_at_the_head_of_a_list_does_no_harm(tmp_path):
    tree = trees.webvision(tmp_path, train=1, flickr=0, ilsvrc12=None)
    file = tree / "info" / "val_filelist.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    kept, faults = survey(tree, read_webvision(tree, FACTS["mini-webvision"]), workers=0)
    assert (len(kept), len(faults)) == (100, 0)


def test_a_class_without_a_training_picture_and_an_empty_test_set_are_refused(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", ["a", "b", "c"])
    for file in (tree / "train" / "b").iterdir():
        file.unlink()
    with pytest.raises(IntegrityError, match=r"1 of 3 classes have no picture to train on; .* class 1 \(b\)"):
        downloaded(tmp_path, "folder-3", tree)
    trees.save(tree / "train" / "b" / "0.jpg", 1, 0)
    for file in tree.glob("test/*/*"):
        file.unlink()
    with pytest.raises(IntegrityError, match="no picture of the test set can be used"):
        downloaded(tmp_path, "folder-3", tree)
    for file in tree.glob("train/*/*"):
        file.unlink()
    with pytest.raises(IntegrityError, match="no picture of the train set can be used"):
        downloaded(tmp_path, "folder-3", tree)


def test_a_class_without_a_test_picture_is_said(tmp_path, caplog):
    tree = trees.class_folders(tmp_path / "tree", ["a", "b", "c"])
    shutil.rmtree(tree / "test" / "b")
    downloaded(tmp_path, "folder-3", tree)
    assert "1 classes have no test picture; the first is 1 (b)" in caplog.text


# --- the same picture twice


def copied(how, source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "copy":
        shutil.copy(source, target)
    elif how == "link":
        target.symlink_to(source)
    else:
        target.hardlink_to(source)


@pytest.mark.parametrize("how", ["copy", "link", "hard link"])
@pytest.mark.parametrize(
    ("target", "fault"),
    [("train/class 000/again.jpg", "a copy"), ("train/class 001/again.jpg", "a copy under another label")],
)
def test_a_picture_that_is_there_twice_is_counted(tmp_path, how, target, fault):
    tree = trees.class_folders(tmp_path / "tree", 2)
    copied(how, tree / "train" / "class 000" / "0.jpg", tree / target)
    notes, rows = downloaded(tmp_path, "folder-2", tree)
    assert notes["faults"] == {fault: 1}
    assert notes["verified"] is True
    assert len(rows) == 13


@pytest.mark.parametrize("how", ["copy", "link", "hard link"])
@pytest.mark.parametrize("target", ["train/class 001/again.jpg", "meta/class 000/again.jpg"])
def test_a_test_picture_outside_the_test_set_is_refused_until_somebody_says_so(tmp_path, how, target):
    tree = trees.class_folders(tmp_path / "tree", 2)
    copied(how, tree / "test" / "class 000" / "0.jpg", tree / target)
    with pytest.raises(IntegrityError, match="are test pictures too") as refused:
        downloaded(tmp_path, "folder-2", tree)
    assert f"the first is {target}, the same as test/class 000/0.jpg" in str(refused.value)
    assert "--accept-unverified" in str(refused.value)
    notes, _ = downloaded(tmp_path, "folder-2", tree, accept_unverified=True)
    assert notes["verified"] is False
    assert notes["faults"] == {"a copy of a test picture": 1}


def test_a_training_picture_that_is_listed_for_testing_too_is_refused(tmp_path):
    tree = trees.webvision(tmp_path / "tree", train=1, flickr=0, ilsvrc12=None)
    shutil.copy(tree / "google" / "q0003" / "0.jpg", tree / "val_images_256" / "val003000.jpg")
    with pytest.raises(IntegrityError, match=r"the first is google/q0003/0\.jpg, the same as val_images_256"):
        downloaded(tmp_path, "mini-webvision", tree)


# --- what lies beside the pictures


STRAYS = [
    "train/class 000/Thumbs.db",
    "test/class 001/desktop.ini",
    "train/Thumbs.db",
    "train/README.txt",
    "test/labels.csv",
    "train/__MACOSX/x.jpg",
    "train/class 000/__MACOSX/x.jpg",
    "train/class 000/notes.TXT",
]


@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_file_is_named_as_such_and_refuses_nothing(tmp_path, stray):
    tree = trees.class_folders(tmp_path / "tree", 2)
    (tree / stray).parent.mkdir(exist_ok=True)
    (tree / stray).write_bytes(b"\xd0\xcf\x11\xe0")
    notes, rows = downloaded(tmp_path, "folder-2", tree)
    assert notes["faults"] == {"a stray file, no picture": 1}
    assert len(rows) == 12


def test_hidden_files_are_no_files_of_the_set(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", 2)
    for name in (".DS_Store", "class 000/.DS_Store", "class 000/._0.jpg"):
        (tree / "train" / name).write_bytes(b"x")
    assert downloaded(tmp_path, "folder-2", tree)[0]["faults"] == {}


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            "train/class 000/more/x.jpg",
            "class 000/more: a folder inside a class folder\n.*put its pictures into",
        ),
        ("train/x.jpg", "x.jpg: a file beside the class folders\n.*put it into the folder of its class"),
        ("test/x.jpg", "x.jpg: a file beside the class folders"),
        ("test/class 002/x.jpg", "class 002: train/ has no such class"),
    ],
)
def test_a_picture_in_a_place_that_is_no_class_is_refused_with_where_to_put_it(tmp_path, place, words):
    tree = trees.class_folders(tmp_path / "tree", 2)
    trees.save(tree / place, 0, 9)
    with pytest.raises(ConfigError, match=words):
        downloaded(tmp_path, "folder-2", tree)


def test_of_test_and_val_one_is_read_and_that_is_said(tmp_path, caplog):
    tree = trees.class_folders(tmp_path / "tree", 2)
    shutil.copytree(tree / "test", tree / "val")
    _, rows = downloaded(tmp_path, "folder-2", tree)
    assert len(rows) == 12
    assert "val is not read" in caplog.text


def test_a_name_that_steers_a_terminal_is_not_printed_as_it_is(tmp_path):
    tree = trees.class_folders(tmp_path / "tree", 2)
    (tree / "train" / "class 000" / "0.jpg").rename(tree / "train" / "class 000" / "a\x1b[2J.jpg")
    with pytest.raises(IntegrityError, match="1 a name with control characters") as refused:
        downloaded(tmp_path, "folder-2", tree)
    assert "\x1b" not in str(refused.value)


def test_another_synset_than_webvisions_is_refused(tmp_path):
    tree = trees.webvision(tmp_path, train=1, flickr=0)
    trees.save(tree / "imagenet" / "val" / "n99999999" / "x.JPEG", 1, 1)
    with pytest.raises(IntegrityError, match="n99999999 is no synset"):
        read_webvision(tree, FACTS["mini-webvision"])


def test_the_same_files_give_the_same_artefact_whatever_the_number_of_workers(tmp_path, monkeypatch):
    tree = trees.class_folders(tmp_path / "tree", 3, train=40)
    contents = []
    for workers in ("0", "2"):
        monkeypatch.setenv("CMW_WORKERS", workers)
        root = tmp_path / workers
        downloaded(root, "folder-3", tree)
        (manifest,) = root.rglob("manifest.json")
        contents.append(open_stored(manifest.parent).content)
    assert contents[0] == contents[1]
