"""The defaults of all options are those on record: a run's digest says what is chosen, not what is left out.

A changed default gives other results under the same path. So the version of the stages that read it has to be
raised; then ``python tests/config/test_defaults.py`` writes the record anew, as after an option that is new
or gone.
"""

import json
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from cmw_pipeline.config.artefact import STAGE_VERSIONS
from cmw_pipeline.config.methods import KINDS
from cmw_pipeline.config.schema import Dataset, Recipe, Table

RECORD = Path(__file__).with_name("golden_defaults.json")
READ_BY = {("download",): [Dataset], ("train", "transfer"): [Recipe, *KINDS.values()], ("table",): [Table]}
"""Stages -> the models whose values their digest is over."""


def models_in(annotation):
    """Every model that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for part in typing.get_args(annotation):
        yield from models_in(part)


def defaults_of(model):
    fields = model.model_fields.items()
    found = {
        name: field.get_default(call_default_factory=True)
        for name, field in fields
        if not field.is_required()
    }
    return to_jsonable_python(found)


def current():
    """{stages: {their versions, model -> option -> default}}."""
    groups = {}
    for stages, roots in READ_BY.items():
        models = {model.__name__: defaults_of(model) for root in roots for model in models_in(root)}
        versions = {stage: STAGE_VERSIONS[stage] for stage in stages}
        groups[", ".join(stages)] = {"versions": versions, "defaults": dict(sorted(models.items()))}
    return groups


def unannounced(recorded, now):
    """The defaults that changed while a stage that reads them kept its version."""
    for stages, group in recorded.items():
        raised = all(now[stages]["versions"][stage] > version for stage, version in group["versions"].items())
        for model, options in group["defaults"].items():
            left = now[stages]["defaults"].get(model, {})
            changed = [option for option in options if option in left and left[option] != options[option]]
            yield from (f"{model}.{option}" for option in changed if not raised)


def record():
    return json.loads(RECORD.read_text())


def test_no_default_changes_under_the_same_version():
    changed = list(unannounced(record(), current()))
    assert not changed, f"{changed}: raise the version of the stages in config/artefact.py that read it"


def test_the_record_is_up_to_date():
    assert record() == current(), "write it anew: python tests/config/test_defaults.py"


def test_a_changed_default_is_noticed_until_both_versions_are_raised():
    now = current()
    now["train, transfer"]["defaults"]["Optimizer"]["momentum"] = 0.8
    assert list(unannounced(record(), now)) == ["Optimizer.momentum"]
    now["train, transfer"]["versions"]["train"] += 1
    assert list(unannounced(record(), now)) == ["Optimizer.momentum"]
    now["train, transfer"]["versions"]["transfer"] += 1
    assert list(unannounced(record(), now)) == []


def test_models_of_one_name_are_one_model():
    for roots in READ_BY.values():
        models = {model for root in roots for model in models_in(root)}
        assert len({model.__name__ for model in models}) == len(models)


@pytest.mark.parametrize("model", ["Recipe", "Optimizer", "Cosine", "Erm", "WeightNet"])
def test_the_models_inside_models_are_on_record(model):
    assert model in record()["train, transfer"]["defaults"]


if __name__ == "__main__":
    wrong = list(unannounced(record(), current())) if RECORD.exists() else []
    assert not wrong, f"{wrong}: raise the version of the stages that read it first"
    RECORD.write_text(json.dumps(current(), indent=1) + "\n")
