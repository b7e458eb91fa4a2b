"""The files that an audit leaves."""

import json

import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.audit.result import (
    CLASS_COLUMNS,
    CONFLICT_COLUMNS,
    CURVE_COLUMNS,
    SUSPECT_COLUMNS,
    Audit,
)
from cmw_pipeline.errors import IntegrityError

HOSTILE = 'a "b", <script>\n=1+1'


def example(**changes):
    suspects = [
        (1, HOSTILE, "cat", HOSTILE, 1, 2.5, 3.25, 0.125, True, True, "seen as another", "x3fa9"),
        (0, "", "cat", "cat", 2, -1.0, np.nan, 0.75, False, False, "", "x77e1"),
    ]
    classes = [
        ("cat", 2, 0, 1, 0.5, 0.25, 0.75, 0.0, 0.0, 0.0, "look at it"),
        (HOSTILE, 0, 0, 0, *[np.nan] * 6, ""),
    ]
    tables = {
        "suspects": pd.DataFrame(suspects, columns=list(SUSPECT_COLUMNS)).astype(SUSPECT_COLUMNS),
        "classes": pd.DataFrame(classes, columns=list(CLASS_COLUMNS)),
        "curves": pd.DataFrame([(0, 0.0, 1.0)], columns=list(CURVE_COLUMNS)),
        "conflicts": pd.DataFrame(columns=list(CONFLICT_COLUMNS)),
    }
    whole = tables | {
        "transition": np.array([[0.5, 0.0], [1.0, 0.0]]),
        "verdict": "Two.",
        "notes": {"rows": 2},
    }
    return Audit(**(whole | changes))


def test_every_table_reads_back_as_it_was(tmp_path):
    audit = example()
    audit.write(tmp_path)
    for name in ("suspects", "classes", "curves"):
        read = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values={"loss": ""})
        assert read.shape == getattr(audit, name).shape
    assert pd.read_csv(tmp_path / "suspects.csv")["path"][0] == HOSTILE
    stored = pd.read_parquet(tmp_path / "suspects.parquet")
    assert stored["suggested"].tolist() == [HOSTILE, "cat"]
    assert stored["loss"].isna().tolist() == [False, True]
    transition = pd.read_csv(tmp_path / "transition.csv")
    assert transition.to_dict("records") == [
        {"true": "cat", "given": "cat", "share": 0.5},
        {"true": HOSTILE, "given": "cat", "share": 1.0},
    ]
    assert json.loads((tmp_path / "audit.json").read_text()) == {"verdict": "Two.", "rows": 2}


def test_without_folds_there_is_no_transition(tmp_path):
    example(transition=None).write(tmp_path)
    assert not (tmp_path / "transition.csv").exists()


def test_a_table_of_other_columns_is_refused_before_the_summary_is_written(tmp_path):
    with pytest.raises(IntegrityError):
        example(suspects=pd.DataFrame({"id": [1]})).write(tmp_path)
    assert not (tmp_path / "audit.json").exists()


def test_the_list_is_the_rows_that_are_in_it():
    assert example().listed["id"].tolist() == [1]
