"""Feature-dependent noise end to end: one teacher on clean labels, as many biases as asked for."""

import numpy as np
import pytest
import torch

from cmw_pipeline.config.load import load
from cmw_pipeline.config.plan import Plan
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.runtime.signals import StopRequest
from cmw_pipeline.training.loop import train
from tests.support.tiny import state, task

PARAMS = """
build: []
seeds: [0]
bias_seed: 7
datasets:
  digits: {source: digits, teacher: {method: teacher, recipe: short}}
  bare: {source: digits}
biases: {}
methods:
  teacher: {kind: noise-teacher, label: Teacher}
recipes:
  short:
    network: {name: small-cnn}
    optimizer: {lr: 0.1}
    epochs: 1
    batch_size: 100
tables: {}
"""


@pytest.fixture()
def plan(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    return Plan(load(tmp_path / "params.yaml"))


def test_all_settings_share_one_teacher_and_published_files_need_none(plan):
    teachers = {
        plan.inject(f"digits/{bias}").inputs["teacher"].path
        for bias in ("type1-0.35", "type2-0.7", "type3-0.35+sym-0.3")
    }
    assert teachers == {plan.train("digits/none/teacher/short/seed7").path}
    assert "teacher" not in plan.inject("digits/sym-0.4").inputs


def test_the_images_are_the_same_whether_or_not_there_is_a_teacher(plan):
    assert plan.download("digits").digest == plan.download("bare").digest


def test_a_dataset_without_a_teacher_says_what_to_write(plan):
    with pytest.raises(ConfigError, match=r"no teacher\n.*datasets.bare.teacher"):
        plan.inject("bare/type1-0.35")


def test_names_that_point_nowhere_are_found(tmp_path):
    text = PARAMS.replace("{method: teacher, recipe: short}", "{method: teecher, recipe: shrt}")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"(?s)datasets.digits.teacher.method.*datasets.digits.teacher.rec"):
        load(tmp_path / "params.yaml")


def test_the_posterior_is_the_softmax_of_the_last_training_pass(tmp_path):
    run = task("noise-teacher")
    final = state(run, "noise-teacher")
    seen = {}
    observe = final.method.observe

    def spy(logits, batch):
        observe(logits, batch)
        for row, values in zip(batch.rows.tolist(), logits, strict=True):
            seen[row] = torch.softmax(values, 0).numpy()

    final.method.observe = spy
    train(run, final, StopRequest(), tmp_path)
    posterior = final.method.posterior.numpy()
    assert sorted(seen) == list(range(len(posterior)))
    assert np.allclose([seen[row] for row in sorted(seen)], posterior, atol=1e-6)
    assert np.allclose(posterior.sum(axis=1), 1, atol=1e-5)


def test_changing_one_level_moves_only_what_is_made_from_it(tmp_path):
    """The paths of a plan decide what runs: those of the other level, and the teacher's, stay."""
    body = PARAMS.replace("biases: {}", "biases: {two: [type1-0.35, type1-0.7]}").replace(
        "tables: {}",
        "tables:\n  t: {title: T, grid: [{dataset: digits, biases: two, methods: [erm], recipe: short}]}",
    )
    body = body.replace("methods:\n", "methods:\n  erm: {kind: erm, label: ERM}\n")
    paths = []
    for text in (body, body.replace("type1-0.7", "type1-0.6")):
        (tmp_path / "params.yaml").write_text(text)
        paths.append(set(Plan(load(tmp_path / "params.yaml")).artefacts(["t"])))
    assert len(paths[0] - paths[1]) == len(paths[1] - paths[0]) == 3  # labels, run, table
    assert any("teacher" in path for path in paths[0] & paths[1])
