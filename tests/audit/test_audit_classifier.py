"""The classifier that an audit leaves: trained on the rows outside the list."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cmw_pipeline.audit.features import choose_view, make_samples
from cmw_pipeline.audit.run import Asked, classifier, find
from cmw_pipeline.data.own import own_arrays
from cmw_pipeline.runtime.signals import StopRequest

LISTED = np.array([0, 3, 40])


def given(listed_as="a"):
    """Two clusters of thirty; the labels of the listed rows can be changed."""
    rng = np.random.default_rng(0)
    true = np.repeat([0, 1], 30)
    values = (rng.normal(size=(60, 4)) + 3 * np.eye(4)[true]).astype(np.float32)
    labels = np.array(["a", "b"])[true]
    labels[LISTED] = listed_as
    return own_arrays(values, labels)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    folder, data, asked = tmp_path_factory.mktemp("audit"), given(), Asked(folds=0)
    view = choose_view(data, "none")
    samples = make_samples(data, view, folder, asked.device, 0)
    return samples, *find(data, samples, view, asked, folder, StopRequest())


def parameters(fit):
    return torch.cat([p.detach().flatten() for p in fit.network.parameters()])


def test_labels_in_the_list_teach_it_nothing(ranked, tmp_path):
    samples, found, way = ranked
    first, second = (
        classifier(data, samples, replace(found, side=tmp_path / label), way, LISTED, StopRequest())
        for label, data in (("a", given("a")), ("b", given("b")))
    )
    assert torch.equal(parameters(first), parameters(second))
    other = classifier(
        given("b"), samples, replace(found, side=tmp_path / "c"), way, LISTED[:1], StopRequest()
    )
    assert not torch.equal(parameters(first), parameters(other))


def test_with_an_empty_list_it_is_the_fit_that_ranked(ranked):
    samples, found, way = ranked
    assert classifier(given(), samples, found, way, LISTED[:0], StopRequest()) is found.main


def test_a_class_that_is_listed_whole_keeps_its_rows(ranked, tmp_path):
    samples, found, way = ranked
    data = given()
    whole = np.flatnonzero(data.labels == 1)
    fit = classifier(data, samples, replace(found, side=tmp_path), way, np.append(whole, 0), StopRequest())
    assert len(fit.task.problem.labels) == 59
    assert set(fit.task.problem.labels.tolist()) == {0, 1}
