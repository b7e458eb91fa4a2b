"""CIFAR: both forms give the same arrays, and damaged or hostile files give one line (faults F16 to F19)."""

import builtins
import functools
import hashlib
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.contracts import DatasetRequest
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.data import cifar
from cmw_pipeline.data.cifar import read_cifar
from cmw_pipeline.data.cifar_pickle import read_batch
from cmw_pipeline.data.sources import archive as archive_source
from cmw_pipeline.errors import ConfigError, IntegrityError, SystemFault
from cmw_pipeline.stages import download
from cmw_pipeline.stages.base import make
from tests.support.cifar import ROWS, entries, pickled, rows_of, shrink, tar_gz, write_folder
from tests.support.cifar import archive as archive_of
from tests.support.raw import read_raw

REAL_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
SOURCES = ("cifar10", "cifar100")


def batch(**changes):
    content = {"data": np.zeros((ROWS, 3072), np.uint8), "labels": [0] * ROWS, "batch_label": "one"}
    return {key: value for key, value in (content | changes).items() if value is not None}


# --- the two forms


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("form", ["binary", "python"])
def test_images_labels_and_splits_come_in_file_order(monkeypatch, source, form):
    images, labels, split = read_cifar(FACTS[source], shrink(monkeypatch, source)[form])
    count = len(archive_of(source, form).members)
    parts = [rows_of(source, number) for number in range(count)]
    pixels = np.concatenate([pixels for pixels, _, _ in parts])
    assert images.shape == (count * ROWS, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int16
    assert labels.tolist() == [label for _, labels, _ in parts for label in labels]
    assert split.tolist() == ["train"] * ((count - 1) * ROWS) + ["test"] * ROWS
    # A record holds 1,024 reds, then greens, then blues, each row by row.
    assert images[7, 3, 5].tolist() == pixels[7, [101, 1125, 2149]].tolist()


@pytest.mark.parametrize("bad", [-1, 1, 3_073])
@pytest.mark.parametrize("source", SOURCES)
def test_a_binary_file_of_another_length_is_refused(monkeypatch, source, bad):
    files = shrink(monkeypatch, source)["binary"]
    name = list(files)[-1]
    files[name] = files[name][:bad] if bad < 0 else files[name] + bytes(bad)
    with pytest.raises(IntegrityError, match=rf"{name}: \d+ bytes; expected \d+"):
        read_cifar(FACTS[source], files)


@pytest.mark.parametrize(
    ("source", "byte", "value", "words"),
    [
        ("cifar10", 3_073 * 4, 10, "row 4: label 10; expected 0 to 9"),
        ("cifar100", 3_074 * 4 + 1, 100, "row 4: label 100; expected 0 to 99"),
        ("cifar100", 3_074 * 4, 20, "row 4: superclass 20; expected 0 to 19"),
    ],
)
def test_a_label_out_of_range_in_a_binary_file_is_named(monkeypatch, source, byte, value, words):
    files = shrink(monkeypatch, source)["binary"]
    name = next(iter(files))
    damaged = bytearray(files[name])
    damaged[byte] = value
    with pytest.raises(IntegrityError, match=f"{name}: {words}"):
        read_cifar(FACTS[source], files | {name: bytes(damaged)})


# --- pickles


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pickles_of_old_and_new_numpy_load_alike(package, order):
    pixels, labels, _ = rows_of("cifar10", 0)
    data = pickled(batch(data=np.asarray(pixels, order=order), labels=labels))
    data = data.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", package)
    assert package + b".multiarray" in data
    found, found_labels = read_batch(data, "one", "labels")
    assert np.array_equal(found, pixels)
    assert found_labels == labels


def test_a_pickle_of_python_two_loads():
    """There every string is bytes, the pixels too; nothing is encoded."""
    pixels = rows_of("cifar10", 0)[0]
    data = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x0aM\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + len(pixels.tobytes()).to_bytes(4, "little") + pixels.tobytes()
    ) + b"tbU\x06labels](K\x03K\x04eu."
    found, labels = read_batch(data, "one", "labels")
    assert np.array_equal(found, pixels)
    assert labels == [3, 4]


class Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile(canary):
    touch = f"open({str(canary)!r}, 'w')"
    return {
        "os.system": Call(os.system, f"touch {canary}"),
        "eval": Call(builtins.eval, touch),
        "exec": Call(builtins.exec, touch),
        "open": Call(open, str(canary), "w"),
        "subprocess": Call(subprocess.call, ["touch", str(canary)]),
        "numpy.load": Call(np.load, str(canary)),
        "numpy.memmap": Call(np.memmap, str(canary), "uint8", "w+", 0, 1),
        "numpy.ndarray.tofile": Call(np.ndarray.tofile, np.zeros(1), str(canary)),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("attack", list(hostile("x")))
def test_a_pickle_that_names_a_function_runs_nothing(tmp_path, attack, protocol):
    canary = tmp_path / "canary"
    payload = hostile(canary)[attack]
    for content in (payload, {b"data": payload, b"labels": [0]}, {b"data": [payload], b"labels": payload}):
        with pytest.raises(IntegrityError, match="it names"):
            read_batch(pickle.dumps(content, protocol=protocol), "one", "labels")
    assert not canary.exists()
    pickle.loads(pickle.dumps(hostile(canary)["open"]))
    assert canary.exists(), "the canary itself must be alive"


def test_no_codec_but_those_of_text_is_reached():
    """`_codecs.encode` proper would run any registered codec, such as a compressor."""
    data = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R."
    with pytest.raises(IntegrityError, match="not a CIFAR pickle"):
        read_batch(data, "one", "labels")


def test_a_pickle_that_would_fill_the_memory_is_refused():
    """Some bytes ask for 64 GB: a number to remember an object by, a text that is encoded again and again."""
    remembers = b"\x80\x02X\x01\x00\x00\x00ar" + struct.pack("<I", 2**32 - 1) + b"."
    text = b"X" + struct.pack("<I", 1 << 16) + b"a" * (1 << 16) + b"q\x00"
    codec = b"X\x06\x00\x00\x00latin1q\x01c_codecs\nencode\nq\x02"
    repeats = b"\x80\x02(" + text + codec + b"h\x02h\x00h\x01\x86R" * 10**6 + b"l."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data, words in ((remembers, "remembers an object"), (repeats, "grows without end")):
        with pytest.raises(IntegrityError, match=words):
            read_batch(data, "one", "labels")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000, "KiB"


def test_a_pickle_cannot_change_the_reader_for_the_next_one():
    good = pickled(batch())
    for target in (b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"):
        attack = b"\x80\x02" + target + b"N}X\x0c\x00\x00\x00__setstate__Ns\x86b."
        with pytest.raises(IntegrityError):
            read_batch(attack, "one", "labels")
    assert read_batch(good, "one", "labels")[1] == [0] * ROWS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (batch(data=None), "no entry 'data'"),
        (batch(labels=None, fine_labels=[0] * ROWS), "no entry 'labels'; there are .*'fine_labels'"),
        (batch(data=[[0] * 3072] * ROWS), "'data' is a list"),
        (batch(labels=np.zeros(ROWS, np.uint8)), "'labels' is a _Array"),
        (batch(data=np.zeros((ROWS, 3072), np.int64)), "dtype 'i8'; expected 'u1'"),
        (batch(data=np.full((ROWS, 3072), np.nan)), "dtype 'f8'; expected 'u1'"),
        (batch(data=np.zeros((ROWS, 3072), object)), "dtype 'O8'; expected 'u1'"),
        (batch(data=np.zeros((ROWS, 3071), np.uint8)), "rows of 3071 values"),
        (batch(data=np.zeros((ROWS, 32, 32, 3), np.uint8)), "not an array of rows"),
        (batch(data=np.zeros((ROWS - 1, 3072), np.uint8)), "9 images; expected 10"),
        (batch(labels=[0] * (ROWS - 1)), "9 labels; expected 10"),
        (batch(labels=[0] * 4 + [10] + [0] * 5), "row 4: label 10; expected 0 to 9"),
        (batch(labels=[0] * 4 + [-1] + [0] * 5), "row 4: label -1"),
        (batch(labels=[0] * 4 + [float("nan")] + [0] * 5), "row 4: label nan"),
        (batch(labels=[0] * 4 + [2**80] + [0] * 5), "row 4: label 12089"),
        (batch(labels=[0] * 4 + ["cat"] + [0] * 5), "row 4: label b'cat'|row 4: label 'cat'"),
    ],
)
def test_a_wrong_batch_is_refused_with_its_file_and_row(monkeypatch, content, words):
    files = shrink(monkeypatch, "cifar10")["python"] | {"data_batch_3": pickled(content)}
    with pytest.raises(IntegrityError, match=f"data_batch_3: .*({words})") as caught:
        read_cifar(FACTS["cifar10"], files)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"garbage", pickled(batch())[:-9], pickle.dumps([1]), b"<html>"]
)
def test_a_file_that_is_no_such_pickle_is_refused(data):
    with pytest.raises(IntegrityError, match="one: "):
        read_batch(data, "one", "labels")


def test_an_array_that_announces_more_than_it_holds_is_refused_before_it_is_made():
    honest = pickled(batch(data=np.zeros((ROWS, 3072), np.uint8)))
    lying = honest.replace(b"K\nM\x00\x0c\x86", b"J\xff\xff\xff\x7fM\x00\x0c\x86")
    assert lying != honest
    with pytest.raises(IntegrityError, match="does not hold the 2147483647 rows"):
        read_batch(lying, "one", "labels")


# --- the stage


def stage(root, source="cifar10", form="binary", **options):
    artefact = Artefact("download", source, DatasetRequest(source=source, form=form))
    make(artefact, functools.partial(download.run, **options), root)
    notes = json.loads((root / artefact.manifest).read_text())["notes"]
    images, columns = read_raw(root / artefact.path)
    return notes, (images, pd.DataFrame(columns))


@pytest.fixture
def genuine(monkeypatch, tmp_path):
    """CIFAR-10 in small: its files by form, and a folder to put them in."""
    return shrink(monkeypatch, "cifar10"), tmp_path / "data"


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("kind", ["folder", "parent", "archive"])
def test_genuine_local_files_are_verified_wherever_they_lie(genuine, tmp_path, form, kind):
    files, data = genuine
    archive = archive_of("cifar10", form)
    folder = write_folder(data / archive.folder, files[form])
    (data / "any.tar.gz").write_bytes(tar_gz(entries(archive, files[form])))
    local = {"folder": folder, "parent": data, "archive": data / "any.tar.gz"}[kind]
    notes, (images, frame) = stage(tmp_path, local=local)
    assert notes == {"verified": True, "origin": local.name}
    assert len(images) == len(frame) == 6 * ROWS
    assert isinstance(images, np.memmap)
    assert frame["label"].tolist() == read_cifar(FACTS["cifar10"], files[form])[1].tolist()


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_other_files_than_the_published_are_taken_only_when_asked(genuine, tmp_path, kind):
    files, data = genuine
    archive = archive_of("cifar10", "binary")
    changed = files["binary"] | {"test_batch.bin": bytes(len(files["binary"]["test_batch.bin"]))}
    local = write_folder(data, changed)
    if kind == "archive":
        local = tmp_path / "my.tar.gz"
        local.write_bytes(tar_gz(entries(archive, changed)))
    with pytest.raises(IntegrityError) as caught:
        stage(tmp_path, local=local)
    assert str(local) in caught.value.message
    assert "test_batch.bin" in caught.value.message
    assert "data_batch_1.bin" not in caught.value.message
    assert "--accept-unverified" in caught.value.hint
    notes, _ = stage(tmp_path, local=local, accept_unverified=True)
    assert notes == {"verified": False, "unverified_files": ["test_batch.bin"], "origin": local.name}


def test_unverified_files_must_still_be_well_formed(genuine, tmp_path):
    files, data = genuine
    damaged = files["binary"]["test_batch.bin"][1:]
    local = write_folder(data, files["binary"] | {"test_batch.bin": damaged})
    with pytest.raises(IntegrityError, match=r"test_batch\.bin: \d+ bytes; expected"):
        stage(tmp_path, local=local, accept_unverified=True)
    (data / "test_batch.bin").write_bytes(b"\xff" + damaged)
    with pytest.raises(IntegrityError, match=r"test_batch\.bin: row 0: label 255"):
        stage(tmp_path, local=local, accept_unverified=True)


def test_a_pickle_is_not_opened_before_its_hash_is_known_or_waived(genuine, tmp_path, monkeypatch):
    files, data = genuine
    local = write_folder(data, files["python"] | {"test_batch": b"anything"})
    monkeypatch.setattr(cifar, "read_cifar", lambda *_: pytest.fail("opened"))
    with pytest.raises(IntegrityError, match="test_batch"):
        stage(tmp_path, local=local)


def test_a_missing_file_of_a_folder_is_named(genuine, tmp_path):
    files, data = genuine
    local = write_folder(data, files["binary"])
    (local / "data_batch_4.bin").unlink()
    with pytest.raises(IntegrityError, match=r"data_batch_4\.bin: missing"):
        stage(tmp_path, local=local, accept_unverified=True)


def test_a_place_without_the_dataset_is_a_wrong_request(genuine, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no such file or folder"):
        stage(tmp_path, local=tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"cifar-10-batches-bin or .* of cifar-10-batches-py"):
        stage(tmp_path, local=tmp_path / "empty")
    with pytest.raises(ConfigError, match="come with scikit-learn"):
        stage(tmp_path, source="digits", local=tmp_path / "empty")


def test_an_archive_of_another_dataset_is_refused(genuine, monkeypatch, tmp_path):
    other = archive_of("cifar100", "binary")
    (tmp_path / "any.tar.gz").write_bytes(tar_gz(entries(other, {"train.bin": b"x"})))
    with pytest.raises(IntegrityError, match=r"any\.tar\.gz: holds the folder 'cifar-100-binary'; expected"):
        stage(tmp_path, local=tmp_path / "any.tar.gz")


@pytest.mark.parametrize("form", ["binary", "python"])
def test_a_published_archive_is_kept_and_not_fetched_twice(genuine, tmp_path, form):
    """It lies in results/downloads, from where a second run, or another parameter, takes it."""
    files, _ = genuine
    archive = archive_of("cifar10", form)
    kept = tmp_path / "results" / "downloads" / f"cifar-10-{form}.tar.gz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(tar_gz(entries(archive, files[form])))
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == archive.sha256
    notes, (images, _) = stage(tmp_path, form=form)
    assert notes == {"verified": True, "origin": kept.name}
    assert len(images) == 6 * ROWS


def test_a_failed_fetch_leaves_no_artefact(genuine, tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise SystemFault("no mirror")

    monkeypatch.setattr(archive_source, "fetch", unreachable)
    with pytest.raises(SystemFault):
        stage(tmp_path)
    assert list((tmp_path / "results" / "download").iterdir()) == []


# --- the real files


@pytest.fixture(scope="module")
def real_cifar100(tmp_path_factory):
    script = REAL_DATA / "unpack.py"
    if not script.is_file():
        pytest.skip(f"no real CIFAR-100 at {REAL_DATA}")
    dest = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, script, "cifar100", dest], check=True, stdout=subprocess.DEVNULL)
    return dest / "cifar-100-python"


def test_the_real_cifar100_is_verified_and_agrees_with_what_is_known_of_it(real_cifar100, tmp_path):
    notes, (images, frame) = stage(tmp_path, source="cifar100", local=real_cifar100)
    assert notes["verified"] is True
    train = frame[frame["split"] == "train"]
    assert train["label"].value_counts().eq(500).all()
    assert frame["label"].nunique() == 100
    facts = FACTS["cifar100"]
    means = images[: len(train) : 10].mean((0, 1, 2)) / 255
    assert np.allclose(means, facts.mean, atol=3e-3)
    names = pickle.loads((real_cifar100 / "meta").read_bytes(), encoding="latin1")
    assert names["fine_label_names"] == list(facts.class_names)
    _, coarse = read_batch((real_cifar100 / "train").read_bytes(), "train", "coarse_labels")
    superclass = dict(zip(train["label"], coarse, strict=True))
    assert set(facts.class_maps["superclass"].values()) == set(range(100))
    for fine, mistaken_for in facts.class_maps["superclass"].items():
        assert superclass[fine] == superclass[mistaken_for]
        assert fine != mistaken_for
