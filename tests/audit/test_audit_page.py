"""The report in a real browser: it asks for nothing, names do no harm, and the review can be given back."""

import dataclasses
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from cmw_pipeline.audit.report import render, visible
from cmw_pipeline.audit.result import REVIEW_COLUMNS, short
from cmw_pipeline.audit.review import read_review, reviewed
from cmw_pipeline.data.own import own_arrays
from tests.support.chromium import chromium, missing, opened
from tests.support.findings import HOSTILE, made_up

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def show(browser, tmp_path):
    """Opens the report of an audit; whatever a test does, the page asks for nothing and is silent."""
    pages = []

    def open_(audit, **options):
        file = tmp_path / f"report {len(pages)}.html"
        file.write_text(render(audit), encoding="utf-8")
        pages.append(opened(browser, file, **options))
        return pages[-1]

    yield open_
    for seen in pages:
        assert seen.requests == []
        assert seen.said == []
        seen.page.context.close()


def saved(seen):
    """``reviewed.csv``, as text, every field a string."""
    with seen.page.expect_download() as download:
        seen.page.locator(".save:visible").last.click()
    assert download.value.suggested_filename == "reviewed.csv"
    text = Path(download.value.path()).read_bytes().decode()
    return pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)


def marks(frame):
    return list(frame[["id", "verdict", "label"]].itertuples(index=False, name=None))


def sizes(seen):
    return seen.evaluate("[document.documentElement.scrollWidth, innerWidth]")


# --- the page itself


@pytest.mark.parametrize("audit", [made_up(), made_up(pictures=False, folds=False, conflicts=0)])
def test_page_asks_for_nothing_and_says_nothing(show, audit):
    seen = show(audit)
    seen.page.mouse.wheel(0, 20_000)
    assert seen.texts("h1") == [audit.verdict]
    broken = "Array.from(document.images).filter((image) => !image.naturalWidth).length"
    assert seen.evaluate(broken) == 0


def test_what_is_smuggled_into_the_page_neither_runs_nor_loads(browser, tmp_path):
    """Should a name ever get through the escaping, the content security policy still holds."""
    smuggled = (
        "<script>window.hacked = 1</script><img src='https://example.org/a.png' onerror='window.hacked = 2'>"
        "<script src='https://example.org/b.js'></script><style>@import 'https://example.org/c.css';</style>"
    )
    file = tmp_path / "report.html"
    file.write_text(render(made_up()).replace("<main>", f"<main>{smuggled}"), encoding="utf-8")
    seen = opened(browser, file)
    assert seen.evaluate("window.hacked") is None
    seen.evaluate("fetch('https://example.org/d').catch(() => {})")
    assert seen.refused == [f"https://example.org/{name}" for name in ("a.png", "b.js", "c.css")]
    assert seen.requests == seen.refused
    assert any(
        "https://example.org/d" in message and "default-src 'none'" in message for message in seen.said
    )


@pytest.mark.parametrize("width", [320, 390, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_no_wider_than_the_window(show, width, scheme):
    seen = show(made_up(names=HOSTILE), viewport={"width": width, "height": 700}, color_scheme=scheme)
    content, window = sizes(seen)
    assert content <= window
    seen.press("r")
    content, window = sizes(seen)
    assert content <= window


def test_dark_mode_is_dark(show):
    def lightness(scheme):
        seen = show(made_up(), color_scheme=scheme)
        colour = seen.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.strip("rgb()").split(","))

    assert lightness("dark") < 150 < 600 < lightness("light")


def test_keyboard_focus_is_seen(show):
    seen = show(made_up())
    outlines = set()
    for _ in range(12):
        seen.press("Tab")
        outlines.add(seen.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert outlines == {"solid"}


# --- hostile names


def test_hostile_names_do_no_harm_anywhere(show):
    audit = made_up(names=HOSTILE, listed=60)
    audit.suspects["path"] = [HOSTILE[row % len(HOSTILE)] for row in range(len(audit.suspects))]
    notes = audit.notes | {"name": HOSTILE[0], "method": HOSTILE[1], HOSTILE[1]: HOSTILE[2]}
    seen = show(dataclasses.replace(audit, verdict=HOSTILE[0], notes=notes))
    for name in HOSTILE:
        seen.page.fill("#search", name.strip().split("\n")[0])
        seen.page.keyboard.press("Tab")
    seen.page.fill("#search", "")
    for key in ("r", *"ynsynsynsyns"):
        seen.press(key)
    assert seen.evaluate("window.hacked") is None
    assert seen.evaluate("document.scripts.length") == 2
    assert seen.evaluate("document.querySelectorAll('main svg, dialog svg').length") == 1


def test_hostile_names_are_shown_in_the_list_and_the_review(show):
    audit = made_up(names=HOSTILE, listed=len(HOSTILE), sampled=0)
    seen = show(audit)
    assert seen.evaluate("rows.slice(0, 12).map((row) => row.given)") == list(HOSTILE)
    text = (
        "Array.from(document.querySelectorAll('#rows [data-place] td:nth-child(3)'), (td) => td.textContent)"
    )
    assert seen.evaluate(text)[: len(HOSTILE)] == [visible(name) for name in HOSTILE]
    seen.press("r")
    for name in HOSTILE:
        assert seen.evaluate("one('#given').textContent") == visible(name)
        seen.press("s")


def test_hostile_labels_come_back_in_the_file_to_the_letter(show):
    audit = made_up(names=HOSTILE, listed=len(HOSTILE), sampled=0)
    seen = show(audit)
    seen.press("r", *"y" * len(HOSTILE))
    expected = [(str(row.id), "y", row.suggested) for row in audit.listed.itertuples()]
    assert marks(saved(seen)) == expected


# --- the list


def test_list_is_sorted_by_what_is_clicked_and_again_the_other_way(show):
    audit = made_up(60)
    seen = show(audit)
    by_loss = audit.suspects.sort_values("loss", ascending=False)
    seen.page.click("[data-sort=loss]")
    assert seen.column(2)[:5] == by_loss["path"].tolist()[:5]
    seen.page.click("[data-sort=loss]")
    assert seen.column(2)[:5] == by_loss["path"].tolist()[:-6:-1]
    assert seen.page.locator("th[aria-sort=ascending]").all_inner_texts() == ["Loss"]
    seen.page.click("[data-sort=given]")
    given = seen.evaluate("shown.map((row) => row.given)")
    assert given == sorted(given)
    assert seen.column(3)[0] == "bird"


def test_missing_values_come_last_whichever_way_the_list_is_sorted(show):
    audit = made_up(60)
    audit.suspects.loc[[4, 9], "loss"] = float("nan")
    seen = show(audit)
    for _ in range(2):
        seen.page.click("[data-sort=loss]")
        assert seen.evaluate("shown.slice(-2).map((row) => row.loss)") == [None, None]


def test_numbers_within_names_are_sorted_as_numbers(show):
    seen = show(made_up(30, paths="photo-{}.png"))
    seen.page.click("[data-sort=path]")
    assert seen.column(2)[:4] == ["photo-0.png", "photo-3.png", "photo-6.png", "photo-9.png"]


def test_search_finds_names_labels_and_reasons_in_any_case(show):
    audit = made_up(200)
    seen = show(audit)
    seen.page.fill("#search", "PHOTO-00027")
    assert seen.column(2) == ["class/photo-00027.png"]
    assert seen.texts("#found") == ["1 of 200 rows"]
    seen.page.fill("#search", "another class fits")
    assert seen.texts("#found") == ["40 of 200 rows"]
    seen.page.fill("#search", ".*")
    assert seen.column(2) == []
    seen.page.fill("#search", "")
    seen.page.check("#only")
    assert seen.texts("#found") == ["40 of 200 rows"]


def test_of_ten_thousand_rows_only_those_in_sight_are_drawn(show):
    seen = show(made_up(10_000, listed=500, sampled=60))
    drawn = "document.querySelectorAll('#rows tbody tr').length"
    assert seen.evaluate("rows.length") == 10_000
    assert 10 < seen.evaluate(drawn) < 100
    seen.page.focus("#box")
    seen.press("End")
    seen.page.wait_for_selector("text=class/photo-29997.png")
    assert seen.evaluate(drawn) < 100
    last = seen.page.locator("#rows tr[aria-selected]").bounding_box()
    box = seen.page.locator("#box").bounding_box()
    assert box["y"] <= last["y"] and last["y"] + last["height"] <= box["y"] + box["height"] + 1


# --- the review


def test_review_by_keyboard_from_the_first_key_to_the_file(show):
    audit = made_up(sampled=4)
    seen = show(audit)
    order = audit.listed.sort_values(["sampled", "rank"], ascending=[False, True])
    seen.press("r")
    shown = []
    for key in "ynsyny":
        shown.append(seen.evaluate("one('#path').textContent"))
        seen.press(key)
    seen.press("Escape")
    assert shown == order["path"].tolist()[:6]
    frame = saved(seen)
    assert list(frame) == list(REVIEW_COLUMNS)
    said = {"y": "y", "n": "n", "s": "skip"}
    expected = {
        str(row.id): (
            said[key],
            row.suggested if key == "y" else "",
            str(row.sampled),
            row.given,
            row.content,
        )
        for key, row in zip("ynsyny", order.itertuples(), strict=False)
    }
    assert frame.set_index("id").apply(tuple, axis=1).to_dict() == expected


def test_every_row_of_the_random_sample_is_in_the_file_looked_at_or_not(show):
    audit = made_up(sampled=10)
    seen = show(audit)
    seen.press("r", "y", "Escape")
    frame = saved(seen)
    assert frame["id"].tolist() == audit.suspects.loc[audit.suspects["sampled"], "id"].astype(str).tolist()
    assert sorted(frame["verdict"]) == [""] * 9 + ["y"]


def test_saved_review_is_what_the_audit_reads(show, tmp_path):
    audit = made_up(120, HOSTILE, listed=12, sampled=6)
    audit.suspects["id"] //= 3
    data = own_arrays(np.eye(120, dtype=np.float32), audit.suspects["given"].tolist())
    audit.suspects["content"] = short(data.rows["content"]).to_numpy()
    seen = show(audit)
    seen.press("r", *"yyynsyyyyyyy", "Escape")
    file = tmp_path / "reviewed.csv"
    with seen.page.expect_download() as download:
        seen.page.locator(".save:visible").click()
    download.value.save_as(file)
    review = read_review(file, data)
    assert (review.certificate()["wrong"], review.certificate()["reviewed"]) == (4, 6)
    wrong = audit.listed.set_index("id").loc[review.rows.loc[review.rows["verdict"] == "y", "id"]]
    names = np.array(data.class_names, dtype=object)
    assert names[reviewed(data, review).labels[wrong.index]].tolist() == wrong["suggested"].tolist()


def test_the_file_of_a_second_review_holds_the_first_one_too(show):
    audit = made_up(sampled=2)
    first = pd.DataFrame(
        [(999, "y", "bird", False, "cat", "xa"), (0, "n", "", False, "cat", "xb")],
        columns=list(REVIEW_COLUMNS),
    )
    seen = show(dataclasses.replace(audit, reviewed=first))
    assert "2 of the review before are kept" in seen.evaluate("one('#progress').textContent")
    seen.press("r", "y", "Escape")
    drawn = audit.suspects[audit.suspects["sampled"]].iloc[0]
    frame = saved(seen)
    assert frame["id"].tolist()[2:] == ["999", "0"]
    assert frame.iloc[2].tolist() == ["999", "y", "bird", "False", "cat", "xa"]
    assert marks(frame)[:1] == [(str(drawn["id"]), "y", drawn["suggested"])]


@pytest.mark.parametrize(
    ("key", "chosen", "expected"),
    [
        ("n", None, ("y", "cat")),
        ("y", "bird", ("y", "bird")),
        ("y", "dog", ("n", "")),
        ("s", None, ("y", "cat")),
    ],
)
def test_a_row_that_is_marked_again_keeps_the_label_that_the_data_have(show, key, chosen, expected):
    """Row 0 was labelled dog, the first review said cat, and the audit has it as cat."""
    first = pd.DataFrame([(0, "y", "cat", False, "dog", "xb")], columns=list(REVIEW_COLUMNS))
    seen = show(dataclasses.replace(made_up(sampled=0), reviewed=first))
    seen.press("r")
    assert seen.evaluate("one('#given').textContent") == "cat"
    if chosen:
        seen.page.select_option("#label", label=chosen)
        seen.page.focus("#review .card")
    seen.press(key, "Escape")
    line = saved(seen).iloc[0]
    assert (line["verdict"], line["label"], line["given"], line["content"]) == (*expected, "dog", "xb")


def test_a_mark_can_be_taken_back_and_made_again(show):
    audit = made_up(sampled=0)
    seen = show(audit)
    seen.press("r", "y", "ArrowLeft", "n")
    assert marks(saved(seen)) == [("0", "n", "")]


def test_another_right_label_than_the_suggested_one_can_be_chosen(show):
    seen = show(made_up(sampled=0))
    seen.press("r")
    seen.page.select_option("#label", label="bird")
    seen.page.click("[data-verdict=y]")
    assert marks(saved(seen)) == [("0", "y", "bird")]


def test_keys_choose_within_the_list_of_labels_and_mark_nothing(show):
    seen = show(made_up(names=("cat", "dog", "yak", "newt"), sampled=0))
    seen.press("r")
    seen.page.focus("#label")
    seen.press("y")
    assert seen.evaluate("rows.filter((row) => row.verdict).length") == 0
    assert seen.evaluate("names[one('#label').value]") == "yak"


def test_row_without_a_suggestion_is_not_marked_wrong_before_a_label_is_chosen(show):
    seen = show(made_up(sampled=0))
    seen.page.fill("#search", "photo-00300")
    seen.page.focus("#box")
    seen.press("ArrowDown", "Enter", "y")
    assert seen.texts("#mark") == ["Choose the right label first."]
    seen.page.select_option("#label", label="cat")
    seen.page.click("[data-verdict=y]")
    assert marks(saved(seen)) == [("300", "y", "cat")]


def test_review_of_what_was_found_and_of_a_picture_that_was_clicked(show):
    audit = made_up(sampled=0)
    seen = show(audit)
    seen.page.fill("#search", "photo-00012")
    seen.page.click("#rows tr[data-place]")
    assert seen.evaluate("one('#path').textContent") == "class/photo-00012.png"
    seen.press("Escape")
    seen.page.click("#sheet img[data-id='9']")
    assert seen.evaluate("one('#path').textContent") == "class/photo-00009.png"
    assert seen.evaluate("one('#picture img').src === pictures.get(9).src")


def test_review_of_one_pair_of_classes(show):
    audit = made_up(sampled=0)
    seen = show(audit)
    seen.page.get_by_role("button", name="Review 13").first.press("Enter")
    pair = audit.listed[(audit.listed["given"] == "bird") & (audit.listed["suggested"] == "cat")]
    assert seen.texts("#review-title") == [f"1 of {len(pair)}"]
    seen.press(*"y" * len(pair))
    assert marks(saved(seen)) == [(str(id_), "y", "cat") for id_ in pair["id"]]


def test_review_says_so_where_the_page_has_no_picture(show):
    seen = show(made_up(1_000, listed=600, sampled=0))
    seen.page.fill("#search", "photo-01797")
    seen.page.click("#rows tr[data-place]")
    assert seen.texts("#picture") == ["This page holds no picture of it."]


def test_to_type_in_the_search_field_marks_and_opens_nothing(show):
    seen = show(made_up())
    seen.page.focus("#search")
    seen.press(*"ryns")
    assert seen.page.input_value("#search") == "ryns"
    assert not seen.page.is_visible("#review")


def test_marks_are_still_there_when_the_page_is_opened_again(show):
    seen = show(made_up(sampled=0))
    seen.press("r", "y", "n", "Escape")
    seen.page.on("dialog", lambda dialog: dialog.accept())
    seen.page.reload()
    seen.page.wait_for_selector("html[data-ready]", state="attached")
    assert seen.texts("#progress") == ["2 marked"]
    assert [verdict for _, verdict, _ in marks(saved(seen))] == ["y", "n"]


def test_end_of_the_list_is_said(show):
    seen = show(made_up(listed=3, sampled=3))
    seen.press("r", "y", "y", "n")
    assert seen.texts("#mark") == ["All of them are marked. Save reviewed.csv."]


def test_nothing_suspect_nothing_to_review(show):
    seen = show(made_up(5, listed=0, sampled=0, conflicts=0))
    assert seen.page.is_disabled("#start")
    seen.press("r")
    assert not seen.page.is_visible("#review")
