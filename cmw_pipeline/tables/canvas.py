"""What all figures share: style, colours, PNG files whose bytes depend on the data alone."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

_STYLE = Path(__file__).with_name("style.mplstyle")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#333333")
"""Okabe and Ito: told apart with any colour vision."""


def can_draw(text: str) -> bool:
    """Whether the figures' font has all letters of a text, and writes them in the order they are read in.

    >>> can_draw("CMW-Net (ours)"), can_draw("\u65b9\u6cd5"), can_draw("\u05e9\u05d9\u05d8\u05d4")
    (True, False, False)
    """
    font = get_font(findfont("DejaVu Sans"))
    return all(
        font.get_char_index(ord(letter)) and unicodedata.bidirectional(letter) not in ("R", "AL", "AN")
        for letter in " ".join(text.split())
    )


def colours(count: int) -> list[str]:
    """So many colours, no two alike."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return [to_hex(colormaps["turbo"](place)) for place in np.linspace(0.05, 0.95, count)]


@contextmanager
def styled() -> Iterator[None]:
    """Only our style: a matplotlibrc of the user's must not change the bytes."""
    with matplotlib.style.context(["default", str(_STYLE)]):
        yield


def save(figure: Figure, path: Path) -> None:
    """``Figure`` without pyplot draws with Agg, whatever display there is."""
    figure.savefig(path, format="png", metadata={"Software": None})
