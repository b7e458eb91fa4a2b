"""The first page of ``snakemake --report``: the first tables and figures of what it holds."""

import base64
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

_MOST = 3
"""So many pages are shown; the others stand in the menu."""
_LINE = 5000
"""Characters; docutils takes no line above 10,000."""


def landing(files: Iterable[Path]) -> str:
    """RST of the pages among a report's files: the title, the first table, the figure."""
    pages = [Path(file) for file in files if Path(file).suffix == ".md"]
    return "\n".join(_page(page.read_text()) + _figure(page.with_suffix(".png")) for page in pages[:_MOST])


def _page(text: str) -> str:
    lines = text.splitlines()
    title = lines[0].lstrip("# ")
    from_table = itertools.dropwhile(lambda line: not line.startswith("|"), lines)
    table = itertools.takewhile(lambda line: line.startswith("|"), from_table)
    return f"{title}\n{'=' * len(title)}\n\n{_list_table(list(table))}"


def _list_table(lines: list[str]) -> str:
    """Markdown's table as RST's, whose columns are as wide as they need."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    shown = [row for row in rows if not re.fullmatch(r"[-:]+", row[0])]
    body = "\n".join(f"   * - {row[0]}" + "".join(f"\n     - {cell}" for cell in row[1:]) for row in shown)
    return f".. list-table::\n   :header-rows: 1\n\n{body}\n"


def _figure(picture: Path) -> str:
    if not picture.exists():
        return ""
    data = base64.b64encode(picture.read_bytes()).decode()
    lines = "\n   ".join(data[start : start + _LINE] for start in range(0, len(data), _LINE))
    return f"\n.. image:: data:image/png;base64,\n   {lines}\n   :width: 100%\n"
