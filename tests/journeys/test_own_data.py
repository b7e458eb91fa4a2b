"""What people have: folders, tables and arrays; what is read, what is refused, and how it is divided."""

import json
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cmw_pipeline.audit.features import View, make_samples
from cmw_pipeline.data.own import Columns, own_arrays, read_own
from cmw_pipeline.data.own.divide import divide, units
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.types import TEST, TRAIN


def picture(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 5, 3), value, dtype=np.uint8)).save(file)


def class_folders(root, each=10, parts=("",)):
    for place, part in enumerate(parts):
        for number, name in enumerate(("cat", "dog")):
            for row in range(each):
                picture(root / part / name / f"{row}.png", 100 * place + 20 * number + row)
    return root


def vectors(count=40, dimensions=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def written(file, text):
    file.write_text(text)
    return file


# --- what is read


def test_class_folders_give_classes_and_a_split_where_there_is_none(tmp_path):
    data = read_own(class_folders(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert data.rows["path"].tolist() == [f"{name}/{row}.png" for name in ("cat", "dog") for row in range(10)]
    assert data.labels.tolist() == [0] * 10 + [1] * 10
    assert len(data.where(TEST)) == 4


@pytest.mark.parametrize("change", ["another picture", "gone", "half a picture"])
def test_a_folder_that_changes_between_reading_and_training_is_one_line_with_the_file(tmp_path, change):
    data = read_own(class_folders(tmp_path))
    file = tmp_path / "dog/3.png"
    if change == "another picture":
        picture(file, 77)
    elif change == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(IntegrityError, match=r"dog/3\.png: ") as caught:
        make_samples(data, View("pixels", 8), tmp_path / "work", torch.device("cpu"), 0)
    assert "leave the folder as it is" in str(caught.value)
    assert not (tmp_path / "work").exists()


def test_folders_of_splits_are_the_split(tmp_path):
    data = read_own(class_folders(tmp_path, 3, ("train", "val")))
    assert data.rows["split"].tolist() == [TRAIN] * 6 + [TEST] * 6


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_metadata_file_names_the_pictures(tmp_path, suffix):
    frame = pd.DataFrame({"file_name": [f"{row}.png" for row in range(10)], "label": ["a", "b"] * 5})
    for row in range(10):
        picture(tmp_path / f"{row}.png", row)
    write = {
        "csv": lambda file: frame.to_csv(file, index=False),
        "jsonl": lambda file: frame.to_json(file, orient="records", lines=True),
        "parquet": frame.to_parquet,
    }
    write[suffix](tmp_path / f"metadata.{suffix}")
    data = read_own(tmp_path)
    assert data.class_names == ("a", "b") and data.root == tmp_path and len(data.rows) == 10


def test_a_metadata_file_that_names_no_pictures_is_refused(tmp_path):
    class_folders(tmp_path)
    written(tmp_path / "metadata.csv", "image,label\ncat/0.png,cat\ndog/0.png,dog\n")
    with pytest.raises(ConfigError, match=r"metadata\.csv: no column file_name"):
        read_own(tmp_path)
    assert len(read_own(tmp_path, Columns(path="image")).rows) == 2


@pytest.mark.parametrize("form", ["absolute", "of Windows"])
def test_paths_that_lead_into_the_folder_of_the_table_are_read_as_relative(tmp_path, form):
    class_folders(tmp_path)
    paths = [f"{name}/{row}.png" for name in ("cat", "dog") for row in range(10)]
    shown = [str(tmp_path / path) if form == "absolute" else path.replace("/", "\\") for path in paths]
    pd.DataFrame({"path": shown, "label": ["cat"] * 10 + ["dog"] * 10}).to_csv(
        tmp_path / "t.csv", index=False
    )
    assert read_own(tmp_path / "t.csv").rows["path"].tolist() == paths


@pytest.mark.parametrize(
    "ways",
    [
        {"sep": ";"},
        {"sep": ";", "decimal": ","},
        {"sep": "\t"},
        {"encoding": "utf-16"},
        {"encoding": "utf-8-sig", "sep": ";", "decimal": ","},
    ],
    ids=str,
)
def test_what_spreadsheets_call_csv_is_read_like_csv(tmp_path, ways):
    frame = pd.DataFrame(vectors().round(3), columns=["f0", "f1", "f2"])
    frame["label"] = ["très bon", "a,b", "c;d", "1,5"] * 10
    frame.to_csv(tmp_path / "plain.csv", index=False)
    frame.to_csv(tmp_path / "other.csv", index=False, **ways)
    plain, other = read_own(tmp_path / "plain.csv"), read_own(tmp_path / "other.csv")
    assert np.array_equal(plain.vectors, other.vectors) and plain.rows.equals(other.rows)
    assert plain.class_names == other.class_names == ("1,5", "a,b", "c;d", "très bon")


def test_text_in_another_encoding_is_refused_with_what_rewrites_it(tmp_path):
    file = tmp_path / "t.csv"
    file.write_bytes("f,label\n1,très\n2,b\n".encode("latin-1"))
    with pytest.raises(IntegrityError, match="not text in UTF-8") as caught:
        read_own(file)
    assert "iconv -f WINDOWS-1252 -t UTF-8" in str(caught.value.hint)


def test_decimals_and_numbers_written_as_text_are_numbers(tmp_path):
    labels = ["a", "b"] * 5
    values = [str(row / 4) for row in range(10)]
    exact = pa.table({"f": pa.array([Decimal(value) for value in values]), "label": labels})
    pq.write_table(exact, tmp_path / "t.parquet")
    pd.DataFrame({"f": values, "label": labels}).to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for name in ("t.parquet", "t.jsonl"):
        data = read_own(tmp_path / name)
        assert data.features == ("f",) and data.vectors[:, 0].tolist() == [row / 4 for row in range(10)]


def test_a_table_of_features_with_every_column(tmp_path):
    frame = pd.DataFrame(vectors(), columns=["f0", "f1", "f2"])
    frame["kind"] = ["x", "NA"] * 20
    frame["split"] = ["train"] * 30 + ["validation"] * 10
    frame["trusted"] = [1, 0] * 20
    frame["clean_label"] = ["x"] * 39 + [""]
    frame["group"] = "g"
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = read_own(tmp_path / "t.csv", Columns(label="kind"))
    assert data.class_names == ("NA", "x") and data.features == ("f0", "f1", "f2")
    assert np.allclose(data.vectors, vectors())
    assert data.rows["trusted"].sum() == 20
    assert data.rows["clean_label"].tolist() == [1] * 39 + [-1]
    assert data.rows["unit"].nunique() == 1


def test_whole_numbers_are_classes_in_their_order_however_they_are_stored(tmp_path):
    for labels in ([10, 2, 10, 2] * 5, [10.0, 2.0, 10.0, 2.0] * 5):
        frame = pd.DataFrame({"f": range(20), "label": labels})
        frame.to_parquet(tmp_path / "t.parquet")
        assert read_own(tmp_path / "t.parquet").class_names == ("2", "10")


def test_npz_and_a_parquet_column_of_lists_are_the_same(tmp_path):
    labels = np.arange(40) % 3
    np.savez(tmp_path / "a.npz", embeddings=vectors(), labels=labels)
    pd.DataFrame({"e": list(vectors()), "label": labels}).to_parquet(tmp_path / "b.parquet")
    a, b = read_own(tmp_path / "a.npz"), read_own(tmp_path / "b.parquet")
    assert np.array_equal(a.vectors, b.vectors)
    assert a.rows.drop(columns="name").equals(b.rows.drop(columns="name"))


def test_a_saved_dataset_has_the_names_of_its_classes(tmp_path):
    table = pa.table({"embedding": vectors(20).tolist(), "label": [0, 1] * 10})
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    info = {"features": {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}}
    written(tmp_path / "dataset_info.json", json.dumps(info))
    written(tmp_path / "state.json", json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    data = read_own(tmp_path)
    assert data.class_names == ("no", "yes") and data.vectors.shape == (20, 3)


# --- what is refused

TABLES = {
    "column of labels": ("f,y2\n1,a\n", "no column of labels; there are f, y2"),
    "one class": ("f,label\n1,a\n2,a\n", "every row has the label 'a'"),
    "blanks": ("f,label\n1,a\n2,a \n3,b\n", "differ in blanks alone"),
    "text": ("f,label\n1,a\nx,b\n", "column 'f' holds 'x', which is no number"),
    "nan": ("f,label\n1,a\n,b\n3,b\n", "line 3: f is nan"),
    "infinite": ("f,label\n1,a\ninf,b\n", "line 3: f is inf"),
    "no label": ("f,label\n1,a\n2,\n3,b\n", "line 3: no label"),
    "constant": ("f,label\n1,a\n1,b\n", "every feature is constant"),
    "split": ("f,label,split\n1,a,train\n2,b,later\n", "line 3: split 'later'"),
    "trusted": ("f,label,trusted\n1,a,1\n2,b,perhaps\n", "line 3: trusted 'perhaps'"),
    "missing picture": ("path,label\nx.png,a\ny.png,b\n", "line 2: x.png: missing"),
    "outside": ("path,label\n../x.png,a\n/etc/passwd,b\n", "line 3: /etc/passwd: outside the folder"),
    "too many fields": ("f,label\n1,a\n2,b,3\n", "not a csv file"),
    "nothing": ("f,label\n", "no rows"),
    "several labels": ("f,label,target\n1,a,0\n2,b,1\n", "label and target could each be the labels"),
    "label twice": (
        "f,label,code\n" + "".join(f"{row},{'ab'[row % 2]},{row % 2}\n" for row in range(20)),
        "column 'code' is the label under other names",
    ),
    "clean label": ("f,label,clean_label\n1,a,a\n2,b,c\n", "the clean label 'c' is no row's label"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_bad_table_is_refused_in_one_place(tmp_path, case):
    text, message = TABLES[case]
    with pytest.raises((ConfigError, IntegrityError), match=message.replace(".", r"\.")):
        read_own(written(tmp_path / "t.csv", text))


LINES = {
    "null": ('{"label":"a","f":1}\nnull\n', "not a jsonl file"),
    "lists": ('{"label":["a"],"f":1}\n{"label":["b"],"f":2}\n', "column 'label' (label) holds lists"),
    "deep": ('{"label":"a","f":' + 5000 * "[" + 5000 * "]" + "}\n", "not a jsonl file"),
    "numbers": ("1\n2\n", "no column of labels"),
}


@pytest.mark.parametrize("case", LINES)
def test_bad_lines_are_refused(tmp_path, case):
    text, message = LINES[case]
    with pytest.raises((ConfigError, IntegrityError), match=re.escape(message)):
        read_own(written(tmp_path / "t.jsonl", text))


def test_numbers_too_large_for_a_class_number_are_names(tmp_path):
    file = written(tmp_path / "t.jsonl", '{"label":1e30,"f":1}\n{"label":2,"f":2}\n')
    assert read_own(file).class_names == ("1e+30", "2.0")


def test_of_several_columns_of_labels_the_one_that_is_asked_for(tmp_path):
    rows = "".join(f"{row},{'ab'[row % 2]},{row % 3}\n" for row in range(20))
    file = written(tmp_path / "t.csv", "f,label,target\n" + rows)
    assert read_own(file, Columns(label="target")).class_names == ("0", "1", "2")
    assert read_own(file, Columns(label="label")).features == ("f", "target")


def test_all_bad_rows_are_named_and_can_be_left_out(tmp_path):
    rows = [f"{row if row % 7 else ''},{'ab'[row % 2]}" for row in range(1, 200)]
    file = written(tmp_path / "t.csv", "f,label\n" + "\n".join(rows))
    with pytest.raises(IntegrityError, match=r"28 of 199 rows(.|\n)*line 8: f is nan(.|\n)*and 8 more"):
        read_own(file)
    data = read_own(file, skip_bad=True)
    assert len(data.rows) == 171 and data.left_out == 28


@pytest.mark.parametrize("name", ["nowhere", "t.txt"])
def test_what_is_no_dataset(tmp_path, name):
    written(tmp_path / "t.txt", "x")
    with pytest.raises(ConfigError):
        read_own(tmp_path / name)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"label has shape \(3,\); there are 40 samples"):
        own_arrays(vectors(), ["a", "b", "c"])
    with pytest.raises(ConfigError, match=r"expected \(N, D\) numbers"):
        own_arrays(vectors().reshape(40, 3, 1), ["a", "b"] * 20)
    with pytest.raises(IntegrityError, match="row 1: feature 2 is nan"):
        own_arrays(np.array([[1, 2, 3], [1, 2, np.nan], [0, 0, 1]]), ["a", "b", "b"])


# --- how it is divided


def test_rows_of_equal_content_or_of_one_group_are_one_unit():
    content, group = np.array(list("abbcdee")), np.array(["x", "x", "", "y", "", "", "y"])
    assert units(content, group).tolist() == [0, 0, 0, 1, 2, 1, 1]


@settings(max_examples=50)
@given(st.integers(1, 200), st.integers(1, 6), st.integers(2, 6), st.integers(0, 1000))
def test_parts_divide_no_unit_and_every_class_evenly(count, classes, parts, seed):
    rng = np.random.default_rng(seed)
    labels, unit = rng.integers(0, classes, count), rng.integers(0, count, count)
    part = divide(labels, unit, parts, rng)
    assert pd.Series(part).groupby(unit).nunique().max() == 1
    alone = divide(labels, np.arange(count), parts, rng)
    for label in range(classes):
        sizes = np.bincount(alone[labels == label], minlength=parts)
        assert sizes.max() - sizes.min() <= 1
        assert sizes[-1] == sizes.min()


def test_a_made_test_set_leaves_every_class_to_be_trained_on_and_no_patient_in_both(tmp_path):
    """The eight rows of class c are of one patient, whose first row is of another class."""
    patient, labels = np.repeat(np.arange(40), 10), np.tile(["a", "b"], 200)
    labels[1:9] = "c"
    rows = pd.DataFrame(vectors(400)).add_prefix("f")
    rows.assign(label=labels, patient=patient).to_csv(tmp_path / "rows.csv", index=False)
    for seed in range(20):
        split = read_own(tmp_path / "rows.csv", Columns(group="patient"), seed=seed).rows["split"].to_numpy()
        assert set(labels[split == TRAIN]) == {"a", "b", "c"}
        assert not set(patient[split == TRAIN]) & set(patient[split == TEST])
        assert (split == TEST).sum() >= 60


def answers(count=400, seed=0):
    """Four questions of yes or no, and a label that their sum says, one in ten wrong."""
    rng = np.random.default_rng(seed)
    asked = rng.integers(0, 2, (count, 4))
    right = (asked.sum(axis=1) > 2).astype(int)
    return asked, np.where(np.arange(count) % 10 == 3, 1 - right, right)


def test_people_who_answer_alike_are_no_copies_of_each_other():
    asked, labels = answers()
    assert own_arrays(asked, labels.astype(str)).rows["unit"].is_unique
    vectors_twice = np.concatenate([vectors(40), vectors(40)])
    assert own_arrays(vectors_twice, ["a", "b"] * 40).rows["unit"].nunique() == 40


def test_what_float32_cannot_tell_apart_has_another_content():
    seconds = 1.7e9 + 40.0 * np.arange(40)[:, None]
    assert own_arrays(seconds, ["a", "b"] * 20).rows["content"].is_unique


def test_rows_are_called_as_the_user_counts_them_whatever_was_left_out(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(
        "f,g,label\n" + "".join(f"{'' if i in (3, 8) else i},{i % 7},{'ab'[i % 2]}\n" for i in range(20))
    )
    data = read_own(file, skip_bad=True)
    lines = file.read_text().splitlines()
    for name, label in zip(data.rows["name"], data.labels, strict=True):
        word, line = name.split()
        assert word == "line" and lines[int(line) - 1].endswith(data.class_names[label])


@pytest.mark.parametrize("head", ["", '""', "Unnamed: 0"])
@pytest.mark.parametrize("start", [0, 1])
def test_the_row_numbers_that_pandas_and_r_write_are_no_feature(tmp_path, head, start):
    file = tmp_path / "rows.csv"
    file.write_text(
        f"{head},f,label\n" + "".join(f"{i + start},{i * i},{'ab'[i // 10]}\n" for i in range(20))
    )
    assert read_own(file).features == ("f",)


def test_usual_names_may_be_written_in_capitals(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(
        "ID,F,Label,Split\n"
        + "".join(f"{9 * i},{i},{'ab'[i % 2]},{'Train' if i < 15 else 'TEST'}\n" for i in range(20))
    )
    data = read_own(file)
    assert data.features == ("F",)
    assert data.rows["name"].tolist() == [str(9 * i) for i in range(20)]
    assert data.rows["split"].tolist() == [TRAIN] * 15 + [TEST] * 5


def test_decimal_commas_between_tabs_are_numbers_and_between_commas_are_refused(tmp_path):
    rows = [(f"{i}", f"{i * i % 11},5", "ab"[i % 2]) for i in range(20)]
    tabs, quoted = tmp_path / "rows.tsv", tmp_path / "rows.csv"
    tabs.write_text("f\tg\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows))
    quoted.write_text("f,g,label\n" + "".join(f'{f},"{g}",{label}\n' for f, g, label in rows))
    data = read_own(tabs)
    assert data.features == ("f", "g") and data.vectors[4, 1] == 5.5
    with pytest.raises(ConfigError, match="column 'g' holds '0,5', which is no number"):
        read_own(quoted)


def test_commas_within_quotes_divide_no_header(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(
        '"Age, years";"Weight, kg";label\n' + "".join(f"{i};{i * i};{'ab'[i % 2]}\n" for i in range(20))
    )
    assert read_own(file).features == ("Age, years", "Weight, kg")


def test_groups_that_are_not_known_are_no_group(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(
        "f,g,label\n" + "".join(f"{i},{'NA' if i % 2 else 'x'},{'ab'[i % 3 > 0]}\n" for i in range(20))
    )
    assert read_own(file, Columns(group="g")).rows["unit"].nunique() == 11


def test_an_empty_column_is_named(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("f,g,label\n" + "".join(f"{i},,{'ab'[i % 2]}\n" for i in range(20)))
    with pytest.raises(ConfigError, match="column 'g' is empty"):
        read_own(file, skip_bad=True)


def test_labels_of_bytes_are_text(tmp_path):
    np.savez(tmp_path / "own.npz", X=vectors(), y=np.array([b"flu", b"cold"] * 20))
    assert read_own(tmp_path / "own.npz").class_names == ("cold", "flu")
