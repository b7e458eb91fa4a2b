import math
import statistics

import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.errors import NumericsError
from cmw_pipeline.metrics.accuracy import top_k_accuracy
from cmw_pipeline.metrics.aggregate import over_seeds
from cmw_pipeline.metrics.selective import risk_coverage


def tidy(**cells):
    return pd.DataFrame(
        [
            {"cell": cell, "seed": seed, "value": value}
            for cell, values in cells.items()
            for seed, value in enumerate(values)
        ]
    )


def test_over_seeds_is_what_the_statistics_module_says():
    values = {"b": [97.2, 98.1, 97.7], "a": [84.0, 85.5]}
    result = over_seeds(tidy(**values), ["cell"])
    assert list(result["cell"]) == ["b", "a"]
    for row in result.to_dict("records"):
        own = values[row["cell"]]
        assert row["n"] == len(own)
        assert row["mean"] == pytest.approx(statistics.mean(own))
        assert row["std"] == pytest.approx(statistics.stdev(own))
        assert row["standard_error"] == pytest.approx(statistics.stdev(own) / math.sqrt(len(own)))


def test_one_seed_has_no_spread():
    row = over_seeds(tidy(a=[90.0]), ["cell"]).iloc[0]
    assert (row["n"], row["mean"]) == (1, 90.0)
    assert math.isnan(row["std"])
    assert math.isnan(row["standard_error"])


def test_a_seed_twice_is_not_two_seeds():
    twice = pd.concat([tidy(a=[90.0]), tidy(a=[91.0])])
    with pytest.raises(ValueError, match="two values of one seed"):
        over_seeds(twice, ["cell"])


LOGITS = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.0, 1.0, 2.0], [3.0, 2.0, 1.0]])
LABELS = np.array([1, 1, 0, 2])


@pytest.mark.parametrize(("k", "percent"), [(1, 25.0), (2, 50.0), (3, 100.0)])
def test_top_k_by_hand(k, percent):
    assert top_k_accuracy(LOGITS, LABELS, k) == percent


def test_top_1_is_the_accuracy_of_argmax():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(500, 7)), rng.integers(0, 7, 500)
    assert top_k_accuracy(logits, labels) == pytest.approx(100 * np.mean(logits.argmax(axis=1) == labels))


def test_a_constant_model_is_no_better_than_one_class():
    assert top_k_accuracy(np.zeros((10, 10)), np.arange(10)) == 10.0


def test_wrong_shapes_and_nan_are_refused():
    with pytest.raises(ValueError, match="N > 0"):
        top_k_accuracy(np.empty((0, 3)), np.array([], dtype=int))
    with pytest.raises(ValueError, match="logits"):
        top_k_accuracy(LOGITS, LABELS[:-1])
    with pytest.raises(ValueError, match="3 classes"):
        top_k_accuracy(LOGITS, LABELS, 4)
    with pytest.raises(NumericsError, match="1 of 4 samples"):
        top_k_accuracy(np.where(np.eye(4, 3) * [1, 0, 0] > 0, np.nan, LOGITS), LABELS)


@pytest.mark.parametrize("logits", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("labels", [np.uint8, np.int8, np.uint16, np.int64])
def test_accuracy_is_the_same_in_every_dtype(logits, labels):
    assert top_k_accuracy(LOGITS.astype(logits), LABELS.astype(labels), 2) == 50.0


@pytest.mark.parametrize(
    ("logits", "labels"),
    [(LOGITS.astype(np.uint8), LABELS), (LOGITS, LABELS.astype(bool)), (LOGITS, LABELS.astype(float))],
)
def test_numbers_that_are_no_logits_or_no_classes_are_refused(logits, labels):
    with pytest.raises(ValueError, match="expected floats and integers"):
        top_k_accuracy(logits, labels)


@pytest.mark.parametrize(
    ("wrong", "confidence"),
    [(np.array([1, 0]), np.array([0.1, 0.2])), (np.array([True, False]), np.array([1, 2], np.uint8))],
)
def test_numbers_that_are_no_errors_or_no_confidences_are_refused(wrong, confidence):
    with pytest.raises(ValueError, match="expected bool and floats"):
        risk_coverage(wrong, confidence)
