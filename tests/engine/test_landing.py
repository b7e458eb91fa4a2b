"""The landing page of Snakemake's report: what its text becomes in a browser."""

import base64
import re
from pathlib import Path

import pytest
from docutils.core import publish_parts

from cmw_pipeline.engine import landing

RESULTS = Path(__file__).parents[2] / "results"


def shown(files):
    return publish_parts(landing(files), writer="html", settings_overrides={"halt_level": 2})["html_body"]


@pytest.mark.parametrize("name", ["demo", "table2-digits", "selective-digits", "semi-digits"])
def test_every_cell_of_the_first_table_is_there_and_nothing_of_the_other_sections(name):
    page = RESULTS / f"{name}.md"
    table = re.search(r"(^\|.*\n)+", page.read_text(), re.MULTILINE)[0]
    values = [word for word in table.replace("*", "").split() if re.search(r"\w", word)]
    html = " ".join(re.sub(r"<[^>]+>", " ", shown([page])).split())
    assert len(values) > 8
    assert all(value in html for value in values)
    assert "optimistic" not in html


def test_the_figure_of_a_table_is_inside():
    html = shown([RESULTS / "demo.md", RESULTS / "demo.png"])
    data = re.search(r'src="data:image/png;base64,([^"]+)"', html)[1]
    assert base64.b64decode(data) == (RESULTS / "demo.png").read_bytes()


def test_the_first_tables_are_shown_and_a_report_without_any_has_none():
    pages = sorted(RESULTS.glob("table*-digits.md"))[:4]
    titles = [page.read_text().splitlines()[0].lstrip("# ") for page in pages]
    html = shown(pages)
    assert [title in html for title in titles] == [True, True, True, False]
    assert landing([RESULTS / "demo.png"]) == ""
