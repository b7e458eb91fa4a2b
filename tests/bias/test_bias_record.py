"""What is drawn for a bias: the labels, kept samples and candidate sets of `cmw inject`, as recorded.

Label tables made with these draws are published: another value means that the same parameters would give
other labels than the ones results were reported on.

    python tests/bias/test_bias_record.py > tests/bias/golden_biases.json
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.bias.feature_dependent import solve_factor
from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.contracts import BiasRequest, DatasetRequest, Request
from cmw_pipeline.data.digits import read_digits
from cmw_pipeline.data.label_files import label_digest, write_given
from cmw_pipeline.io.manifests import open_stored, publish
from cmw_pipeline.io.tables import write_array
from cmw_pipeline.stages import download, inject
from cmw_pipeline.stages.base import make

RECORD = Path(__file__).with_name("golden_biases.json")
SEED, NOTHING = 1, Request()
_, LABELS, SPLIT = read_digits()
CLEAN = LABELS[SPLIT == "train"]
ROLLED = np.where(np.arange(len(CLEAN)) % 3 == 0, (CLEAN + 1) % 10, CLEAN).astype(np.int16)
OWN = f"file-{label_digest(ROLLED)[:12]}"
DRAWS = [
    "none",
    "lt-10",
    "sym-0.4",
    "other:sym-0.4",
    "plc:sym-0.3",
    "freq:sym-0.4",
    "lt-10+freq:sym-0.4",
    "asym-0.4",
    "one-way:asym-0.4",
    "plc:asym-0.3",
    "plc:sym-0.3+plc:asym-0.3",
    "lt-5+other:sym-0.2+asym-0.3",
    "partial-0.3",
    "lt-5+sym-0.5+partial-0.2",
    "labels-40",
    "lt-3+labels-100",
    "labels-100+lt-10",
    "sym-0.2+labels-100+lt-5",
]
TAUGHT = ["type1-0.35", "type2-0.35", "lt-2+type3-0.3+sym-0.2", "type2-0.35+partial-0.1"]
FROM_FILE = [OWN, f"{OWN}+other:sym-0.1", f"lt-4+{OWN}+plc:asym-0.3"]
OF_CIFAR = ["two-way:asym-0.4", "plc:asym-0.3", "published:type2-0.35"]
"""On the digits' labels, with the class maps and the published factors of CIFAR-10."""


def cases():
    yield from (("digits", bias) for bias in (*DRAWS, *TAUGHT, *FROM_FILE))
    yield from (("cifar10", bias) for bias in OF_CIFAR)


def stored(root, artefact, write):
    with publish(artefact, {}, root) as draft:
        write(draft.path)


def posterior():
    """(N, 10) of a teacher that is right of most samples, and in doubt of some."""
    place = np.arange(10) - CLEAN[:, None]
    doubt = 1 + np.arange(len(CLEAN))[:, None] % 8
    scores = doubt / (doubt + 200.0 * place**2)
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float16)


def project(root):
    """The inputs of every case: real digits, a teacher's posterior, a label file."""
    raw = Artefact("download", "digits", DatasetRequest(source="digits"))
    make(raw, download.run, root)
    teacher, labels = Artefact("train", "teacher", NOTHING), Artefact("download", f"digits/{OWN}", NOTHING)
    stored(root, teacher, lambda out: write_array(out / "posterior.npy", posterior()))
    stored(root, labels, lambda out: write_given(out, ROLLED, None))
    return raw, {"teacher": teacher, "labels": labels}


def drawn(root, raw, inputs, source, bias):
    """A hash over the biased table and the candidate sets, as the stage writes them."""
    needed = {role: made for role, made in inputs.items() if (role == "teacher") == ("type" in bias)}
    needed = needed if "type" in bias or "file" in bias else {}
    params = BiasRequest(source=source, bias=bias, seed=SEED)
    artefact = Artefact("inject", f"{source}/{bias}", params, {"raw": raw, **needed})
    make(artefact, inject.run, root)
    path = open_stored(root / artefact.path).path
    frame = pd.read_parquet(path / "labels.parquet")
    used = frame["label"].where(frame["split"] != "unused", -1)
    hashed = hashlib.sha256(used.to_numpy("<i2").tobytes())
    hashed.update("".join(frame["split"].str[:2]).encode())
    if (path / "candidates.npy").exists():
        hashed.update(np.packbits(np.load(path / "candidates.npy")).tobytes())
    return hashed.hexdigest()


def record():
    with tempfile.TemporaryDirectory() as folder:
        raw, inputs = project(Path(folder))
        return {f"{s}/{b}": drawn(Path(folder), raw, inputs, s, b) for s, b in cases()}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    return root, *project(root)


@pytest.mark.parametrize(("source", "bias"), list(cases()))
def test_the_draws_are_the_recorded_ones(digits, source, bias):
    assert drawn(*digits, source, bias) == json.loads(RECORD.read_text())[f"{source}/{bias}"]


def test_the_recorded_teacher_reaches_its_levels():
    for kind, level in (("type1", 0.35), ("type2", 0.35), ("type3", 0.3)):
        assert solve_factor(kind, posterior(), CLEAN, level) >= 1


if __name__ == "__main__":
    sys.stdout.write(json.dumps(record(), indent=2) + "\n")
