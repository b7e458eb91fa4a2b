"""Label files: what is read and refused, what a published one must be, and the hybrid noise made from it."""

import dataclasses
import io
import json
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cmw_pipeline.bias.compose import apply_bias
from cmw_pipeline.bias.feature_dependent import top_two
from cmw_pipeline.bias.transition import asymmetric_matrix, symmetric_matrix, transition
from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.contracts import (
    Biased,
    BiasRequest,
    DatasetRequest,
    LabelFileRequest,
    PretrainedRequest,
    Raw,
)
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.label_files import LabelFile
from cmw_pipeline.data.label_files import label_digest, read_given, read_label_file, write_given
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.manifests import open_stored, publish
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.stages import download, inject
from cmw_pipeline.stages.base import make
from cmw_pipeline.stages.labels_at_hand import place_labels
from cmw_pipeline.types import TEST, TRAIN, UNUSED

REAL = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "noise_labels"
TRAINING = 1437
RNG = np.random.default_rng(5)
CLEAN = RNG.integers(0, 10, TRAINING).astype(np.int16)
NOISY = np.where(RNG.random(TRAINING) < 0.3, (CLEAN + 1) % 10, CLEAN).astype(np.int16)
OWN = f"file-{label_digest(NOISY)[:12]}"
PUBLISHED = [(source, step) for source, facts in FACTS.items() for step in facts.label_files]


def save(folder, name, labels):
    file = folder / name
    labels = np.asarray(labels)
    if file.suffix == ".npy":
        np.save(file, labels)
    elif file.suffix == ".json":
        file.write_text(json.dumps(labels.tolist()))
    elif file.suffix == ".csv":
        pd.DataFrame({"label": labels}).to_csv(file, index=False)
    else:
        file.write_bytes(archive({"noisy_label": labels.astype(np.int64), "clean_label": CLEAN.astype("i8")}))
    return file


def archive(content):
    """What ``torch.save`` writes for a dictionary of arrays: a zip with one pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        data = pickle.dumps(content, protocol=2).replace(b"numpy._core", b"numpy.core")
        zipped.writestr("archive/data.pkl", data)
        zipped.writestr("archive/version", "3\n")
    return out.getvalue()


# --- reading


@pytest.mark.parametrize("name", ["l.npy", "l.json", "l.csv"])
def test_the_same_labels_in_any_format(tmp_path, name):
    labels, clean = read_label_file(save(tmp_path, name, NOISY), 10)
    assert labels.dtype == np.int16 and (labels == NOISY).all()
    assert clean is None


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", ">i4"])
def test_an_array_of_any_integers(tmp_path, dtype):
    labels, _ = read_label_file(save(tmp_path, "l.npy", NOISY.astype(dtype)), 10)
    assert label_digest(labels) == label_digest(NOISY)


def test_a_published_archive_holds_several_sets_and_the_clean_labels(tmp_path):
    labels, clean = read_label_file(save(tmp_path, "l.pt", NOISY), 10, "noisy_label")
    assert (labels == NOISY).all() and clean is not None and (clean == CLEAN).all()
    with pytest.raises(
        IntegrityError, match=r"no array 'worse_label'; it has \['clean_label', 'noisy_label'"
    ):
        read_label_file(tmp_path / "l.pt", 10, "worse_label")


def test_a_table_may_hold_the_clean_labels(tmp_path):
    file = tmp_path / "l.csv"
    pd.DataFrame({"clean_label": CLEAN, "other": "x", "label": NOISY}).to_csv(file, index=False)
    labels, clean = read_label_file(file, 10)
    assert (labels == NOISY).all() and clean is not None and (clean == CLEAN).all()


IDENTITIES = ["index", "Index", "id", "row", ""]


@pytest.mark.parametrize("column", IDENTITIES)
def test_rows_in_any_order_belong_to_the_samples_that_they_name(tmp_path, column):
    frame = pd.DataFrame({column: np.arange(TRAINING), "clean_label": CLEAN, "label": NOISY})
    text_order = sorted(range(TRAINING), key=str)
    block_moved = [*range(600), *range(1000, TRAINING), *range(600, 1000)]
    for order in (range(TRAINING), text_order, block_moved, RNG.permutation(TRAINING)):
        frame.iloc[list(order)].to_csv(tmp_path / "l.csv", index=False)
        labels, clean = read_label_file(tmp_path / "l.csv", 10)
        assert (labels == NOISY).all() and clean is not None and (clean == CLEAN).all()


def test_the_row_numbers_that_pandas_writes_are_honoured(tmp_path):
    pd.DataFrame({"label": NOISY}).sample(frac=1, random_state=1).to_csv(tmp_path / "l.csv")
    assert (read_label_file(tmp_path / "l.csv", 10)[0] == NOISY).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,label\n1,2\n", "column 'label' is there 2 times"),
        ("label,Label\n1,2\n", "column 'label' is there 2 times"),
        ("index,index,label\n0,0,1\n", "column 'index' is there 2 times"),
        ("clean_label,label, clean_label\n0,0,1\n", "column 'clean_label' is there 2 times"),
        ("index,label\n0,1\n0,2\n", "row 1: 0 is there twice; expected 0 to 1"),
        ("index,label\n0,1\n2,2\n", "row 1: 2 comes where 1 should be; expected 0 to 1"),
        ("index,label\n1,1\n2,2\n", "row 0: 1 comes where 0 should be; expected 0 to 1"),
        ("index,label\n0,1\n-1,2\n", "row 1: '-1' is no row number"),
        ("index,label\n0,1\n1.5,2\n", r"row 1: '1\.5' is no row number"),
        ("index,id,label\n0,1,1\n1,0,2\n", "'index' and 'id' number the samples differently"),
        ("path,label\nb.jpg,1\na.jpg,2\n", "column 'path': row 0: 'b.jpg' is no row number"),
        ("label,other\n1,x\n2\n", "row 1: 1 fields; expected 2"),
        ("label,other\n1,x\n5,2,x\n", "row 1: 3 fields; expected 2"),
        ("label\n" + "1" * 5000 + "\n", "row 0: label '1111"),
    ],
)
def test_a_table_in_which_a_row_cannot_be_told_is_refused(tmp_path, text, words):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(IntegrityError, match=words):
        read_label_file(tmp_path / "l.csv", 10)


def test_empty_lines_at_the_end_and_a_byte_order_mark_do_no_harm(tmp_path):
    (tmp_path / "l.csv").write_bytes(b"\xef\xbb\xbflabel\r\n1\r\n2\r\n\r\n\r\n")
    assert read_label_file(tmp_path / "l.csv", 10)[0].tolist() == [1, 2]


@pytest.mark.parametrize("name", ["l.npy", "l.json", "l.csv"])
def test_class_numbers_from_1_on_are_noticed(tmp_path, name):
    with pytest.raises(IntegrityError, match=r"expected 0 to 9\nHint: .*run from 1 to 10: subtract 1"):
        read_label_file(save(tmp_path, name, NOISY + 1), 10)


def test_class_numbers_one_too_large_are_noticed_where_the_last_class_is_never_given(tmp_path):
    few = np.where(NOISY == 9, 0, NOISY)
    with pytest.raises(IntegrityError, match=r"Hint: .*one too large: subtract 1"):
        read_given(given(tmp_path / "a", few + 1), CLEAN, 10, level=None)


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_a_hostile_archive_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "l.pt").write_bytes(archive({"noisy_label": Call(open, str(canary), "w")}))
    with pytest.raises(IntegrityError, match=r"l\.pt: not a file of arrays: "):
        read_label_file(tmp_path / "l.pt", 10, "noisy_label")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.json", b"[1, 2, 10]", "row 2: label 10; expected 0 to 9"),
        ("l.json", b"[1, -2]", "row 1: label -2; expected 0 to 9"),
        ("l.json", b"[1, 2.0]", r"row 1: label 2\.0; expected 0 to 9"),
        ("l.json", b"[1, true]", "row 1: label True; "),
        ("l.json", b'["1"]', "row 0: label '1'; "),
        ("l.json", b'{"label": [1]}', "holds a dict; expected a list"),
        ("l.json", b"[1, 2", "not JSON"),
        ("l.json", b"[" * 100_000, "not JSON"),
        ("l.csv", b"label\n1\n\n3\n", "row 1: label ''; expected 0 to 9"),
        ("l.csv", b"label\n1\n1.5\n", r"row 1: label '1\.5'; "),
        ("l.csv", b"label\n1\n12\n", "row 1: label 12; "),
        ("l.csv", b"1\n2\n", r"columns \['1'\]; expected one named label"),
        ("l.csv", b"", "not a CSV file"),
        ("l.csv", b"\xff\xfe\x00", "not a CSV file"),
        ("l.npy", b"", "not an array of numbers"),
        ("l.npy", b"\x93NUMPY\x01\x00\x46\x00", "not an array of numbers"),
        ("l.pt", b"PK", "not a file of arrays"),
    ],
)
def test_a_file_that_is_no_list_of_labels_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=words) as caught:
        read_label_file(tmp_path / name, 10, "noisy_label")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([1.0, 2.0]), r"label: float64 of shape \(2,\); expected integers of shape \(N,\)"),
        (np.eye(3, dtype=np.int64), r"int64 of shape \(3, 3\)"),
        (np.array([True]), "bool of shape"),
        (np.array([0, 3, 2**40]), "row 2: label 1099511627776; expected 0 to 9"),
        (np.array([0, -1]), "row 1: label -1; expected 0 to 9"),
    ],
)
def test_an_array_that_is_no_list_of_labels_is_refused(tmp_path, labels, words):
    with pytest.raises(IntegrityError, match=words):
        read_label_file(save(tmp_path, "l.npy", labels), 10)


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    canary = tmp_path / "canary"
    np.save(tmp_path / "l.npy", np.array([Call(open, str(canary), "w")], dtype=object), allow_pickle=True)
    with pytest.raises(IntegrityError, match="not an array of numbers"):
        read_label_file(tmp_path / "l.npy", 10)
    assert not canary.exists()


def test_another_file_is_refused(tmp_path):
    (tmp_path / "l.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"expected a label file ending in \.npy, \.json, \.csv, \.pt"):
        read_label_file(tmp_path / "l.npz", 10)
    with pytest.raises(ConfigError, match=r"missing\.npy: no such file"):
        read_label_file(tmp_path / "missing.npy", 10)


# --- does it fit the training set?


def given(folder, labels, clean=None):
    folder.mkdir(exist_ok=True)
    write_given(folder, np.asarray(labels, np.int16), clean)
    return folder


def test_a_fitting_file_is_taken(tmp_path):
    assert (read_given(given(tmp_path / "a", NOISY), CLEAN, 10, level=None) == NOISY).all()
    assert (read_given(given(tmp_path / "b", CLEAN), CLEAN, 10, level=None) == CLEAN).all()
    level = round(float((NOISY != CLEAN)[:900].mean()), 4)
    assert (read_given(given(tmp_path / "c", NOISY[:900]), CLEAN, 10, level=level) == NOISY[:900]).all()


@pytest.mark.parametrize(
    ("labels", "clean", "level", "words"),
    [
        (NOISY[:-1], None, None, "1436 labels; expected 1437, one for each training sample"),
        (np.tile(NOISY, 2), None, 0.3, "2874 labels; expected 1437"),
        (
            NOISY[::-1],
            None,
            None,
            r"agree with the dataset's, no more than by chance; .* row \d+: \d in place of",
        ),
        (NOISY, CLEAN[::-1], None, r"row \d+: its clean label is \d, the dataset's is \d"),
        (NOISY, None, 0.4, r"0\.\d{4} of the labels differ from the dataset's; the published share is 0\.4"),
        (NOISY + 9, None, None, r"row \d+: label 1\d; expected 0 to 9"),
    ],
    ids=["short", "long", "other order", "other clean labels", "other level", "other classes"],
)
def test_labels_of_other_samples_are_refused(tmp_path, labels, clean, level, words):
    with pytest.raises(IntegrityError, match=words) as caught:
        read_given(given(tmp_path / "a", labels, clean), CLEAN, 10, level=level)
    assert caught.value.exit_code == 3


# --- the stages


def raw_artefact(root):
    """Training and test rows interleaved, so that positions and row numbers differ."""
    is_train = np.random.default_rng(9).permutation(TRAINING + 360) < TRAINING
    labels = np.empty(len(is_train), np.int16)
    labels[is_train], labels[~is_train] = CLEAN, np.arange(360) % 10
    index = np.arange(len(labels), dtype=np.int32)
    frame = pd.DataFrame({"index": index, "label": labels, "split": np.where(is_train, TRAIN, TEST)})
    artefact = Artefact("download", "digits", DatasetRequest(source="digits"))
    with publish(artefact, {}, root) as draft:
        np.save(draft.path / "images.npy", np.zeros((len(frame), 8, 8, 1), np.uint8))
        write_table(draft.path / Raw.LABELS, frame, Raw.LABELS.columns)
    return artefact


def label_artefact(step, source="digits"):
    return Artefact("download", f"{source}/{step}", LabelFileRequest(source=source, labels=step))


def biased_artefact(raw, bias, **inputs):
    params = BiasRequest(source="digits", bias=bias, seed=1)
    return Artefact("inject", f"digits/{bias}", params, {"raw": raw, **inputs})


def injected(artefact, root):
    make(artefact, inject.run, root)
    stored = open_stored(root / artefact.path)
    table = read_table(stored.path / Raw.LABELS, Biased.LABELS.columns)
    return table, stored.manifest["notes"]


@pytest.fixture
def published(monkeypatch):
    """A published file for the first 1,200 digits, as the twelve of PLC are for the first 45,000 images."""
    level = round(float((NOISY != CLEAN)[:1200].mean()), 4)
    file = LabelFile(
        dataset="digits",
        bias="plc:type1-0.3",
        url="https://nowhere.invalid/l.npy",
        begins="934e",
        sha256="0" * 64,
        labels_sha256=label_digest(NOISY[:1200]),
        rows=1200,
        level=level,
    )
    facts = dataclasses.replace(FACTS["digits"], label_files={file.bias: file})
    monkeypatch.setitem(FACTS, "digits", facts)


def test_own_labels_become_a_biased_table(tmp_path):
    raw, labels = raw_artefact(tmp_path), label_artefact(OWN)
    biased = biased_artefact(raw, f"{OWN}+other:sym-0.1", labels=labels)
    place_labels(biased, save(tmp_path, "mine.json", NOISY), tmp_path)
    table, notes = injected(biased, tmp_path)
    train = table[table["split"] == TRAIN]
    drawn = train["label"].to_numpy()
    assert (train["clean_label"] == CLEAN).all()
    assert (drawn != NOISY).sum() == TRAINING // 10
    assert notes["noise_rate"] == pytest.approx((drawn != CLEAN).mean())
    assert "verified" not in notes
    assert (table[table["split"] == TEST]["label"] == table[table["split"] == TEST]["clean_label"]).all()


def test_labels_at_random_need_a_word(tmp_path):
    drawn = np.random.default_rng(8).integers(0, 10, TRAINING).astype(np.int16)
    step = f"file-{label_digest(drawn)[:12]}"
    biased = biased_artefact(raw_artefact(tmp_path), step, labels=label_artefact(step))
    file = save(tmp_path, "random.npy", drawn)
    place_labels(biased, file, tmp_path)
    with pytest.raises(IntegrityError, match=r"no more than by chance(.|\n)*--accept-unverified") as refused:
        injected(biased, tmp_path)
    shutil.rmtree(re.search("remove (.*) and use", str(refused.value))[1])
    place_labels(biased, file, tmp_path, accept_unverified=True)
    table, notes = injected(biased, tmp_path)
    assert (table.loc[table["split"] == TRAIN, "label"] == drawn).all()
    assert notes["verified"] is False


def test_rows_beyond_a_published_file_are_left_out(tmp_path, published):
    raw, labels = raw_artefact(tmp_path), label_artefact("plc:type1-0.3")
    biased = biased_artefact(raw, "lt-2+plc:type1-0.3", labels=labels)
    place_labels(biased, save(tmp_path, "l.csv", NOISY[:1200]), tmp_path)
    table, notes = injected(biased, tmp_path)
    samples = table[table["split"] != TEST]
    kept = (samples["split"] == TRAIN).to_numpy()
    assert not kept[1200:].any() and kept[:1200].sum() == sum(notes["class_sizes"])
    assert (samples["split"][~kept] == UNUSED).all()
    assert (samples["label"].to_numpy()[kept] == NOISY[kept]).all()
    assert (samples["label"].to_numpy()[~kept] == CLEAN[~kept]).all()


def test_other_labels_than_the_published_need_a_word(tmp_path, published):
    raw, labels = raw_artefact(tmp_path), label_artefact("plc:type1-0.3")
    biased = biased_artefact(raw, "plc:type1-0.3", labels=labels)
    changed = NOISY[:1200].copy()
    changed[7] = CLEAN[7] if changed[7] != CLEAN[7] else (CLEAN[7] + 1) % 10
    file = save(tmp_path, "l.npy", changed)
    with pytest.raises(IntegrityError, match=r"not the published labels.*\n.*--accept-unverified"):
        place_labels(biased, file, tmp_path)
    place_labels(biased, file, tmp_path, accept_unverified=True)
    assert injected(biased, tmp_path)[1]["verified"] is False
    with pytest.raises(IntegrityError, match=r"not the labels in .*\n.*remove that folder"):
        place_labels(biased, save(tmp_path, "right.npy", NOISY[:1200]), tmp_path)


def test_a_published_file_of_another_length_is_refused_whatever_is_said(tmp_path, published):
    labels = label_artefact("plc:type1-0.3")
    file = save(tmp_path, "l.npy", NOISY)
    with pytest.raises(IntegrityError, match=r"1437 labels; expected 1200\n.*another dataset or split"):
        make(labels, lambda job: download.run(job, local=file, accept_unverified=True), tmp_path)


def test_own_labels_are_those_that_the_name_says(tmp_path):
    raw = raw_artefact(tmp_path)
    biased = biased_artefact(raw, "file-0123456789ab", labels=label_artefact("file-0123456789ab"))
    file = save(tmp_path, "l.npy", NOISY)
    with pytest.raises(IntegrityError, match=rf"its labels are {OWN}\nHint: name the bias {OWN}"):
        place_labels(biased, file, tmp_path)
    with pytest.raises(ConfigError, match=rf"reads no label file\nHint: write digits/{OWN} for the labels"):
        place_labels(biased_artefact(raw, "type1-0.35"), file, tmp_path)
    with pytest.raises(ConfigError, match=rf"no address.*\n.*cmw download digits/{OWN} --from FILE"):
        make(label_artefact(OWN), download.run, tmp_path)


def teacher(root, posterior):
    artefact = Artefact("train", "teacher", PretrainedRequest(pretrained="for a test"))
    with publish(artefact, {}, root) as draft:
        np.save(draft.path / "posterior.npy", posterior)
    return artefact


def sharp(seed=0):
    logits = np.random.default_rng(seed).gumbel(size=(TRAINING, 10))
    logits[np.arange(TRAINING), CLEAN] += 6
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)


def test_a_teachers_posterior_becomes_a_biased_table(tmp_path):
    posterior = sharp()
    biased = biased_artefact(raw_artefact(tmp_path), "type2-0.35", teacher=teacher(tmp_path, posterior))
    table, notes = injected(biased, tmp_path)
    labels = table[table["split"] == TRAIN]["label"].to_numpy()
    first, second, _ = top_two(posterior)
    assert ((labels == first) | (labels == second)).all()
    assert stats.binomtest(int((labels != CLEAN).sum()), TRAINING, 0.35).pvalue > 1e-3
    assert notes["factor"] > 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p[:-1], r"float16 of shape \(1436, 10\); expected floats of shape \(1437, 10\)"),
        (lambda p: p[:, :9], r"shape \(1437, 9\)"),
        (lambda p: np.zeros(p.shape, np.int64), "int64 of shape"),
        (lambda p: np.where(np.arange(TRAINING)[:, None] == 5, np.nan, p), "row 5: not probabilities"),
        (lambda p: np.where(np.arange(TRAINING)[:, None] == 6, p * 2, p), "row 6: not probabilities"),
        (lambda p: p[:0, 0], r"shape \(0,\)"),
    ],
)
def test_a_posterior_of_other_samples_is_refused(tmp_path, damage, words):
    biased = biased_artefact(raw_artefact(tmp_path), "type2-0.35", teacher=teacher(tmp_path, damage(sharp())))
    with pytest.raises(IntegrityError, match=rf"posterior\.npy: .*{words}"):
        injected(biased, tmp_path)


# --- hybrid noise


def test_a_transition_follows_its_matrix():
    labels = np.repeat(np.arange(4, dtype=np.int16), 5000)
    noisy = transition(labels, symmetric_matrix(0.3, 4), np.random.RandomState(0))
    assert noisy.dtype == np.int16
    assert stats.binomtest(int((noisy != labels).sum()), len(labels), 0.3).pvalue > 1e-3
    steps = np.bincount((noisy - labels)[noisy != labels] % 4, minlength=4)
    assert steps[0] == 0 and stats.chisquare(steps[1:]).pvalue > 1e-3
    moved = transition(labels, asymmetric_matrix(0.3, {0: 1, 2: 3}, 4), np.random.RandomState(0))
    seen = set(zip(labels.tolist(), moved.tolist(), strict=True))
    assert seen == {(0, 0), (0, 1), (1, 1), (2, 2), (2, 3), (3, 3)}


def test_two_published_draws_in_one_bias_are_independent():
    labels = apply_bias(CLEAN, parse_bias("plc:sym-0.3+plc:asym-0.3"), FACTS["digits"], 1).labels
    rng = np.random.RandomState(1)
    first = transition(CLEAN, symmetric_matrix(0.3, 10), rng)
    assert (
        labels == transition(first, asymmetric_matrix(0.3, FACTS["digits"].class_map("plc"), 10), rng)
    ).all()


def test_the_published_hybrid_maps():
    assert FACTS["cifar10"].class_map("plc") == {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
    assert FACTS["cifar100"].class_map("plc")[4] == 0
    assert FACTS["cifar100"].class_map("plc")[97] == 98


def real(name):
    file = REAL / name
    if not file.is_file():
        pytest.skip(f"no published label files: {file} is not there")
    return np.load(file)


def test_the_published_hybrid_has_the_published_class_counts():
    given = real("plc.npz")["cifar10-1-0.35"].astype(np.int16)
    counts = {
        "plc:type1-0.35": [4584, 4410, 4810, 5184, 4345, 4883, 4070, 4010, 4150, 4554],
        "plc:type1-0.35+plc:asym-0.3": [6026, 5754, 3368, 5129, 3047, 4938, 4070, 5308, 4150, 3210],
    }
    for bias, expected in counts.items():
        clean = np.zeros(50_000, np.int16)
        biased = apply_bias(clean, parse_bias(bias), FACTS["cifar10"], 1, given=given)
        assert biased.kept[:45_000].all() and not biased.kept[45_000:].any()
        assert np.bincount(biased.labels[biased.kept], minlength=10).tolist() == expected


@pytest.mark.parametrize(("source", "step"), PUBLISHED)
def test_the_files_at_hand_are_the_published_ones(source, step):
    facts = FACTS[source].label_files[step]
    if step.startswith("plc:"):
        labels = real("plc.npz")[Path(facts.url).stem]
    else:
        word = step.removeprefix("human-")
        labels = real("cifar-n.npz")[f"{source}_{'fine' if word == 'noisy' else word}"]
    assert len(labels) == facts.rows
    assert labels.max() < FACTS[source].num_classes
    assert label_digest(labels.astype(np.int16)) == facts.labels_sha256


def test_names_of_files_a_dataset_lacks_are_refused():
    assert len(PUBLISHED) == 18
    assert len({FACTS[source].label_files[step].labels_sha256 for source, step in PUBLISHED}) == 18
    FACTS["cifar100"].check(parse_bias("plc:type3-0.7+plc:sym-0.3"))
    FACTS["cifar10"].check(parse_bias("published:type3-0.7"))
    FACTS["digits"].check(parse_bias(OWN))
    assert FACTS["digits"].label_file(parse_bias(OWN)[0]) is None
    for source, bias, words in [
        ("digits", "human-worst", "digits has no label file human-worst; it has none"),
        (
            "cifar10",
            "human-noisy",
            r"cifar10 has no label file human-noisy; it has plc:type1-0\.35, .*human-worst",
        ),
        ("cifar10", "plc:type1-0.5", r"no label file plc:type1-0\.5"),
        ("digits", "published:type1-0.35", r"no factor published:type1-0\.35; it has none"),
    ]:
        with pytest.raises(KeyError, match=words):
            FACTS[source].check(parse_bias(bias))
