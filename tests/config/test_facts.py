"""Facts about datasets and biases: complete, consistent, said once, and enough to add a dataset or a bias.

The table of archives in the docs is written anew by ``python tests/config/test_facts.py``.
"""

import dataclasses
import functools
import hashlib
import inspect
import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from cmw_pipeline.bias.compose import apply_bias, draw_of
from cmw_pipeline.bias.samples import Draw
from cmw_pipeline.config import facts as facts_room
from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.bias_kinds import ANY_MAP, KINDS, RATE, Kind, Variant
from cmw_pipeline.config.bias_names import BiasStep, parse_bias
from cmw_pipeline.config.contracts import DatasetRequest
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.facts import Row, read
from cmw_pipeline.config.origins import Archive, Archives, archives
from cmw_pipeline.config.schema import Dataset
from cmw_pipeline.data.sources import WRITERS
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.manifests import open_stored
from cmw_pipeline.stages import download
from cmw_pipeline.stages.base import make
from tests.support.raw import read_raw

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
BEGIN, END = "<!-- archives -->\n", "<!-- end -->"
PUBLISHED = {name: facts.origin for name, facts in FACTS.items() if isinstance(facts.origin, Archives)}


def archive_table():
    lines = ["| dataset | form | file | sha256 |", "|---|---|---|---|"]
    for dataset, origin in PUBLISHED.items():
        for number, (form, files) in enumerate(origin.forms.items()):
            word = f"`{form}`" + " (default)" * (number == 0)
            lines += [f"| `{dataset}` | {word} | `{file.name}` | `{file.sha256}` |" for file in files]
    return "\n".join(lines) + "\n"


def with_table(text):
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{archive_table()}{END}{after}"


def test_the_docs_show_the_archives_that_are_fetched():
    assert DOCS.read_text() == with_table(DOCS.read_text()), "run `python tests/config/test_facts.py`"


def test_every_published_file_has_a_hash_and_says_how_it_begins():
    assert set(PUBLISHED) == {"cifar10", "cifar100"}
    for origin in PUBLISHED.values():
        for archive in (archive for form in origin.forms.values() for archive in form):
            assert len(archive.sha256) == 64 and archive.begins == b"\x1f\x8b"
            assert all(url.endswith(archive.name) for url in archive.urls)
            assert all(digest for _, digest in archive.members.values())
            assert not archive.beside & set(archive.members)


def test_mirrors_of_one_archive_have_one_hash():
    hashes = {}
    for row in facts_room.read("archives", type("AnyRow", (Row,), {"model_config": {"extra": "allow"}})):
        if row.what == "mirror":
            hashes.setdefault((row.form, row.archive), set()).add(row.hash)
    assert len(hashes) == 4
    assert all(len(found) == 1 for found in hashes.values())


def test_a_table_of_facts_with_a_wrong_value_is_refused(tmp_path, monkeypatch):
    class Level(Row):
        level: float

    monkeypatch.setattr(facts_room, "__file__", str(tmp_path / "__init__.py"))
    for text in ("level\nhigh\n", "level,other\n0.5,1\n", "level\n\n0.5,1\n", "other\n1\n"):
        (tmp_path / "levels.csv").write_text(text)
        with pytest.raises(ValidationError):
            read("levels", Level)


def test_every_origin_has_a_source():
    origins = {type(facts.origin) for facts in (*FACTS.values(), FACTS["vectors-2-3"])}
    assert origins == set(WRITERS)


# --- a dataset of arrays


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A dataset that is published as two plain files, read by a module of its own; the files by name."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8), np.arange(20) % 2
    files = {"images.npy": npy(images), "labels.npy": npy(labels.astype(np.int16))}

    def read_toy(facts, content):
        parts = [np.load(io.BytesIO(content[name])) for name in files]
        return parts[0], parts[1], np.array(["train"] * 16 + ["test"] * 4)

    module = types.ModuleType("cmw_pipeline.data.toy")
    module.read_toy = read_toy
    monkeypatch.setitem(sys.modules, module.__name__, module)
    form = tuple(
        Archive(
            name=name,
            urls=(f"https://nowhere.invalid/{name}",),
            sha256=hashlib.sha256(data).hexdigest(),
            begins=b"\x93NUMPY",
            folder="",
            members={name: (len(data), "sha256:" + hashlib.sha256(data).hexdigest())},
        )
        for name, data in files.items()
    )
    origin = Archives("toy:read_toy", {"numpy": form})
    facts = dataclasses.replace(FACTS["cifar10"], name="toy", num_classes=2, origin=origin)
    monkeypatch.setitem(FACTS, "toy", facts)
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder, images


def made(root, **options):
    artefact = Artefact("download", "toy", DatasetRequest(source="toy"))
    make(artefact, functools.partial(download.run, **options), root)
    stored = open_stored(root / artefact.path)
    return read_raw(stored.path), stored.manifest["notes"]


def test_a_dataset_of_plain_files_needs_facts_and_a_reader_alone(toy, tmp_path):
    folder, images = toy
    (found, frame), notes = made(tmp_path, local=folder)
    assert (found == images).all() and len(frame["label"]) == 20
    assert notes == {"origin": "files", "verified": True}


def test_plain_files_are_fetched_one_by_one(toy, tmp_path):
    folder, images = toy
    kept = tmp_path / "results" / "downloads"
    kept.mkdir(parents=True)
    for file in folder.iterdir():
        file.rename(kept / file.name)
    (found, _), notes = made(tmp_path)
    assert (found == images).all()
    assert notes == {"origin": "images.npy, labels.npy", "verified": True}


def test_other_plain_files_are_refused_by_name(toy, tmp_path):
    folder, _ = toy
    changed = bytearray((folder / "images.npy").read_bytes())
    changed[-1] ^= 1
    (folder / "images.npy").write_bytes(bytes(changed))
    with pytest.raises(IntegrityError, match=r"by their hashes: images\.npy"):
        made(tmp_path, local=folder)
    with pytest.raises(ConfigError, match="several files; name the folder"):
        made(tmp_path, local=folder / "labels.npy")
    (folder / "labels.npy").unlink()
    with pytest.raises(IntegrityError, match=r"labels\.npy: missing"):
        made(tmp_path, local=folder)


def test_a_form_is_one_that_the_dataset_is_published_in(toy):
    assert Dataset(source="cifar10", form="python").form == "python"
    assert Dataset(source="toy", form="numpy").form == "numpy"
    for source, form, words in (
        ("cifar10", "numpy", "'cifar10' is not published as 'numpy'; it has binary, python"),
        ("digits", "binary", "leave form out"),
    ):
        with pytest.raises(ValidationError, match=words.replace("'cifar10'", "cifar10")):
            Dataset(source=source, form=form)


def test_archives_of_an_unknown_dataset_are_none():
    assert archives("none-such", "toy:read_toy").forms == {}


# --- a kind of bias


def steps_of_every_variant():
    for kind, facts in KINDS.items():
        for variant in facts.variants:
            yield BiasStep(kind, 1.0, None if variant == ANY_MAP else variant)


@pytest.mark.parametrize(
    "step", list(steps_of_every_variant()), ids=lambda step: f"{step.variant}:{step.kind}"
)
def test_every_variant_of_every_kind_has_its_draw(step):
    wanted = list(inspect.signature(Draw.__call__).parameters)[1:]
    assert list(inspect.signature(draw_of(step)).parameters) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_the_docs_say_what_every_kind_does(kind):
    rows = [line.split("|")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    name = "type" if kind in ("type1", "type2", "type3") else kind
    assert any(f"{name}-" in row or f"{name}T-" in row for row in rows), kind


def test_a_new_kind_needs_its_entry_and_its_draw_alone(monkeypatch):
    """Pair noise: a sample goes to the next class, each by itself."""

    def draw(samples, step, facts, draws):
        chosen = draws.own.random(len(samples.labels)) < step.value
        return samples.labelled(np.where(chosen, (samples.labels + 1) % facts.num_classes, samples.labels))

    module = types.ModuleType("cmw_pipeline.bias.pair")
    module.draw = draw
    monkeypatch.setitem(sys.modules, module.__name__, module)
    pair = Kind(RATE, "{percent} pair noise", {None: Variant("pair:draw")})
    monkeypatch.setattr("cmw_pipeline.config.bias_names.KINDS", {**KINDS, "pair": pair})
    steps = parse_bias("lt-10+pair-0.45+partial-0.1")
    assert steps[1].words == "45% pair noise"
    clean = np.arange(2000, dtype=np.int16) % 10
    pairs = parse_bias("pair-0.45")
    moved = apply_bias(clean, pairs, FACTS["digits"], 1).labels - clean
    assert set(moved.tolist()) == {0, 1, -9}
    assert apply_bias(clean, steps, FACTS["digits"], 1).candidates is not None
    with pytest.raises(ValueError, match=r"pair-2': the rate is 2; it must lie in \[0, 1\]"):
        parse_bias("pair-2")


def test_samples_that_a_tail_drops_keep_their_clean_labels():
    clean = np.arange(2000, dtype=np.int16) % 10
    biased = apply_bias(clean, parse_bias("sym-0.9+labels-100+lt-10"), FACTS["digits"], 1)
    assert 100 < biased.kept.sum() < 2000
    assert (biased.labels[~biased.kept] == clean[~biased.kept]).all()
    assert not biased.candidates[~biased.kept].any()


if __name__ == "__main__":
    DOCS.write_text(with_table(DOCS.read_text()))
