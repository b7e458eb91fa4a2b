"""The report of an audit as text: what is in it, what is not, and how large it gets."""

import base64
import dataclasses
import gzip
import html.parser
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from cmw_pipeline.audit import report
from cmw_pipeline.audit.report import render, visible
from tests.support.findings import HOSTILE, made_up


class Reader(html.parser.HTMLParser):
    """What a browser would find in a document."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def packed(text):
    """The list that the page unpacks."""
    found = re.search(r'id="packed"[^>]*>([A-Za-z0-9+/=]+)<', text)
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def shape(text):
    return [(tag, sorted(attrs)) for tag, attrs in Reader(text).tags]


def test_same_audit_same_text():
    assert render(made_up()) == render(made_up())


def test_ten_thousand_pictures_stay_below_five_megabytes():
    """Noise, which no format makes small; long names."""
    audit = made_up(
        10_000,
        [f"class {k}" for k in range(100)],
        listed=2_000,
        side=128,
        paths="a long folder/another/{}.jpeg",
    )
    text = render(audit)
    assert len(text.encode()) < 5e6
    assert len(Reader(text).attributes("data-id")) == report.MAX_PICTURES
    assert len(packed(text)["id"]) == 10_000


def test_nothing_points_outside_the_page():
    text = render(made_up())
    page = Reader(text)
    assert not re.search(r"https?:|url\(|@import|//cdn", text)
    assert all(source.startswith("data:image/webp;base64,") for source in page.attributes("src"))
    assert all(target.startswith("#") for target in page.attributes("href"))
    assert not {tag for tag, _ in page.tags} & {
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "audio",
        "video",
    }


def test_every_link_of_the_page_has_its_section():
    for audit in (made_up(), made_up(pictures=False, folds=False, conflicts=0)):
        page = Reader(render(audit))
        assert {target[1:] for target in page.attributes("href")} <= set(page.attributes("id"))


def test_hostile_names_add_no_element_and_no_attribute():
    harmless = made_up(names=[f"name {k}" for k in range(len(HOSTILE))])
    hostile = made_up(names=HOSTILE)
    assert shape(render(hostile)) == shape(render(harmless))


def test_hostile_names_are_shown_as_they_are_written():
    hostile = made_up(names=HOSTILE, pictures=False)
    said = "".join(Reader(render(hostile)).text)
    assert all(visible(name) in said for name in HOSTILE)
    assert packed(render(hostile))["names"] == list(HOSTILE)


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2066", "\u200f", "\n", "\x00", "\x1b", "\ud800", "\u2028"]
)
def test_characters_that_hide_or_reorder_text_are_spelt_out(character):
    assert visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"


@pytest.mark.parametrize("name", ["Käfer", "猫", "קוף", "می‌خواهم", "👩‍🌾", "a  b"])
def test_names_of_every_script_are_left_alone(name):
    assert visible(name) == name


def test_page_of_vectors_has_no_picture():
    page = Reader(render(made_up(pictures=False)))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert "sheet" not in page.attributes("id")


def test_commands_can_be_pasted_into_a_shell():
    said = "".join(Reader(render(made_up())).text)
    assert "cmw audit 'my pictures' --review reviewed.csv" in said
    assert "cmw predict 'audit/my pictures' FOLDER" in said


def test_certificate_of_a_review_is_shown_and_nothing_else_certifies():
    audit = made_up()
    assert "Certified" not in render(audit)
    certificate = {"reviewed": 59, "wrong": 59, "confidence": 0.95, "precision_at_least": 0.95099}
    said = render(dataclasses.replace(audit, notes=audit.notes | {"certificate": certificate}))
    assert "at least 95.0% are wrong indeed, at 95% confidence: 59 of the 59" in said
    said = render(dataclasses.replace(audit, notes=audit.notes | {"review_unseen": 4}))
    assert "4 have not been looked at, so nothing is certified yet" in said
    assert "Certified" not in said


def test_without_folds_nothing_is_estimated():
    text = render(made_up(folds=False))
    assert "not estimated" in text
    assert "transition.csv" not in text and "--fast --review" in text
    assert "transition" not in Reader(text).attributes("id")
    assert packed(text)["loss"] == [None] * 200


def test_how_right_the_list_is_stands_there_where_clean_labels_are_known():
    audit = made_up()
    assert "How right" not in render(audit)
    wrong = np.arange(200) < 50
    hits = np.cumsum(wrong)
    columns = {"rank": np.arange(1, 201), "wrong": wrong}
    known = pd.DataFrame(columns | {"precision": hits / np.arange(1, 201), "recall": hits / 50})
    notes = {"rows": 200, "wrong": 50, "average_precision": 1.0, "precision": 1.0, "recall": 0.8}
    text = render(dataclasses.replace(audit, known=known, notes=audit.notes | {"known": notes}))
    said = " ".join("".join(Reader(text).text).split())
    assert "of which 50 are labelled wrong" in said and "it has 80% of all that are" in said
    (cut,) = [attrs for tag, attrs in Reader(text).tags if tag == "circle"]
    assert (float(cut["cx"]), float(cut["cy"])) == (480.0, 0.0), "the end of the list, 40 of 50 at no miss"


def test_pictures_are_of_the_sample_drawn_for_review_first_and_never_too_many():
    asked = []
    audit = made_up(3_000, listed=1_000, sampled=60)
    counting = dataclasses.replace(audit, picture=lambda id_: asked.append(id_) or audit.picture(id_))
    render(counting)
    drawn = set(audit.suspects.loc[audit.suspects["sampled"], "id"])
    assert drawn <= set(asked)
    assert set(audit.conflicts["id"].iloc[[0, 2]]) <= set(asked)
    assert len(asked) == report.MAX_PICTURES


def test_list_that_is_cut_keeps_the_sample_drawn_for_review_and_says_so(monkeypatch):
    monkeypatch.setattr(report, "MAX_ROWS", 20)
    audit = made_up(200, listed=100, sampled=30)
    text = render(audit)
    wanted = audit.suspects[(audit.suspects["rank"] <= 20) | audit.suspects["sampled"]]
    assert packed(text)["id"] == wanted["id"].tolist()
    assert "suspects.csv has them all" in text
    assert "suspects.csv has them all" not in render(made_up(20, listed=10))


def test_many_classes_are_cut_to_those_with_most_errors():
    names = [f"class-{k:04d}" for k in range(5_000)]
    audit = made_up(10_000, names, listed=400, pictures=False)
    transition = np.eye(5_000)
    transition[7, 7], transition[7, 4_000] = 0.4, 0.6
    text = render(dataclasses.replace(audit, transition=transition))
    assert len(text.encode()) < 5e6
    assert 'title="class-0007 labelled class-4000: 60%"' in text
    assert "classes.csv has them all" in text


def test_one_class_one_sample_and_no_suspect():
    audit = made_up(1, ["only"], listed=0, sampled=0, conflicts=0)
    audit.suspects["margin"] = -np.inf
    audit = dataclasses.replace(audit, curves=audit.curves.assign(weight=0.0))
    text = render(audit)
    assert packed(text)["margin"] == [None]
    assert "nan" not in "".join(Reader(text).text).lower()


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (96, 96), (500, 20), (20, 500), (400, 300)])
def test_thumbnail_is_the_picture_in_its_proportions(shape):
    height, width = shape
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, width // 2 :] = 250, 120, 20
    made = report.thumbnail(7, picture)
    image = Image.open(io.BytesIO(base64.b64decode(made.source.partition(",")[2])))
    assert max(image.size) == min(max(shape), report.SIDE)
    assert image.width / image.height == pytest.approx(width / height, rel=0.3)
    np.testing.assert_allclose(np.asarray(image.convert("RGB"))[-1, -1], picture[-1, -1], atol=25)


def test_nulls_of_any_kind_are_nulls():
    column = pd.Series([1.23456, np.nan, None, np.inf], dtype="object")
    assert report._numbers(column) == [1.2346, None, None, None]
