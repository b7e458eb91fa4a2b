"""Artefacts and tables on disk: made whole, verified when read, the same bytes for the same content."""

import functools
import itertools
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.config.artefact import MANIFEST, Artefact
from cmw_pipeline.config.contracts import BiasRequest, DatasetRequest, File
from cmw_pipeline.errors import IntegrityError, SystemFault
from cmw_pipeline.io import manifests
from cmw_pipeline.io.manifests import Stored, exclusive, is_stored, open_stored, publish
from cmw_pipeline.io.tables import read_columns, read_table, write_columns, write_table
from cmw_pipeline.stages.base import make

RAW = Artefact("download", "set", DatasetRequest(source="digits"))
BIASED = Artefact(
    "inject", "set/asym-0.4", BiasRequest(source="digits", bias="asym-0.4", seed=1), {"raw": RAW}
)
FILES = {"labels.parquet": b"some labels", "images.npy": bytes(range(256)), "inner/more.csv": b"a,b\n1,2\n"}


def fill(draft, files=FILES):
    for name, data in files.items():
        (draft.path / name).parent.mkdir(exist_ok=True)
        (draft.path / name).write_bytes(data)


def made(root, artefact=RAW, inputs=None, files=FILES, cost=None, **notes):
    with publish(artefact, inputs or {}, root) as draft:
        fill(draft, files)
        draft.notes.update(notes)
        draft.cost.update(cost or {})
    return open_stored(root / artefact.path)


# --- made whole


def test_the_manifest_says_what_was_asked_read_and_written(tmp_path):
    raw = made(tmp_path, origin="here")
    stored = made(tmp_path, BIASED, {"raw": raw}, flipped=3)
    manifest = stored.manifest
    assert manifest["stage"] == "inject"
    assert manifest["name"] == "set/asym-0.4"
    assert manifest["digest"] == BIASED.digest
    assert manifest["params"] == BIASED.request.whole
    assert manifest["inputs"] == {
        "raw": {"path": str(RAW.path), "content": raw.content, "result": raw.result}
    }
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {
        name: len(data) for name, data in FILES.items()
    }
    assert manifest["notes"] == {"flipped": 3}
    assert {"python", "cmw-pipeline", "numpy", "torch"} <= set(manifest["versions"])
    assert set(manifest["cost"]) == {"seconds", "peak_mib"}


def test_the_manifest_is_written_last(tmp_path, monkeypatch):
    """While any file is hashed, there is neither a manifest nor the final name."""
    looked_at = []
    original = manifests.file_entry

    def watched(path):
        looked_at.append(path.name)
        assert not list(tmp_path.rglob(MANIFEST))
        assert not (tmp_path / RAW.path).exists()
        return original(path)

    monkeypatch.setattr(manifests, "file_entry", watched)
    with publish(RAW, {}, tmp_path) as draft:
        fill(draft)
    assert sorted(looked_at) == ["images.npy", "labels.parquet", "more.csv"]
    assert is_stored(RAW, tmp_path)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), IntegrityError("x")])
def test_after_an_exception_there_is_no_artefact(tmp_path, error):
    with pytest.raises(type(error)), publish(RAW, {}, tmp_path) as draft:
        fill(draft)
        raise error
    assert not is_stored(RAW, tmp_path)
    assert list((tmp_path / RAW.path).parent.iterdir()) == []


def test_a_result_that_is_no_json_leaves_no_artefact(tmp_path):
    with pytest.raises(TypeError), publish(RAW, {}, tmp_path) as draft:
        draft.notes["array"] = np.zeros(3)
    assert not is_stored(RAW, tmp_path)


def test_a_file_in_place_of_the_results_folder_is_one_line(tmp_path):
    (tmp_path / "results").write_text("I am no folder")
    with pytest.raises(SystemFault) as raised:
        made(tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(SystemFault) as raised, exclusive(RAW, tmp_path):
        pass
    assert "\n" not in str(raised.value)


HEAD = """
import os, signal, sys, time
from pathlib import Path
from cmw_pipeline.config.contracts import DatasetRequest
from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.io import manifests
from cmw_pipeline.io.manifests import exclusive, publish
from cmw_pipeline.stages.base import make
raw = Artefact("download", "set", DatasetRequest(source="digits"))
root = Path(sys.argv[1])
"""


def python(script, *arguments):
    command = [sys.executable, "-c", HEAD + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("moment", ["filling", "hashing", "renaming"])
def test_killed_while_it_is_made_there_is_no_artefact_and_the_next_attempt_makes_it(tmp_path, moment):
    child = python(
        """
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "hashing":
    manifests.file_entry = die
if sys.argv[2] == "renaming":
    Path.rename = die
with publish(raw, {}, root) as draft:
    (draft.path / "labels.parquet").write_text("half")
    if sys.argv[2] == "filling":
        die()
""",
        tmp_path,
        moment,
    )
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert not is_stored(RAW, tmp_path)
    assert not (tmp_path / RAW.path).exists()
    assert make(RAW, fill_job, tmp_path)
    assert open_stored(tmp_path / RAW.path).manifest["files"].keys() == FILES.keys()


def fill_job(job):
    for name, data in FILES.items():
        (job.out / name).parent.mkdir(exist_ok=True)
        (job.out / name).write_bytes(data)


def test_checkpoints_stay_until_the_artefact_has_its_name(tmp_path):
    """Killed or refused while it is published, a run continues from them."""
    sides = []

    def run(job):
        fill_job(job)
        job.side.mkdir(parents=True)
        (job.side / "step").touch()
        sides.append(job.side)
        job.notes["array"] = np.zeros(3)  # no JSON: the manifest cannot be written

    with pytest.raises(TypeError):
        make(RAW, run, tmp_path)
    assert (sides[0] / "step").exists()
    assert make(RAW, fill_job, tmp_path)
    assert not sides[0].exists()


def test_a_folder_without_a_manifest_is_no_artefact(tmp_path):
    stored = made(tmp_path)
    (stored.path / MANIFEST).unlink()
    assert not is_stored(RAW, tmp_path)
    assert make(RAW, fill_job, tmp_path)
    assert is_stored(RAW, tmp_path)


def test_what_is_there_is_not_made_again(tmp_path):
    assert make(RAW, fill_job, tmp_path)

    def never(job):
        raise AssertionError

    assert not make(RAW, never, tmp_path)


# --- verified when read


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "empty": lambda path: path.write_bytes(b""),
    "first byte": lambda path: flip(path, 0),
    "last byte": lambda path: flip(path, -1),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("file", sorted(FILES))
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_the_way_out(tmp_path, file, damage):
    stored = made(tmp_path)
    DAMAGES[damage](stored.path / file)
    with pytest.raises(IntegrityError) as raised:
        open_stored(stored.path)
    assert str(stored.path / file) in raised.value.message
    assert f"remove {stored.path}" in raised.value.hint and "dvc fetch" in raised.value.hint
    assert raised.value.exit_code == 3


def test_a_flipped_byte_shows_wherever_it_is(tmp_path):
    stored = made(tmp_path)
    for position in range(0, len(FILES["images.npy"]), 5):
        flip(stored.path / "images.npy", position)
        with pytest.raises(IntegrityError, match=r"images\.npy: sha256"):
            open_stored(stored.path)
        flip(stored.path / "images.npy", position)


def test_a_stage_does_not_start_on_a_damaged_input(tmp_path):
    raw = made(tmp_path)
    flip(raw.path / "images.npy", 7)
    started = []
    with pytest.raises(IntegrityError, match=r"images\.npy"):
        make(BIASED, started.append, tmp_path)
    assert not started
    assert not is_stored(BIASED, tmp_path)


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(IntegrityError, match="no finished artefact") as raised:
        make(BIASED, fill_job, tmp_path)
    assert str(RAW.path) in raised.value.message


def test_another_artefact_under_the_planned_name_is_refused(tmp_path):
    """Whole, and yet not what was asked for: somebody renamed a folder."""
    other = made(tmp_path, Artefact("download", "set", DatasetRequest(source="cifar10")))
    other.path.rename(tmp_path / RAW.path)
    with pytest.raises(IntegrityError, match=f"{RAW.path}: holds the artefact {other.manifest['digest']}"):
        make(BIASED, fill_job, tmp_path)
    assert not is_stored(BIASED, tmp_path)


def test_a_file_that_the_manifest_does_not_list_does_not_count(tmp_path):
    stored = made(tmp_path)
    (stored.path / "notes.txt").write_text("left by somebody")
    assert open_stored(stored.path).content == stored.content


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"text"', "{}", '{"format": 0}', '{"format": 2}', '{"format": "1"}', "\xff",
     '{"format": 1}', '{"format": 1, "files": 3}', '{"format": 1, "files": {"images.npy": 3}}',
     '{"format": 1, "files": {"images.npy": {"bytes": 256}}}'],
)  # fmt: skip
def test_what_is_no_manifest_of_this_format_is_refused_by_name(tmp_path, text):
    stored = made(tmp_path)
    (stored.path / MANIFEST).write_text(text, encoding="latin1")
    with pytest.raises(IntegrityError) as raised:
        open_stored(stored.path)
    assert MANIFEST in raised.value.message


def test_a_damaged_manifest_is_refused_or_says_the_same(tmp_path):
    """Every seventh byte flipped: no traceback, and nothing is read that was not written."""
    stored = made(tmp_path)
    file = stored.path / MANIFEST
    refused = 0
    for position in range(0, file.stat().st_size, 7):
        flip(file, position)
        try:
            assert open_stored(stored.path).manifest == stored.manifest
        except IntegrityError:
            refused += 1
        flip(file, position)
    assert refused > 0


# --- equal content, equal digest


def test_what_earlier_attempts_took_is_part_of_the_cost_and_of_nothing_else(tmp_path, monkeypatch):
    ticks = itertools.count(step=7.0)
    monkeypatch.setattr(time, "perf_counter", functools.partial(next, ticks))
    manifest = made(tmp_path, cost={"seconds": 100.0, "evaluation_seconds": 3.0}).manifest
    assert manifest["cost"]["seconds"] == 107
    assert manifest["cost"]["evaluation_seconds"] == 3
    assert manifest["notes"] == {}


def test_equal_content_has_an_equal_digest_whatever_it_cost(tmp_path, monkeypatch):
    one = made(tmp_path / "one", origin="here")
    ticks = itertools.count(step=1000.0)
    monkeypatch.setattr(time, "perf_counter", functools.partial(next, ticks))
    other = made(tmp_path / "other", origin="there")
    assert one.manifest["cost"] != other.manifest["cost"]
    assert one.content == other.content
    assert len(one.content) == 64


@pytest.mark.parametrize(
    "files",
    [
        FILES | {"images.npy": b"other"},
        FILES | {"one more": b""},
        {name: data for name, data in FILES.items() if name != "images.npy"},
        {("renamed" if name == "images.npy" else name): data for name, data in FILES.items()},
        FILES | {"images.npy": FILES["labels.parquet"], "labels.parquet": FILES["images.npy"]},
    ],
)
def test_other_content_has_another_digest(tmp_path, files):
    assert made(tmp_path / "one").content != made(tmp_path / "other", files=files).content


def test_what_is_made_of_unverified_data_is_unverified(tmp_path):
    raw = made(tmp_path, verified=False)
    biased = made(tmp_path, BIASED, {"raw": raw})
    assert not raw.verified
    assert not biased.verified
    assert made(tmp_path / "good", BIASED, {"raw": made(tmp_path / "good", verified=True)}).verified


def test_a_stored_artefact_can_be_a_key(tmp_path):
    stored = made(tmp_path)
    assert {stored: 1}[Stored(stored.path, stored.manifest)] == 1


# --- one at a time


LOCKED = """
log = root / "log"
with exclusive(raw, root):
    with log.open("a") as stream:
        print("in", os.getpid(), file=stream, flush=True)
    time.sleep(0.3)
    with log.open("a") as stream:
        print("out", os.getpid(), file=stream, flush=True)
"""


def test_two_processes_are_never_inside_at_once(tmp_path):
    children = [python(LOCKED, tmp_path) for _ in range(2)]
    for child in children:
        _, said = child.communicate(timeout=1800)
        assert child.returncode == 0, said
    words = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [word for word, _ in words] == ["in", "out", "in", "out"]
    assert words[0][1] == words[1][1] != words[2][1]


MAKING = """
def run(job):
    (root / f"ran-{os.getpid()}").touch()
    time.sleep(0.3)
    (job.out / "labels.parquet").write_text("labels")
print(make(raw, run, root))
"""


def test_of_two_that_make_the_same_artefact_one_makes_it(tmp_path):
    children = [python(MAKING, tmp_path) for _ in range(2)]
    said = [child.communicate(timeout=1800) for child in children]
    assert sorted(out.strip() for out, _ in said) == ["False", "True"], said
    assert len(list(tmp_path.glob("ran-*"))) == 1
    open_stored(tmp_path / RAW.path)


def test_a_killed_holder_leaves_no_lock_behind(tmp_path):
    child = python(
        "with exclusive(raw, root):\n    print('held', flush=True)\n    time.sleep(3600)\n", tmp_path
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    child.kill()
    child.communicate()
    with exclusive(RAW, tmp_path):
        pass  # where the lock is left behind, this waits for ever


def test_another_artefact_has_another_lock(tmp_path):
    with exclusive(RAW, tmp_path), exclusive(BIASED, tmp_path):
        pass


# --- tables

COLUMNS = {
    "index": "int32",
    "label": "int16",
    "split": "string",
    "is_flipped": "bool",
    "loss": "float32",
    "value": "float64",
}


def frame(rows=12):
    return pd.DataFrame(
        {
            "index": np.arange(rows),
            "label": np.arange(rows) % 3,
            "split": ["train", "test"] * (rows // 2),
            "is_flipped": np.arange(rows) % 5 == 0,
            "loss": np.linspace(0, 1, rows),
            "value": np.linspace(0, 2, rows),
        }
    )


def test_a_table_comes_back_with_its_types(tmp_path):
    write_table(tmp_path / "t.parquet", frame(), COLUMNS)
    found = read_table(tmp_path / "t.parquet", COLUMNS)
    assert found["index"].dtype == np.int32
    assert found["label"].dtype == np.int16
    assert found["loss"].dtype == np.float32
    assert found["split"].tolist() == frame()["split"].tolist()
    np.testing.assert_array_equal(found["value"], frame()["value"])


FILE = File("t.parquet", "for tests", COLUMNS)


def arrays(rows=12):
    return {
        name: np.array(frame(rows)[name], object if kind == "string" else kind)
        for name, kind in COLUMNS.items()
    }


def test_columns_come_back_as_they_were_and_as_data_frames_are_written(tmp_path):
    write_columns(tmp_path, FILE, arrays())
    found = read_columns(tmp_path, FILE)
    for name, values in arrays().items():
        assert found[name].dtype == values.dtype
        assert not isinstance(found[name], np.ma.MaskedArray)
        np.testing.assert_array_equal(found[name], values)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet", COLUMNS), pd.DataFrame(arrays()))


def test_missing_values_come_back_missing(tmp_path):
    gone = np.arange(12) % 4 == 1
    given = arrays()
    for name, values in given.items():
        if values.dtype.kind == "f":
            values[gone] = np.nan
        elif values.dtype.kind != "O":
            given[name] = np.ma.MaskedArray(values, mask=gone)
    write_columns(tmp_path, FILE, given)
    found = read_columns(tmp_path, FILE)
    for name, values in given.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(np.ma.getmaskarray(found[name]), np.ma.getmaskarray(values))
        np.testing.assert_array_equal(np.ma.compressed(found[name]), np.ma.compressed(values))


def test_columns_take_the_nearest_float_and_no_other_number(tmp_path):
    write_columns(tmp_path, FILE, arrays() | {"loss": np.full(12, 0.1)})
    assert (read_columns(tmp_path, FILE, ["loss"])["loss"] == np.float32(0.1)).all()
    for name, wrong in (("label", 40_000), ("index", 0.5), ("is_flipped", 2)):
        with pytest.raises(IntegrityError, match="a value is not one of"):
            write_columns(tmp_path, FILE, arrays() | {name: np.full(12, wrong)})


def test_the_same_rows_give_the_same_bytes(tmp_path):
    write_table(tmp_path / "one.parquet", frame(), COLUMNS)
    other = frame().set_index(np.arange(100, 112)).astype({"index": "int64", "label": "int8"})
    other.attrs["author"] = "somebody"
    write_table(tmp_path / "other.parquet", other, COLUMNS)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()


def test_another_process_writes_the_same_bytes(tmp_path):
    columns = {"index": "int32", "split": "string"}
    rows = {"index": [3, 1, 2] * 400, "split": ["train", "test", "train"] * 400}
    script = f"""
import pandas as pd
from cmw_pipeline.io.tables import write_table
write_table(root, pd.DataFrame({rows}), {columns})
"""
    assert python(script, tmp_path / "other").communicate() == ("", "")
    write_table(tmp_path / "one", pd.DataFrame(rows), columns)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_an_empty_table_keeps_its_schema(tmp_path):
    write_table(tmp_path / "t.parquet", frame().iloc[:0], COLUMNS)
    assert list(read_table(tmp_path / "t.parquet", COLUMNS).columns) == list(COLUMNS)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda table: table.drop(columns="label"),
        lambda table: table.assign(more=1),
        lambda table: table[list(reversed(table.columns))],
        lambda table: table.assign(label=40_000),
        lambda table: table.assign(label=1.5),
        lambda table: table.assign(label="three"),
        lambda table: table.assign(split=3),
        lambda table: table.assign(is_flipped="yes"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, wrong):
    path = tmp_path / "t.parquet"
    with pytest.raises(IntegrityError) as raised:
        write_table(path, wrong(frame()), COLUMNS)
    assert str(path) in raised.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "columns",
    [
        {name: kind for name, kind in COLUMNS.items() if name != "label"},
        COLUMNS | {"more": "int32"},
        COLUMNS | {"label": "int32"},
        dict(reversed(COLUMNS.items())),
    ],
)
def test_a_table_of_another_schema_is_refused_by_name(tmp_path, columns):
    path = tmp_path / "t.parquet"
    write_table(path, frame(), COLUMNS)
    with pytest.raises(IntegrityError, match="expected") as raised:
        read_table(path, columns)
    assert str(path) in raised.value.message


def test_only_the_asked_columns_are_read(tmp_path):
    """Poison in a column that is not asked for does not even reach memory."""
    path = tmp_path / "t.parquet"
    write_table(path, frame(), COLUMNS)
    assert list(read_table(path, COLUMNS, ["index", "split"]).columns) == ["index", "split"]


def test_a_damaged_table_is_refused_or_unchanged(tmp_path):
    """No flipped byte gives other rows, and none ends in a traceback; damaged values are always noticed."""
    path = tmp_path / "t.parquet"
    columns = {"index": "int32", "split": "string", "value": "float64"}
    write_table(path, frame()[list(columns)], columns)
    data, right = path.read_bytes(), read_table(path, columns)
    refused = 0
    for position in range(0, len(data), 3):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x80]) + data[position + 1 :])
        try:
            assert read_table(path, columns).equals(right)
        except IntegrityError as error:
            assert str(path) in error.message
            refused += 1
    assert refused > len(data) // 6


@pytest.mark.parametrize("keep", [0, 1, 4, 100, -1, -4])
def test_a_truncated_table_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "t.parquet"
    write_table(path, frame(), COLUMNS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IntegrityError) as raised:
        read_table(path, COLUMNS)
    assert str(path) in raised.value.message


def test_what_is_no_table_is_refused_by_name(tmp_path):
    (tmp_path / "text").write_text("index,label\n0,1\n")
    (tmp_path / "folder").mkdir()
    for name in ("text", "folder", "absent"):
        with pytest.raises(IntegrityError) as raised:
            read_table(tmp_path / name, COLUMNS)
        assert str(tmp_path / name) in raised.value.message
