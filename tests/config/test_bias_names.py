"""The codec of bias names: one name for one bias, and a message that says what to write instead."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmw_pipeline.config.bias_kinds import GENERATED
from cmw_pipeline.config.bias_names import BiasStep, format_bias, parse_bias
from cmw_pipeline.config.meta_names import MetaRule, parse_meta

maps = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
rates = st.one_of(st.sampled_from([0.0, 0.2, 0.4, 1.0]), st.floats(0, 1, allow_subnormal=False)).filter(
    lambda rate: rate == 0 or rate > 1e-12
)
factors = st.one_of(st.integers(1, 10**6).map(float), st.floats(1, 1e20))
long_tails = factors.map(lambda value: BiasStep("lt", value))
noises = st.one_of(
    st.builds(BiasStep, st.just("sym"), rates, st.sampled_from([None, "other", "plc"])),
    st.builds(BiasStep, st.just("asym"), rates, st.none() | maps),
)
words = st.sampled_from(["aggregate", "random1", "random2", "random3", "worst", "noisy"])
digests = st.from_regex(r"[0-9a-f]{12}", fullmatch=True)
replacing = st.one_of(
    st.builds(BiasStep, st.sampled_from(GENERATED), rates, st.sampled_from([None, "plc", "published"])),
    words.map(lambda word: BiasStep("human", word=word)),
    digests.map(lambda word: BiasStep("file", word=word)),
)
chains = (
    st.tuples(*(st.lists(kind, max_size=n) for kind, n in ((long_tails, 1), (replacing, 1), (noises, 2))))
    .map(lambda parts: (*parts[0], *parts[1], *parts[2]))
    .filter(lambda steps: len(format_bias(steps)) <= 100)
)


@given(chains)
@settings(max_examples=200)
def test_format_then_parse(steps):
    assert parse_bias(format_bias(steps)) == steps


@given(chains, chains)
@settings(max_examples=100)
def test_distinct_chains_have_distinct_names(one, other):
    assert (format_bias(one) == format_bias(other)) == (one == other)


@given(
    st.from_regex(
        r"((other|plc|m):)?(lt|sym|asym|type[1-4]|file)-[0-9.e+-]{1,12}(\+(sym|asym)-[0-9.]{1,4})?",
        fullmatch=True,
    )
)
@settings(max_examples=300)
def test_parse_then_format(name):
    """Whatever is accepted is the one name of what it means."""
    try:
        steps = parse_bias(name)
    except ValueError as error:
        assert str(error)
    else:
        assert format_bias(steps) == name


@given(st.text(max_size=30))
@settings(max_examples=100)
def test_any_text_is_read_or_refused(text):
    try:
        assert format_bias(parse_bias(text)) == text
    except ValueError as error:
        assert text == "" or repr(text) in str(error)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("none", ()),
        ("lt-100", (BiasStep("lt", 100.0),)),
        ("sym-0.4", (BiasStep("sym", 0.4),)),
        ("two-way:asym-0.35", (BiasStep("asym", 0.35, "two-way"),)),
        ("lt-10+other:sym-0.2", (BiasStep("lt", 10.0), BiasStep("sym", 0.2, "other"))),
        ("sym-0", (BiasStep("sym", 0.0),)),
        ("asym-1", (BiasStep("asym", 1.0),)),
        ("type2-0.7", (BiasStep("type2", 0.7),)),
        ("published:type3-0.35", (BiasStep("type3", 0.35, "published"),)),
        ("plc:type1-0.35+plc:asym-0.3", (BiasStep("type1", 0.35, "plc"), BiasStep("asym", 0.3, "plc"))),
        ("plc:type1-0.35+other:sym-0.3", (BiasStep("type1", 0.35, "plc"), BiasStep("sym", 0.3, "other"))),
        ("lt-10+human-worst", (BiasStep("lt", 10.0), BiasStep("human", word="worst"))),
        ("file-0123456789ab", (BiasStep("file", word="0123456789ab"),)),
    ],
)
def test_examples(name, steps):
    assert parse_bias(name) == steps
    assert format_bias(steps) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sym-1.4", r"'sym-1.4': the rate is 1.4; it must lie in \[0, 1\]"),
        ("sym--0.1", r"the rate is -0.1; it must lie in \[0, 1\]"),
        ("asym-nan", r"the rate is nan; it must lie in \[0, 1\]"),
        ("lt-0.01", r"the imbalance factor is 0.01; it must be >= 1"),
        ("lt-nan", r"the imbalance factor is nan; it must be >= 1"),
        ("lt-inf", r"the imbalance factor is inf; it must be >= 1 and finite"),
        ("lt-" + "9" * 90 + "e999", r"imbalance factor is inf"),
        ("sym-0.2+lt-10", "a long tail goes first, before the label noise"),
        ("lt-10+lt-10", "a long tail goes first"),
        ("sym-0.40", "'sym-0.40': write it as 'sym-0.4'"),
        ("sym-.4", "write it as 'sym-0.4'"),
        ("sym-1e-3", "'sym-1e-3': write it as 'sym-0.001'"),
        ("sym--0", "write it as 'sym-0'"),
        ("lt-100.0", "write it as 'lt-100'"),
        ("sym-0.4 ", "write it as 'sym-0.4'"),
        ("sym-0.4+", "'' is not a bias; write lt-FACTOR, "),
        ("sym", "'sym' is not a bias; write lt-FACTOR, "),
        ("", "'' is not a bias"),
        ("Sym-0.4", "is not a bias"),
        ("flip-0.4", "unknown bias 'flip'; known are lt, sym, asym"),
        ("sym-high", "'high' is not a number"),
        ("pair:sym-0.4", "sym has no variant 'pair'; it has other, plc, freq$"),
        ("other:lt-10", "lt has no variant 'other'; it has none$"),
        ("none+sym-0.4", "'none' is not a bias"),
        ("type1-35", r"the rate is 35; it must lie in \[0, 1\]"),
        ("type4-0.35", "unknown bias 'type4'; known are .*type1, type2, type3, human, file"),
        ("other:type1-0.35", "type1 has no variant 'other'; it has plc, published"),
        ("human-best", "human-best is none; after human- goes aggregate, random1,"),
        ("plc:human-worst", "human has no variant 'plc'; it has none"),
        ("human-worst-0.4", "human-worst-0.4 is none"),
        ("file-mine", "file-mine is none; after file- goes the first 12 hex digits of the labels' sha256"),
        ("file-0123456789AB", "file-0123456789AB is none"),
        ("sym-0.3+plc:type1-0.35", "plc:type1-0.35 replaces every label, so it goes before the other noise"),
        ("human-worst+type1-0.35", "type1-0.35 replaces every label"),
        ("+".join(["sym-0.123456"] * 10), "129 characters; a bias has at most 100"),
    ],
)
def test_refusals(name, message):
    with pytest.raises(ValueError, match=message):
        parse_bias(name)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("none", set()),
        ("lt-10+plc:sym-0.2+plc:asym-0.3", set()),
        ("type1-0.35+plc:sym-0.3", {"teacher"}),
        ("lt-10+published:type2-0.7", {"teacher"}),
        ("plc:type2-0.7+other:sym-0.3", {"labels"}),
        ("human-noisy", {"labels"}),
        ("file-0123456789ab", {"labels"}),
    ],
)
def test_what_a_bias_is_made_from(name, inputs):
    assert {step.reads for step in parse_bias(name) if step.reads} == inputs


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("clean-10", MetaRule("clean", 10)),
        ("lowest-1", MetaRule("lowest", 1)),
        ("any-1000", MetaRule("any", 1000)),
        ("random-min", MetaRule("random", None)),
    ],
)
def test_meta_rules(name, rule):
    assert parse_meta(name) == rule


@pytest.mark.parametrize(
    "name", ["", "clean", "clean-0", "clean-010", "clean--1", "random-5", "Clean-5", "clean-5 "]
)
def test_meta_refusals(name):
    with pytest.raises(ValueError, match="is not a meta-set; write clean-K, lowest-K or random-min"):
        parse_meta(name)
