"""One page of HTML that shows an audit: it asks nothing of any network, and lets a person review the list.

Names of files and classes are hostile input. Whatever the template prints is escaped, and characters that
reorder or hide text are spelt out (:func:`visible`); the page's only script is named by its hash.
"""

import base64
import gzip
import hashlib
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cmw_pipeline.audit.drawings import chart, heat, recall
from cmw_pipeline.audit.result import REVIEW_COLUMNS, Audit, Picture

MAX_ROWS = 50_000
"""Rows of the list in the page, the most suspicious ones; every row is in ``suspects.csv``."""
MAX_PICTURES, SIDE = 400, 96
"""Thumbnails in the page, and their longer side in pixels."""
MAX_CONFLICTS = 50
MAX_CLASSES = 100
"""Rows of the class table, those with most suspects; every class is in ``classes.csv``."""
_HIDDEN = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def render(audit: Audit) -> str:
    """The report as one HTML document, UTF-8, below 5 MB for 10,000 pictures.

    The same audit gives the same text. Pictures are asked for by :attr:`Audit.picture`, at most 400 of them.
    """
    script = _text("report.js")
    listed = audit.listed
    conflicts = _conflicts(audit)
    pictured = _pictured(listed, MAX_PICTURES - len(conflicts))
    packed = _packed(_rows(audit))
    return (
        _environment()
        .get_template("report.html")
        .render(
            audit=audit,
            notes=audit.notes,
            flat_notes=list(_flat(audit.notes)),
            num_listed=len(listed),
            num_sampled=int(audit.suspects["sampled"].sum()),
            num_conflicts=audit.conflicts["content"].nunique(),
            conflicts=conflicts,
            pairs=_pairs(listed, pictured, audit.picture) if audit.picture else [],
            num_pictured=len(pictured),
            classes=_most_suspected(audit.classes),
            heat=heat(audit),
            chart=chart(audit.curves, audit.classes),
            recall=recall(audit.known, len(listed)),
            max_rows=MAX_ROWS,
            packed=packed,
            key=hashlib.sha256(packed.encode()).hexdigest()[:16],
            style=Markup(_text("report.css")),  # noqa: S704  ours
            script=Markup(script),  # noqa: S704  ours
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def visible(text: str) -> str:
    r"""The text with control characters, bidi overrides and lone surrogates spelt out.

    >>> visible("a\u202egpj.exe")
    'a⟨U+202E⟩gpj.exe'
    """
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cmw_pipeline.audit"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": _percent, "count": _count, "quoted": shlex.quote}
    return environment


def _text(name: str) -> str:
    return (resources.files("cmw_pipeline.audit") / "templates" / name).read_text(encoding="utf-8")


def _percent(share: float) -> str:
    """Two digits, no more than an estimate bears; "" of a null."""
    if pd.isna(share):
        return ""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def _count(number: int) -> str:
    return f"{number:,}"


# --- the list of all rows, which the page unpacks


def _rows(audit: Audit) -> dict[str, Any]:
    """Columns of the list, class names by number; and the marks of the review before."""
    suspects = audit.suspects
    rows = suspects[(suspects["rank"] <= MAX_ROWS) | suspects["sampled"]]
    names = list(dict.fromkeys([*audit.classes["name"], *rows["given"], *rows["suggested"]]))
    number = {name: place for place, name in enumerate(names)}
    reasons = list(dict.fromkeys(rows["why"]))
    reason = {why: place for place, why in enumerate(reasons)}
    return {
        "names": names,
        "reasons": reasons,
        **{column: rows[column].tolist() for column in ("id", "path", "rank", "content")},
        **{column: rows[column].map(number).tolist() for column in ("given", "suggested")},
        **{column: _numbers(rows[column]) for column in ("margin", "loss", "weight")},
        **{column: rows[column].astype(int).tolist() for column in ("in_list", "sampled")},
        "why": rows["why"].map(reason).tolist(),
        "before": [] if audit.reviewed is None else audit.reviewed[list(REVIEW_COLUMNS)].to_dict("records"),
    }


def _numbers(column: "pd.Series[Any]") -> list[float | None]:
    """Four decimals; what is no finite number is null."""
    return [round(float(value), 4) if np.isfinite(value) else None for value in column.astype("float64")]


def _packed(rows: dict[str, Any]) -> str:
    return base64.b64encode(gzip.compress(json.dumps(rows).encode(), mtime=0)).decode()


# --- pictures


@dataclass(frozen=True)
class Thumbnail:
    """A picture within the page; of the original's proportions, no larger than SIDE."""

    id: int
    source: str
    """A data: address."""


def thumbnail(id_: int, picture: Picture) -> Thumbnail:
    """The picture as WebP, made smaller where it is larger."""
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70)
    return Thumbnail(id_, f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def _pictured(listed: pd.DataFrame, room: int) -> pd.DataFrame:
    """The suspects that are shown as pictures: those drawn for the review, then by rank."""
    return listed.sort_values(["sampled", "rank"], ascending=[False, True]).head(room).sort_values("rank")


@dataclass(frozen=True)
class Pair:
    """Suspects of one given and one suggested class."""

    given: str
    suggested: str
    count: int
    thumbnails: Sequence[tuple[Thumbnail, str]]
    """With the path of each."""


def _pairs(listed: pd.DataFrame, pictured: pd.DataFrame, picture: Callable[[int], Picture]) -> list[Pair]:
    """Pairs of which a picture is shown, the most frequent first."""
    counts = Counter(zip(listed["given"], listed["suggested"], strict=True))
    shown: dict[tuple[str, str], list[tuple[Thumbnail, str]]] = {}
    for id_, path, *pair in zip(
        *(pictured[name] for name in ("id", "path", "given", "suggested")), strict=True
    ):
        shown.setdefault((pair[0], pair[1]), []).append((thumbnail(id_, picture(id_)), path))
    order = sorted(shown, key=lambda pair: (-counts[pair], pair))
    return [Pair(*pair, counts[pair], shown[pair]) for pair in order]


@dataclass(frozen=True)
class Conflict:
    """One content under several labels."""

    picture: Thumbnail | None
    rows: Sequence[dict[Hashable, Any]]


def _conflicts(audit: Audit) -> list[Conflict]:
    groups = [rows for _, rows in audit.conflicts.groupby("content", sort=False)][:MAX_CONFLICTS]
    return [Conflict(_first_picture(audit, rows), rows.to_dict("records")) for rows in groups]


def _first_picture(audit: Audit, rows: pd.DataFrame) -> Thumbnail | None:
    id_ = int(rows["id"].iloc[0])
    return thumbnail(id_, audit.picture(id_)) if audit.picture else None


# --- classes


def _most_suspected(classes: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Rows of the class table in the order of the classes, with the widths of their bars."""
    chosen = classes.nlargest(MAX_CLASSES, "flagged", keep="first").sort_index()
    largest = max(int(classes["count"].max()), 1)
    return [
        row | {"width": row["count"] / largest, "share": row["flagged"] / max(row["count"], 1)}
        for row in chosen.to_dict("records")
    ]


# --- how it was made


def _flat(notes: dict[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    """Names and values of nested notes: ``versions.torch``."""
    for name, value in notes.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value if isinstance(value, str) else json.dumps(value)
