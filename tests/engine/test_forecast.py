"""Estimates of runs whose like never ran: counts against PyTorch's counter, ranges against recorded runs."""

from pathlib import Path

import pandas as pd
import pytest

from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.cell import Cell
from cmw_pipeline.config.schema import Network
from cmw_pipeline.engine.forecast import Forecast, Shape, Speed, keep
from cmw_pipeline.training.speed import forward_flops

ROOT = Path(__file__).parents[2]
PLAN = Plan(load(ROOT / "params.yaml"))
WANTED = ["table1", "table2", "table3", "table4", "table5", "table1-headline", "cifar-fast"]


@pytest.mark.parametrize("table", WANTED)
def test_every_cell_of_the_cifar_tables_has_a_range(tmp_path, table):
    forecast = Forecast(PLAN, tmp_path)
    for cell in PLAN.cells(table):
        least, most = forecast.seconds(cell)
        assert 0 < least < most


@pytest.mark.parametrize("name", ["resnet32", "fast-cnn", "preact-resnet18"])
def test_the_operations_on_record_are_those_that_pytorch_counts(tmp_path, name):
    shape = Shape(name, None, 3, 32, 10)
    assert Forecast(PLAN, tmp_path)._flops[shape] == forward_flops(Network(name=name), *shape[2:])


def test_recorded_runs_of_a_real_network_lie_in_their_ranges():
    forecast = Forecast(PLAN, ROOT / "nowhere")
    runs = pd.read_parquet(ROOT / "results" / "cifar-smoke.parquet").drop_duplicates("run")
    assert len(runs) == 2
    for run in runs.itertuples():
        least, most = forecast.seconds(Cell(run.dataset, run.bias, run.method, run.recipe, run.seed))
        assert least < run.seconds < most


def test_a_meta_step_in_every_iteration_costs_what_the_counter_says(tmp_path):
    """7 forward passes on top of 3; test samples are the same."""
    forecast = Forecast(PLAN, tmp_path)
    plain, weighted = (
        forecast._of_an_image(Cell("digits", "asym-0.4", method, "digits-cnn", 0))[0]
        for method in ("erm", "cmw-net")
    )
    options, recipe = (
        PLAN.options(Cell("digits", "asym-0.4", "cmw-net", "digits-cnn", 0)),
        PLAN.params.recipes,
    )
    start = max(options.start_epoch, options.weighting.start_epoch)
    epochs = recipe["digits-cnn"].epochs
    both = (1 + options.weighting.meta_batch / recipe["digits-cnn"].batch_size) / 2
    assert plain == 3 * epochs
    more = 7 * both * (epochs - start) / options.weighting.meta_every
    assert weighted == pytest.approx(plain + more)


def test_what_was_measured_here_is_what_counts(tmp_path):
    cell = PLAN.cells("table2")[0]
    before = Forecast(PLAN, tmp_path)
    strange = Shape("mlp", 7, 1, 1, 3)
    keep(tmp_path, Speed("this one", 0.0, before.speed.slow * 2, before.speed.fast * 2), {strange: 5})
    after = Forecast(PLAN, tmp_path)
    assert (before.here, after.here) == (False, True)
    assert after.seconds(cell)[0] < before.seconds(cell)[0]
    assert after._flops[strange] == 5


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"speed": {"machine": "x"}}'])
def test_a_damaged_measurement_counts_as_none(tmp_path, text):
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".snakemake" / "speed.json").write_text(text)
    assert not Forecast(PLAN, tmp_path).here
