"""Pieces of a page in Markdown."""

import math
import re
from collections.abc import Sequence

from cmw_pipeline.tables.aggregate import Place, Summary

MISSING = "—"
_MARKS = re.compile(r"[\\`*_\[\]|$~]")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_TAG = re.compile(r"<(?!https?://)(?=[A-Za-z/!?])")


def plain(text: str) -> str:
    r"""One line that shows as it is written: no mark of Markdown, HTML or formulas in it counts as one.

    >>> print(plain("<b> x_1 | y"))
    &lt;b&gt; x\_1 \| y
    """
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split())).translate(_ENTITIES)


def prose(text: str) -> str:
    """Markdown of somebody's own, in which HTML and tables are no more than their letters."""
    return _TAG.sub("&lt;", text.strip()).replace("|", "\\|")


def grid(lines: Sequence[Sequence[str]]) -> str:
    """A table; the first line is its head, and the first column is somebody's words."""
    cells = [[plain(first), *rest] for first, *rest in lines]
    widths = [max(len(line[c]) for line in cells) for c in range(len(cells[0]))]
    printed = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in cells]
    printed.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(printed)


def value(summary: Summary, bold: bool, planned: int) -> str:
    """Mean ± standard deviation, and n where it is not as many seeds as are planned."""
    mean = f"**{summary.mean:.2f}**" if bold else f"{summary.mean:.2f}"
    spread = "" if math.isnan(summary.std) else f" ± {summary.std:.2f}"
    count = "" if summary.n == planned else f" (n={summary.n}/{planned})"
    return f"{mean}{spread}{count}"


def winners(cells: dict[Place, Summary], smallest: bool) -> set[Place]:
    """The best mean of each column, to the printed digits; none where nothing competes."""
    pick = min if smallest else max
    found: set[Place] = set()
    for column in {place[1] for place in cells}:
        means = {place: round(cell.mean, 2) for place, cell in cells.items() if place[1] == column}
        if len(means) > 1:
            best = pick(means.values())
            found |= {place for place, mean in means.items() if mean == best}
    return found
