"""Tables of selective classification: numbers against scikit-learn, the page, the figures, wrong requests."""

import json
import statistics

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import accuracy_score

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.contracts import Page, Run
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.manifests import publish
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.metrics.selective import COVERAGES, CURVE
from cmw_pipeline.stages.table import make_table
from cmw_pipeline.tables.figures import bar_figure, risk_figure
from cmw_pipeline.tables.risk import risk_rows

BODY = """
build: [risks]
seeds: [0, 1]
bias_seed: 1
datasets: {digits: {source: digits}}
biases: {few: [none, asym-0.4]}
methods:
  erm: {kind: erm, label: ERM}
  sat: {kind: sat-selective, label: SAT, start_epoch: 1}
recipes: {quick: {network: {name: small-vgg}, optimizer: {lr: 0.1}, epochs: 3, batch_size: 50}}
tables:
  risks:
    title: Risks
    caption: What is not known.
    metric: risk-coverage
    scores: {erm: {softmax_response: Softmax response, mc_dropout: MC-dropout}}
    grid: [{dataset: digits, biases: few, methods: [erm, sat], recipe: quick}]
"""


def a_plan(folder, change=None):
    body = YAML(typ="safe", pure=True).load(BODY)
    if change:
        change(body)
    (folder / "params.yaml").write_text(json.dumps(body))
    return Plan(load(folder / "params.yaml"))


def predictions(seed, dropout=True, size=40):
    """Random ones, no two equally sure."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 10, size)
    prediction = np.where(rng.random(size) < 0.7, label, (label + 1) % 10)
    scores = {name: rng.permutation(size) / size for name in ("confidence", "softmax_response", "mc_dropout")}
    if not dropout:
        scores["mc_dropout"] = np.full(size, np.nan)
    columns = {"index": np.arange(size), "label": label, "prediction": prediction}
    return pd.DataFrame(columns | scores).astype(Run.PREDICTIONS.columns)


def seed_of(cell):
    return 10 * cell.seed + len(cell.method) + len(cell.bias)


def fake_runs(root, plan, skip=(), dropout=True):
    artefact = plan.table("risks")
    for run in artefact.inputs.values():
        cell = Cell.parse(run.name)
        if (cell.method, cell.seed) in skip:
            continue
        rows = [(protocol, "test", "accuracy", 70.0, 3) for protocol in ("last", "best")]
        with publish(run, {}, root) as draft:
            draft.cost["evaluation_seconds"] = 0.1
            write_table(
                draft.path / "rows.parquet",
                pd.DataFrame(rows, columns=list(Run.ROWS.columns)),
                Run.ROWS.columns,
            )
            found = predictions(seed_of(cell), dropout)
            write_table(draft.path / "predictions.parquet", found, Run.PREDICTIONS.columns)
            draft.notes["device"] = "cpu"
        file = root / run.manifest
        assert json.loads(file.read_text())["notes"]
    return artefact


def risk_by_sklearn(found, score, share):
    """The error of the surest ``share`` of the samples, which is a whole number of them."""
    surest = found.sort_values(score, ascending=False).head(round(share * len(found)))
    return 100 * (1 - accuracy_score(surest["label"], surest["prediction"]))


def cells(page, label, table):
    """The cells of the row of this label in the n-th table that has one."""
    found = [line for line in page.splitlines() if line.startswith(f"| {label} ")]
    return [cell.strip() for cell in found[table].strip("|").split("|")][1:]


def test_rows_of_a_run_against_sklearn():
    found = predictions(3)
    rows = risk_rows(found, 7)
    values = rows.set_index("metric")["value"]
    assert set(rows["epoch"]) == {7}
    for score in ("confidence", "softmax_response", "mc_dropout"):
        for share in CURVE:
            expected = risk_by_sklearn(found, score, share)
            assert values[f"{score}:error@{100 * share:g}"] == pytest.approx(expected)
        every = [risk_by_sklearn(found, score, n / len(found)) for n in range(1, len(found) + 1)]
        assert values[f"{score}:AURC"] == pytest.approx(statistics.mean(every))
    assert set(COVERAGES) <= set(CURVE)


def test_a_run_without_dropout_has_no_rows_of_it():
    metrics = risk_rows(predictions(3, dropout=False), 1)["metric"]
    assert not metrics.str.startswith("mc_dropout").any()
    assert metrics.str.startswith("confidence").any()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("risks")
    plan = a_plan(root)
    page = make_table(fake_runs(root, plan), root, strict=True)
    return root, plan, page.read_text()


@pytest.mark.parametrize(
    ("label", "method", "score"),
    [
        ("Softmax response", "erm", "softmax_response"),
        ("MC-dropout", "erm", "mc_dropout"),
        ("SAT", "sat", "confidence"),
    ],
)
@pytest.mark.parametrize(("bias", "table"), [("none", 0), ("asym-0.4", 1)])
def test_the_page_has_a_table_a_bias_a_row_a_score_a_column_a_coverage(
    project, label, method, score, bias, table
):
    runs = [predictions(seed_of(Cell("digits", bias, method, "quick", seed))) for seed in (0, 1)]
    shown = [cell.replace("*", "") for cell in cells(project[2], label, table)]
    assert len(shown) == len(COVERAGES) + 1
    for share, text in zip(COVERAGES, shown, strict=False):
        values = [risk_by_sklearn(found, score, share) for found in runs]
        assert text == f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def test_the_page_says_what_it_shows(project):
    root, _, page = project
    assert page.startswith("# Risks\n\nWhat is not known.\n\n## digits, none: labels as given\n")
    assert "| digits           | 100%" in page
    assert "70% " in page.splitlines()[6]
    assert "AURC: the area under the risk-coverage curve" in page
    assert "Best epoch" not in page
    assert "](risks.png)" in page
    rows = read_table(root / "results" / "risks.parquet", Page.ROWS.columns)
    assert {"accuracy", "confidence:AURC", "mc_dropout:error@70"} <= set(rows["metric"])


def test_what_is_not_there_is_said(tmp_path):
    plan = a_plan(tmp_path)
    page = make_table(
        fake_runs(tmp_path, plan, skip=[("sat", 0), ("sat", 1), ("erm", 1)]), tmp_path
    ).read_text()
    assert set(cells(page, "SAT", 0)) == {"—"}
    assert all(text.endswith("(n=1/2)") for text in cells(page, "MC-dropout", 1))


def test_a_network_without_dropout_has_no_row_of_it(tmp_path):
    plan = a_plan(tmp_path)
    with pytest.raises(ConfigError, match="erm has no mc_dropout: the network of quick has no dropout"):
        make_table(fake_runs(tmp_path, plan, dropout=False), tmp_path)


def test_predictions_that_are_not_there_are_refused(tmp_path):
    plan = a_plan(tmp_path)
    artefact = fake_runs(tmp_path, plan)
    run = next(iter(artefact.inputs.values()))
    (tmp_path / run.path / "predictions.parquet").unlink()
    with pytest.raises(IntegrityError):
        make_table(artefact, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(metric="accuracy"), "scores rank predictions"),
        (
            lambda t: t.update(scores={"cmw": {"confidence": "x"}}),
            "scores of 'cmw', which is no method of this table",
        ),
        (lambda t: t.update(published="fig9"), "no published values"),
        (lambda t: t.update(figure="bars"), "a figure of its own"),
        (lambda t: t.update(scores={"erm": {"entropy": "x"}}), "entropy"),
    ],
)
def test_requests_that_make_no_sense(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        a_plan(tmp_path, lambda body: change(body["tables"]["risks"]))


def test_options_that_are_not_set_enter_no_digest(tmp_path):
    def plain(body):
        table = body["tables"]["risks"]
        table.update(metric="accuracy")
        del table["scores"], table["caption"]

    request = a_plan(tmp_path, plain).table("risks").request.chosen
    assert not {"scores", "caption", "figure", "quoted"} & set(request)
    assert {"scores", "caption"} <= set(a_plan(tmp_path).table("risks").request.chosen)


# --- figures


def colour_share(path, colour):
    pixels = matplotlib.image.imread(path)[..., :3]
    wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return float((np.abs(pixels - wanted).max(axis=2) < 0.1).mean())


def bars(values):
    return pd.DataFrame(
        [
            {"panel": panel, "group": group, "method": method, "seed": seed, "value": value + seed}
            for panel, groups in (("a", ["x", "y"]), ("b", ["z"]))
            for group in groups
            for method, value in values.items()
            for seed in (0, 1)
        ]
    )


NOTHING = pd.DataFrame(columns=["panel", "group", "method", "value"])


def test_a_higher_bar_has_more_ink_and_published_ones_are_there(tmp_path):
    for name, value in (("low", 20.0), ("high", 80.0)):
        bar_figure(tmp_path / name, bars({"one": value, "two": 90.0}), NOTHING, "accuracy, %")
    assert colour_share(tmp_path / "high", "#1a7fbb") > 1.5 * colour_share(tmp_path / "low", "#1a7fbb")
    published = pd.DataFrame([("a", "x", "one", 50.0)], columns=list(NOTHING))
    for name in ("both", "again"):
        bar_figure(tmp_path / name, bars({"one": 20.0, "two": 90.0}), published, "accuracy, %")
    assert (
        (tmp_path / "both").read_bytes()
        == (tmp_path / "again").read_bytes()
        != (tmp_path / "low").read_bytes()
    )


@pytest.mark.parametrize("panels", [1, 3])
def test_risk_curves_of_any_number_of_panels(tmp_path, panels):
    points = pd.DataFrame(
        [
            {"panel": str(p), "method": m, "seed": s, "coverage": c, "value": c / 10 + k + s}
            for p in range(panels)
            for k, m in enumerate(["SAT", "DG", "SAT + CMW-Net"])
            for s in (0, 1)
            for c in range(5, 101, 5)
        ]
    )
    for name in ("a.png", "b.png"):
        risk_figure(tmp_path / name, points)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    blue, orange = (colour_share(tmp_path / "a.png", colour) for colour in ("#0072B2", "#E69F00"))
    assert blue > 1.2 * orange > 0  # SAT and its dashed companion share a colour
