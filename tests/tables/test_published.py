"""The published numbers against a second, independent transcription of the rows of our methods' family."""

import pandas as pd
import pytest

from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.tables.published import Published, lookup, published

COUNTS = {
    "table1": 134,
    "table2": 144,
    "table3": 78,
    "table4": 84,
    "table5": 84,
    "table6": 9,
    "table7": 52,
    "table8": 28,
    "table10": 30,
    "fig9": 16,
    "clothing1m": 20,
    "imagenet-lt": 67,
    "dynamic": 2,
}
TAIL = ["lt-200", "lt-100", "lt-50", "lt-20", "lt-10", "lt-1"]
NOISE = [f"{kind}-{rate}" for kind in ("sym", "asym") for rate in ("0.2", "0.4", "0.6", "0.8")]
STRONG = ["sym-0.2", "sym-0.5", "sym-0.8", "sym-0.9", "asym-0.4"]
FEATURE = [f"type{kind}-{rate}" for kind in (1, 2, 3) for rate in ("0.35", "0.7")]
HYBRID10 = [f"type{k}-0.35+{s}" for k in (1, 2, 3) for s in ("other:sym-0.3", "two-way:asym-0.3")]
HYBRID100 = [f"type{k}-0.35+{s}" for k in (1, 2, 3) for s in ("other:sym-0.3", "blocks:asym-0.3")]

TABLE1 = """
ERM | 34.32 29.64 25.19 17.77 13.61 7.53 | 65.16 61.68 56.15 48.86 44.29 29.50
MW-Net | 32.80 26.43 20.90 15.55 12.45 7.19 | 63.38 58.39 54.34 46.96 41.09 29.90
MCW with CE loss | 29.34 23.59 19.49 13.54 11.15 7.21 | 60.69 56.65 51.47 44.38 40.42 -
CMW-Net with CE loss | 27.80 21.15 17.26 12.45 10.97 8.30 | 60.85 55.25 49.73 43.06 39.41 30.81
MCW with LDAM loss | 25.10 20.00 17.77 15.63 12.60 10.29 | 60.47 55.92 50.84 47.62 42.00 -
CMW-Net with LDAM loss | 25.57 19.95 17.66 13.08 11.42 7.04 | 59.81 55.87 51.14 45.26 40.32 29.19
SADE | 19.37 16.78 14.81 11.78 9.88 7.72 | 54.78 50.20 46.12 40.06 36.40 28.08
CMW-Net with SADE | 19.11 16.04 13.54 10.25 9.39 5.39 | 54.59 49.50 46.01 39.42 34.78 27.50
"""
TABLE2 = """
ERM | 86.98 77.52 73.63 53.82 83.60 77.85 69.69 55.20 | 60.38 46.92 31.82 8.29 61.05 50.30 37.34 12.46
MW-Net | 90.46 86.53 82.98 64.41 92.69 90.17 68.55 58.29 | 69.93 65.29 55.59 27.63 69.80 64.88 56.89 17.05
CMW-Net | 91.09 86.91 83.33 64.80 93.02 92.70 91.28 87.50 | 70.11 65.84 56.93 28.36 71.07 66.15 58.21 17.41
CMW-Net-SL | 96.20 95.29 94.51 92.10 95.48 94.51 94.18 93.07 | 77.84 76.25 72.61 55.21 77.73 75.69 61.54 18.34
"""
TABLE3 = """
CMW-Net-SL | 96.2 95.1 92.1 48.0 94.5 | 77.84 76.2 55.2 21.2 75.7
CMW-Net-SL+ | 96.6 96.2 95.4 93.7 96.0 | 80.2 78.2 71.1 64.6 77.2
"""
TABLE4 = """
ERM | 78.11 41.98 76.65 45.57 76.89 43.32 | 57.68 39.32 57.83 39.30 56.07 40.01
MW-Net | 82.20 38.85 81.28 42.15 81.57 42.43 | 62.10 44.71 63.78 44.61 62.53 45.17
PLC | 82.80 42.74 81.54 46.04 81.50 45.05 | 60.01 45.92 63.68 45.03 63.68 44.45
CMW-Net | 82.27 42.23 81.69 46.30 81.52 43.76 | 62.43 46.68 64.08 50.01 63.21 47.38
CMW-Net-SL | 84.23 44.19 83.12 48.26 83.10 45.15 | 64.01 47.62 64.13 51.99 64.47 48.78
"""
TABLE5 = """
ERM | 75.26 75.21 74.92 74.28 74.00 75.31 | 48.86 45.85 49.32 46.50 48.94 45.70
MW-Net | 76.39 76.54 76.57 75.35 76.28 75.82 | 57.70 56.61 54.08 58.53 55.29 58.43
CMW-Net | 78.42 77.14 76.77 77.08 77.16 76.49 | 59.17 57.42 59.16 58.99 58.48 58.83
CMW-Net-SL | 82.00 80.69 80.96 80.94 81.58 80.48 | 60.87 61.35 61.00 61.35 60.21 60.52
"""
FIG9 = """
PRODEN | 82.1 81.7 80.7 76.2 | 47.9 47.1 46.5 46.3
PRODEN + CMW-Net | 89.8 88.0 86.0 80.6 | 61.2 60.3 59.1 54.6
"""
CIFAR = [
    ("table1", "error", TABLE1, TAIL, TAIL),
    ("table2", "accuracy", TABLE2, NOISE, NOISE),
    ("table3", "accuracy", TABLE3, STRONG, STRONG),
    ("table4", "accuracy", TABLE4, FEATURE, FEATURE),
    ("table5", "accuracy", TABLE5, HYBRID10, HYBRID100),
    (
        "fig9",
        "accuracy",
        FIG9,
        [f"partial-{rate}" for rate in ("0.1", "0.3", "0.5", "0.7")],
        [f"partial-{rate}" for rate in ("0.03", "0.05", "0.07", "0.1")],
    ),
]


def everything():
    return pd.concat([published(table) for table in COUNTS])


def test_every_row_is_there():
    assert {table: len(published(table)) for table in COUNTS} == COUNTS
    assert sum(COUNTS.values()) == 748


def test_no_number_twice_and_all_in_percent():
    rows = everything()
    assert not rows.duplicated(["table", "dataset", "bias", "method", "metric"]).any()
    assert rows["value"].between(1, 100).all()  # a fraction in place of a percentage would be below 1
    assert rows["std"].dropna().between(0, 10).all()
    assert (rows["value"].round(2) == rows["value"]).all()


@pytest.mark.parametrize(("table", "metric", "text", "biases10", "biases100"), CIFAR)
def test_our_family_in_both_transcriptions(table, metric, text, biases10, biases100):
    found = lookup(table, metric)
    for line in text.strip().splitlines():
        method, *halves = [part.strip() for part in line.split("|")]
        for dataset, biases, half in zip(("cifar10", "cifar100"), (biases10, biases100), halves, strict=True):
            for bias, value in zip(biases, half.split(), strict=True):
                if value == "-":
                    assert (dataset, bias, method) not in found
                else:
                    assert found[dataset, bias, method].value == float(value), (method, dataset, bias)


def test_web_tables_in_both_transcriptions():
    animal = lookup("table6", "accuracy")
    for method, value in {"ERM": 79.4, "MW-Net": 80.7, "CMW-Net": 80.9, "CMW-Net-SL": 84.7}.items():
        assert animal["animal10n", "native", method].value == value
    fine = lookup("table8", "accuracy")
    for method, values in {
        "ERM": (66.56, 64.33, 67.42, 66.10),
        "MW-Net": (75.60, 72.93, 77.33, 75.29),
        "CMW-Net": (75.72, 73.72, 77.42, 75.62),
        "CMW-Net-SL": (77.41, 76.48, 79.70, 77.86),
    }.items():
        for dataset, value in zip(("web_bird", "web_aircraft", "web_car", "average"), values, strict=True):
            assert fine[dataset, "native", method].value == value


@pytest.mark.parametrize(
    ("table", "dataset", "method", "values"),
    [
        ("table7", "mini_webvision", "MW-Net", (69.34, 87.44, 65.80, 87.52)),
        ("table7", "mini_webvision", "CMW-Net", (70.56, 88.76, 66.44, 87.68)),
        ("table7", "mini_webvision", "CMW-Net-SL", (78.08, 92.96, 75.72, 92.52)),
        ("table7", "mini_webvision", "CMW-Net-SL+C2D", (80.44, 93.36, 77.36, 93.48)),
        ("table7", "mini_webvision", "DivideMix", (77.32, 91.64, 75.20, 90.84)),
        ("table7", "mini_webvision", "DivideMix (ResNet-50)", (76.32, 90.65, 74.42, 91.21)),
        ("table10", "webvision", "ERM", (69.7, 87.0, 62.9, 83.6)),
        ("table10", "webvision", "ERM + CMW-Net-SL", (77.9, 92.6, 69.6, 88.5)),
    ],
)
def test_webvision_columns_are_the_right_way_round(table, dataset, method, values):
    metrics = ("webvision_top1", "webvision_top5", "ilsvrc12_top1", "ilsvrc12_top5")
    found = [lookup(table, metric)[dataset, "native", method] for metric in metrics]
    assert tuple(one.value for one in found) == values
    assert all("swapped" in one.note for one in found)


def test_what_is_wrong_in_the_source_is_said():
    tail = lookup("table1", "error")["cifar100", "lt-200", "LDAM loss"]
    assert tail.value == 60.40
    assert "IF 100" in tail.note
    feature = lookup("table4", "accuracy")
    for bias in ("type2-0.7", "type3-0.35"):
        assert "misprint" in feature["cifar10", bias, "LRT"].note
    assert "ELR+" in lookup("table7", "webvision_top1")["mini_webvision", "native", "ELR"].note


def test_spread_is_kept_where_one_is_printed():
    assert lookup("table2", "accuracy")["cifar10", "asym-0.4", "CMW-Net"] == Published(92.70, 0.32, "")
    assert lookup("table1", "error")["cifar10", "lt-100", "ERM"].std is None
    for table in ("table2", "table4", "table5"):
        assert published(table)["std"].notna().all()


def test_errors_grow_with_the_imbalance():
    """A digit typed wrongly mostly breaks an order that the source has in every row."""
    for (_, method), rows in published("table1").groupby(["dataset", "method"]):
        factors = rows["bias"].str.removeprefix("lt-").astype(int)
        ordered = rows.iloc[factors.argsort()]["value"].tolist()
        assert ordered == sorted(ordered), method


def test_the_mean_column_of_table_8_is_the_mean():
    rows = published("table8").pivot(index="method", columns="dataset", values="value")
    means = rows[["web_bird", "web_aircraft", "web_car"]].mean(axis=1)
    assert (means - rows["average"]).abs().max() < 0.0151


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "dynamic"])
def test_biases_are_written_as_the_plan_writes_them(table):
    for bias in published(table)["bias"].unique():
        assert parse_bias(bias)


def test_unknown_tables_and_metrics_are_refused():
    with pytest.raises(ConfigError, match="'table9' is not known; did you mean 'table"):
        published("table9")
    with pytest.raises(ConfigError, match="gives error, not accuracy"):
        lookup("table1", "accuracy")
