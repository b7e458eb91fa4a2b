"""What lies there is compared with what it was made from, along the whole line."""

import pytest

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.contracts import BiasRequest, DatasetRequest, MetaSetRequest
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.atomic import remove_tree
from cmw_pipeline.io.lineage import Lineage
from cmw_pipeline.io.manifests import publish

RAW = Artefact("download", "set", DatasetRequest(source="digits"))
BIASED = Artefact(
    "inject", "set/asym-0.4", BiasRequest(source="digits", bias="asym-0.4", seed=1), {"raw": RAW}
)
METASET = Artefact(
    "metaset", "set/asym-0.4/clean-2", MetaSetRequest(rule="clean-2", seed=1), {"biased": BIASED}
)
LINE = [RAW, BIASED, METASET]


def seen(root, outside=lambda *_: None):
    return Lineage(root, outside)


def make(root, artefact, **files):
    inputs = {role: seen(root).open(source) for role, source in artefact.inputs.items()}
    with publish(artefact, inputs, root) as draft:
        for name, text in (files or {"labels": "1"}).items():
            (draft.path / name.replace("_", ".")).write_text(text)


@pytest.fixture
def root(tmp_path):
    for artefact in LINE:
        make(tmp_path, artefact)
    return tmp_path


def test_what_was_just_made_is_current(root):
    assert not any(seen(root).stale(artefact) for artefact in LINE)
    assert seen(root).open(METASET).manifest["name"] == METASET.name


def test_something_else_in_the_place_of_an_input_makes_all_behind_it_stale(root):
    make(root, RAW, labels="2")
    line = seen(root)
    assert line.stale(RAW) is None
    assert line.stale(BIASED) == line.stale(METASET)
    for reader in (lambda: line.open(BIASED), lambda: line.open_inputs(METASET), lambda: line.open(METASET)):
        with pytest.raises(IntegrityError) as raised:
            reader()
        assert str(BIASED.path) in raised.value.message
        assert "`cmw inject set/asym-0.4`" in raised.value.hint
    make(root, BIASED)
    assert not any(seen(root).stale(artefact) for artefact in LINE), "the same labels came out"


def test_the_same_again_makes_nothing_stale(root):
    make(root, RAW)
    assert not any(seen(root).stale(artefact) for artefact in LINE)


def test_files_that_tell_of_the_making_are_no_part_of_the_result(root):
    make(root, RAW, labels="1", faults_parquet="three files were left out")
    assert not any(seen(root).stale(artefact) for artefact in LINE)
    assert seen(root).content(RAW) != seen(root).content(BIASED)


def test_what_is_not_there_contradicts_nothing_and_is_a_gap(root):
    remove_tree(root / BIASED.path)
    line = seen(root)
    assert line.stale(METASET) is None
    assert line.gaps(METASET) == {str(BIASED.path): BIASED}
    with pytest.raises(IntegrityError, match="no finished artefact") as raised:
        line.open_inputs(METASET)
    assert "`cmw inject set/asym-0.4`" in raised.value.hint
    make(root, RAW, labels="2")
    make(root, BIASED, labels="2")
    assert seen(root).stale(METASET).artefact == METASET


def test_a_change_outside_the_project_reaches_to_the_end_of_the_line(root):
    line = seen(root, lambda artefact, *_: "the folder has changed" if artefact == RAW else None)
    assert {line.stale(artefact).artefact for artefact in LINE} == {RAW}
    with pytest.raises(IntegrityError, match="the folder has changed"):
        line.open(METASET)


def test_another_artefacts_folder_under_a_name_is_stale(root):
    other = Artefact(
        "inject", "set/asym-0.4", BiasRequest(source="digits", bias="asym-0.4", seed=2), {"raw": RAW}
    )
    make(root, other)
    remove_tree(root / BIASED.path)
    (root / other.path).rename(root / BIASED.path)
    assert "holds the artefact" in seen(root).stale(BIASED).why
