"""Rows of the published tables run under the settings of the published code: what a run is asked for."""

from pathlib import Path

import pytest

from cmw_pipeline.config import Plan, load

PLAN = Plan(load(Path(__file__).parents[2] / "params.yaml"))

DIVIDEMIX = {
    "temperature": 0.5,
    "mixup": 0.5,
    "lambda_u": 0.0,
    "batch_size": 32,
    "trains_on": "labelled",
    "gmm_steps": 10,
}
"""Train_webvision.py of DivideMix and of C2D."""
SGD = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4}
HALVES = {"epochs": 80, "batch_size": 64, "schedule.milestones": [40], "schedule.factor": 0.1}
"""80 epochs, a tenth of the rate from epoch 40 on; the warm-up takes batches of 64."""
SELFIE = {
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    "schedule.milestones": [50, 75],
    "schedule.factor": 0.2,
    "epochs": 100,
    "batch_size": 128,
    "augment.flip": False,
}
"""main.py and VGG19.py of SELFIE: 0.1, 0.02 and 0.004."""

ROWS = {
    ("table7", "DivideMix"): (
        DIVIDEMIX | {"start_epoch": 1, "threshold": 0.5},
        HALVES
        | {
            "network.name": "inception-resnet-v2",
            "optimizer": SGD,
            "picture": {"side": 299, "resize": 320, "crop": "resized"},
        },
    ),
    ("table7", "DivideMix (ResNet-50)"): (
        DIVIDEMIX | {"start_epoch": 5, "threshold": 0.5},
        HALVES | {"network.name": "resnet50", "optimizer": SGD, "picture.side": 227},
    ),
    ("table7", "DivideMix with C2D"): (
        DIVIDEMIX | {"start_epoch": 5, "threshold": 0.03},
        HALVES | {"network.name": "resnet50", "optimizer": SGD, "picture.side": 227},
    ),
    ("table7", "ELR"): (
        {"memory": 0.7, "strength": 3.0, "mixup": 1.5, "teacher_ramp": None, "strength_ramp": 0},
        {
            "network.name": "inception-resnet-v2",
            "optimizer": SGD | {"lr": 0.02},
            "schedule.milestones": [50],
            "epochs": 100,
            "batch_size": 32,
            "ema": 0.997,
            "picture.side": 227,
        },
    ),
    ("table6", "ERM"): ({}, SELFIE),
    ("table6", "ActiveBias"): ({"start_epoch": 25, "smoothing": 0.2}, SELFIE),
    ("table6", "Co-teaching"): ({"forget_rate": 0.08, "ramp_epochs": 15}, SELFIE),
    ("table6", "SELFIE"): (
        {"start_epoch": 25, "window": 15, "entropy": 0.05, "forget_rate": 0.08},
        SELFIE,
    ),
}
"""(table, row) -> options of the method, of the recipe."""


def at(request, place):
    for key in place.split("."):
        request = request[key]
    return request


@pytest.mark.parametrize(("table", "label"), ROWS)
def test_a_row_is_asked_for_as_published(table, label):
    requests = [PLAN.run(c).request.whole for c in PLAN.cells(table) if PLAN.options(c).label == label]
    assert requests
    for part, settings in zip(("method", "recipe"), ROWS[table, label], strict=True):
        for request in requests:
            assert {place: at(request[part], place) for place in settings} == settings
