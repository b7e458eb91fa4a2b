"""The site of `make docs`: every page is in it, and all that it links is there."""

import html.parser
import re
import subprocess
import sys
from importlib.util import find_spec
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.support.processes import CHECKOUT, environment

DOCS = CHECKOUT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)


def contents():
    """The pages that the tables of contents name, by path from the root."""
    lines = [line for page in PAGES for tree in TREE.findall(page.read_text()) for line in tree.splitlines()]
    return {(DOCS / line).resolve() for line in lines if line and not line.startswith(":")}


def test_every_page_is_in_the_contents():
    named = contents()
    assert len(named) > 15
    assert [page.name for page in PAGES if page.with_suffix("") not in named] == ["index.md"]
    assert not [str(name) for name in named if name.name != "*" and not name.with_suffix(".md").exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_file_is_there(page):
    links = re.findall(r"\]\(([^):#]+)(?:#[\w-]+)?\)", page.read_text())
    assert not [link for link in links if not (DOCS / link).exists()]


class Seen(html.parser.HTMLParser):
    """What a page of HTML links and loads, and which anchors it has."""

    def __init__(self, page):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.add(given.get("id"))
        if tag in ("script", "img", "link"):
            self.loads.append(given.get("src") or given.get("href") or "")
        elif tag == "a" and given.get("href"):
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    missing = [name for name in ("sphinx", "furo", "myst_parser") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'cmw-pipeline[docs]', or `make docs`")
    out = tmp_path_factory.mktemp("site")
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "--fail-on-warning",
        "-q",
        "-c",
        "docs",
        "-d",
        str(out / "trees"),
    ]
    done = subprocess.run(
        [*build, "-d", str(out / "trees"), ".", str(out / "html")],
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {page: Seen(page) for page in (out / "html").rglob("*.html")}


def test_nothing_on_the_site_leads_nowhere_and_it_loads_nothing_from_elsewhere(site):
    lost = []
    for page, seen in site.items():
        for link in [*seen.links, *seen.loads]:
            if urlsplit(link).scheme in ("http", "https", "data", "mailto"):
                continue
            path, anchor = urldefrag(link)
            target = (page.parent / unquote(urlsplit(path).path)).resolve() if path else page
            if not target.is_file() or (anchor and target in site and anchor not in site[target].anchors):
                lost.append(f"{page.name}: {link}")
    assert len(site) > 35 and not lost
    assert not [load for seen in site.values() for load in seen.loads if "://" in load]


def test_the_api_is_that_of_the_docstrings(site):
    (api,) = [page for page in site if page.name == "api.html"]
    wanted = {"Reweighter", "load_weighting", "load_classifier", "TrajectoryMargin", "onnx_form"}
    assert wanted <= {anchor.rpartition(".")[2] for anchor in site[api].anchors if anchor}


def test_what_make_makes_is_not_mistaken_for_a_folder_of_that_name():
    lines = (CHECKOUT / "Makefile").read_text().splitlines()
    targets = {line.partition(":")[0] for line in lines if re.match(r"[a-z]+:( |$)", line)}
    (phony,) = [line for line in lines if line.startswith(".PHONY: ")]
    assert targets == set(phony.split()[1:])
