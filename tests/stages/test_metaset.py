"""The metaset stage: balanced, held out, clean, or refused with the numbers that say why."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmw_pipeline.config.contracts import Biased, MetaSet, Raw
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.config.schema import Params
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.manifests import open_stored, publish
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.stages import inject, metaset
from cmw_pipeline.stages.base import make
from cmw_pipeline.types import TEST, TRAIN, UNUSED


@pytest.fixture
def plan():
    return make_plan(1)


def make_plan(bias_seed):
    return Plan(
        Params.model_validate(
            {
                "build": [],
                "seeds": [0],
                "bias_seed": bias_seed,
                "datasets": {"digits": {"source": "digits"}},
                "biases": {},
                "methods": {},
                "recipes": {},
                "tables": {},
            }
        )
    )


def biased_by(plan, root, bias, per_class=40, test=20):
    """A biased table made by the inject stage from ``per_class`` training rows of each of ten classes."""
    label = np.tile(np.arange(10), per_class + test).astype(np.int16)
    split = np.repeat([TRAIN, TEST], [10 * per_class, 10 * test])
    frame = pd.DataFrame({"index": np.arange(len(label), dtype=np.int32), "label": label, "split": split})
    with publish(plan.download("digits"), {}, root) as draft:
        np.save(draft.path / "images.npy", np.zeros((len(frame), 8, 8, 1), np.uint8))
        write_table(draft.path / Raw.LABELS, frame, Raw.LABELS.columns)
    artefact = plan.inject(f"digits/{bias}")
    make(artefact, inject.run, root)
    return read_table(root / artefact.path / Raw.LABELS, Biased.LABELS.columns)


def biased_as(plan, root, bias, table):
    """A biased table written by hand."""
    with publish(plan.inject(f"digits/{bias}"), {}, root) as draft:
        write_table(draft.path / Raw.LABELS, table, Biased.LABELS.columns)


def chosen(plan, root, name):
    artefact = plan.metaset(f"digits/{name}")
    make(artefact, metaset.run, root)
    stored = open_stored(root / artefact.path)
    return read_table(stored.path / "metaset.parquet", MetaSet.SAMPLES.columns), stored


def labels(rows, clean=None, split=TRAIN):
    rows = np.asarray(rows, dtype=np.int16)
    clean = rows if clean is None else clean
    return pd.DataFrame(
        {
            "index": np.arange(len(rows), dtype=np.int32),
            "label": rows,
            "clean_label": clean,
            "split": split,
            "is_flipped": rows != np.asarray(clean),
        }
    )


@pytest.mark.parametrize("bias", ["none", "lt-20", "sym-0.6", "asym-0.4", "lt-10+sym-0.4"])
def test_clean_is_balanced_clean_and_disjoint_from_test(plan, tmp_path, bias):
    table = biased_by(plan, tmp_path, bias)
    meta, stored = chosen(plan, tmp_path, f"{bias}/clean-5")
    rows = table.set_index("index").loc[meta["index"]]
    assert np.bincount(meta["label"], minlength=10).tolist() == [5] * 10
    assert meta["index"].is_unique
    assert (rows["clean_label"].to_numpy() == meta["label"].to_numpy()).all()
    assert not (rows["split"] == TEST).any()
    assert {key: stored.manifest["notes"][key] for key in ("rule", "per_class")} == {
        "rule": "clean-5",
        "per_class": 5,
    }


def test_unused_rows_come_first(plan, tmp_path):
    table = biased_by(plan, tmp_path, "lt-4")
    unused = table[table["split"] == UNUSED]["label"].value_counts().reindex(range(10), fill_value=0)
    assert unused[0] == 0 and 0 < unused[2] < 15 < unused[9]  # all three cases occur
    meta, _ = chosen(plan, tmp_path, "lt-4/clean-15")
    rows = table.set_index("index").loc[meta["index"]]
    taken = rows[rows["split"] == UNUSED]["label"].value_counts().reindex(range(10), fill_value=0)
    assert taken.tolist() == [min(15, int(count)) for count in unused]


def test_same_bytes_again_and_another_seed_draws_others(tmp_path):
    drawn = []
    for run, seed in enumerate([1, 1, 2]):
        plan, root = make_plan(seed), tmp_path / str(run)
        biased_by(plan, root, "none")
        meta, stored = chosen(plan, root, "none/clean-5")
        drawn.append((stored.content, set(meta["index"])))
    assert drawn[0] == drawn[1]
    assert drawn[0][1] != drawn[2][1]


def test_noise_does_not_move_the_held_out_images(plan, tmp_path):
    """Methods are compared over noise rates on the same held-out images."""
    indices = []
    for bias in ("none", "sym-0.4", "asym-0.4"):
        biased_by(plan, tmp_path, bias)
        indices.append(set(chosen(plan, tmp_path, f"{bias}/clean-5")[0]["index"]))
    assert indices[0] == indices[1] == indices[2]


@given(
    st.lists(st.integers(0, 6), min_size=10, max_size=10),
    st.lists(st.integers(0, 6), min_size=10, max_size=10),
    st.integers(1, 6),
)
@settings(max_examples=25)
def test_clean_either_fits_or_is_refused(tmp_path_factory, train, unused, per_class):
    """Oracle: K fits where each class has K + 1 samples outside the test set."""
    plan, root = make_plan(1), tmp_path_factory.mktemp("case")
    rows = np.repeat(np.tile(np.arange(10), 2), train + unused)
    split = np.repeat([TRAIN, UNUSED], [sum(train), sum(unused)])
    biased_as(plan, root, "lt-2", labels(rows, split=split))
    fits = all(a + b > per_class for a, b in zip(train, unused, strict=True))
    if fits:
        meta, _ = chosen(plan, root, f"lt-2/clean-{per_class}")
        left = np.delete(rows, meta["index"])[np.delete(split, meta["index"]) == TRAIN]
        assert np.bincount(meta["label"], minlength=10).tolist() == [per_class] * 10
        assert set(left) == {label for label in range(10) if train[label]}
    else:
        with pytest.raises(ConfigError, match="clean samples outside the test set"):
            chosen(plan, root, f"lt-2/clean-{per_class}")


def test_too_few_names_class_counts_and_what_fits(plan, tmp_path):
    rows = np.repeat(np.arange(10), [20, 20, 20, 8, 20, 20, 20, 20, 20, 20])
    biased_as(plan, tmp_path, "none", labels(rows))
    with pytest.raises(ConfigError) as caught:
        chosen(plan, tmp_path, "none/clean-10")
    assert caught.value.message == (
        "digits/none/clean-10: class 3 has 8 clean samples outside the test set; "
        "11 are needed, 10 to hold out and one to train on"
    )
    assert caught.value.hint == "write clean-K with K at most 7"
    assert caught.value.exit_code == 2
    assert len(chosen(plan, tmp_path, "none/clean-7")[0]) == 70


def test_test_rows_do_not_count(plan, tmp_path):
    rows = np.tile(np.arange(10), 6)
    biased_as(plan, tmp_path, "none", labels(rows, split=np.repeat([TRAIN, TEST], [30, 30])))
    with pytest.raises(ConfigError, match="has 3 clean samples"):
        chosen(plan, tmp_path, "none/clean-3")


def test_last_sample_of_a_given_label_is_not_held_out(tmp_path):
    """Row 0 is the only one with the label 0; without it nothing would teach that label."""
    clean = np.tile(np.arange(10), 4)
    table = labels(np.where((clean == 0) & (np.arange(40) > 0), 1, clean), clean)
    refused = 0
    for seed in range(8):
        plan, root = make_plan(seed), tmp_path / str(seed)
        biased_as(plan, root, "asym-0.9", table)
        try:
            assert 0 not in set(chosen(plan, root, "asym-0.9/clean-2")[0]["index"])
        except ConfigError as error:
            assert "all 1 training samples with label 0" in str(error)
            refused += 1
    assert 0 < refused < 8


def test_a_label_that_was_gone_before_is_no_reason_to_refuse(plan, tmp_path):
    biased_by(plan, tmp_path, "asym-1")
    assert len(chosen(plan, tmp_path, "asym-1/clean-5")[0]) == 50


def test_unknown_clean_labels_are_refused_only_where_needed(plan, tmp_path):
    rows = np.tile(np.arange(10), 20)
    table = labels(rows).assign(clean_label=pd.array([pd.NA] * 200, dtype="Int16"))
    biased_as(plan, tmp_path, "none", table)
    with pytest.raises(ConfigError, match="200 of 200 clean labels are not known") as caught:
        chosen(plan, tmp_path, "none/clean-5")
    assert "lowest-K or random-min" in caught.value.hint
    assert chosen(plan, tmp_path, "none/lowest-5")[1].manifest["notes"]["per_class"] == 5
    assert chosen(plan, tmp_path, "none/random-min")[1].manifest["notes"]["per_class"] == 20


def test_where_some_clean_labels_are_known_those_are_held_out(plan, tmp_path):
    rows = np.tile(np.arange(10), 20)
    clean = pd.array(rows, dtype="Int16")
    clean[50:] = pd.NA
    biased_as(plan, tmp_path, "none", labels(rows).assign(clean_label=clean))
    meta, _ = chosen(plan, tmp_path, "none/clean-5")
    assert sorted(meta["index"]) == list(range(50)) and (meta["label"] == rows[meta["index"]]).all()


def test_unknown_clean_labels_of_test_rows_do_not_matter(plan, tmp_path):
    rows = np.tile(np.arange(10), 20)
    clean = pd.array(rows, dtype="Int16")
    clean[100:] = pd.NA
    table = labels(rows, split=np.repeat([TRAIN, TEST], 100)).assign(clean_label=clean)
    biased_as(plan, tmp_path, "none", table)
    meta, _ = chosen(plan, tmp_path, "none/clean-5")
    assert np.bincount(meta["label"]).tolist() == [5] * 10


@pytest.mark.parametrize(
    ("rule", "per_class"), [("random-min", 10), ("lowest-1", 1), ("lowest-10", 10), ("any-50", 50)]
)
def test_run_time_rules_write_an_empty_table(plan, tmp_path, rule, per_class):
    table = biased_by(plan, tmp_path, "lt-4")
    assert table[table["split"] == TRAIN]["label"].value_counts().min() == 10
    meta, stored = chosen(plan, tmp_path, f"lt-4/{rule}")
    assert len(meta) == 0
    assert stored.manifest["notes"]["rule"] == rule
    assert stored.manifest["notes"]["per_class"] == per_class


def test_run_time_rules_count_given_labels(plan, tmp_path):
    table = biased_by(plan, tmp_path, "asym-0.5")
    smallest = int(table[table["split"] == TRAIN]["label"].value_counts().min())
    assert smallest < 40
    assert chosen(plan, tmp_path, "asym-0.5/random-min")[1].manifest["notes"]["per_class"] == smallest
    with pytest.raises(ConfigError, match=rf"has {smallest} training samples; 40 are needed") as caught:
        chosen(plan, tmp_path, "asym-0.5/lowest-40")
    assert caught.value.hint == f"write lowest-K with K at most {smallest}"


def test_any_k_counts_training_samples_whatever_their_labels(plan, tmp_path):
    table = biased_by(plan, tmp_path, "asym-1")
    there = int((table["split"] == TRAIN).sum())
    assert chosen(plan, tmp_path, f"asym-1/any-{there}")[1].manifest["notes"]["per_class"] == there
    with pytest.raises(ConfigError, match=rf"there are {there} training samples; {there + 1} are") as caught:
        chosen(plan, tmp_path, f"asym-1/any-{there + 1}")
    assert caught.value.hint == f"write any-K with K at most {there}"


@pytest.mark.parametrize("rule", ["random-min", "lowest-1"])
def test_a_label_without_samples_is_refused(plan, tmp_path, rule):
    biased_by(plan, tmp_path, "asym-1")
    with pytest.raises(ConfigError, match="class 2 has 0 training samples; 1 are needed"):
        chosen(plan, tmp_path, f"asym-1/{rule}")
