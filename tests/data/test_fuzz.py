"""Bytes of any kind before every reader: accepted in the promised form, or refused in one line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fuzz_targets import NAMES, Targets


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return Targets(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", NAMES)
def test_genuine_files_are_read_and_hostile_ones_run_nothing(targets, name):
    for seed in targets.seeds(name):
        targets.read(name, seed)


@st.composite
def damaged(draw, seed):
    """A file with bytes changed, cut out, put in, or cut off."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(0, 8))
        new = draw(st.binary(max_size=8))
        data[at : at + length] = new
    end = draw(st.none() | st.integers(0, len(data)))
    return bytes(data if end is None else data[:end])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(targets, name, data):
    seed = data.draw(st.sampled_from(targets.seeds(name)))
    targets.read(name, data.draw(damaged(seed) | st.binary(max_size=200)))
