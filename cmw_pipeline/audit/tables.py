"""From what the fits say to what a person reads: suspects, classes, conflicts, a verdict."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from cmw_pipeline.audit.result import (
    CLASS_COLUMNS,
    CONFLICT_COLUMNS,
    CURVE_COLUMNS,
    KNOWN_COLUMNS,
    SUSPECT_COLUMNS,
    short,
)
from cmw_pipeline.audit.run import Findings
from cmw_pipeline.audit.scores import ConfidentJoint, class_counts, list_length, prior_margin
from cmw_pipeline.data.own import UNKNOWN, OwnData
from cmw_pipeline.meta.weighting import WeightingFunction
from cmw_pipeline.runtime.seeds import stream
from cmw_pipeline.types import Floats

SAMPLE = 60
"""Suspects that are drawn at random for the review that certifies the list: 59 hits of 59 certify 95%."""
_GRID = np.linspace(0.0, 10.0, 101)


def suspect_table(data: OwnData, found: Findings, trusted: npt.NDArray[np.bool_], seed: int) -> pd.DataFrame:
    """Every training row, the most suspicious first; see ``SUSPECT_COLUMNS``.

    Args:
        data: the dataset.
        found: of its training rows.
        trusted: (n,) rows whose label a person vouches for: they are never in the list.
        seed: of the random sample of the list.
    """
    names = np.array(data.class_names, dtype=object)
    said = prior_margin(found.mean, found.labels)
    margin = np.where(trusted, -np.inf, said.margin)
    length = list_length(margin, None if found.joint is None else found.joint.num_wrong)
    order = np.argsort(-margin, kind="stable")
    place = np.arange(len(order))
    drawn = stream(seed, "audit-review").permutation(length)[:SAMPLE]
    suggested = np.where(trusted, found.labels, said.suggested)
    frame = pd.DataFrame(
        {
            "id": found.rows[order],
            "path": data.rows["name"].to_numpy()[found.rows][order],
            "given": names[found.labels][order],
            "suggested": names[suggested][order],
            "rank": place + 1,
            "margin": said.margin[order],
            "loss": out_of_fold_loss(found)[order],
            "weight": found.weights[order],
            "in_list": place < length,
            "sampled": np.isin(place, drawn),
            "why": np.array(_why(found, suggested, trusted, names), dtype=object)[order],
            "content": short(data.rows["content"]).to_numpy()[found.rows][order],
        }
    )
    return frame.astype(SUSPECT_COLUMNS)


def out_of_fold_loss(found: Findings) -> Floats:
    """(n,) cross-entropy with the given label where the sample was held out, else nan."""
    if found.out_of_fold is None:
        return np.full(len(found.rows), np.nan)
    own = found.out_of_fold[np.arange(len(found.rows)), found.labels]
    loss: Floats = -np.log(np.maximum(own, 1e-12))
    return loss


def _why(
    found: Findings,
    suggested: npt.NDArray[np.int64],
    trusted: npt.NDArray[np.bool_],
    names: npt.NDArray[np.object_],
) -> list[str]:
    rows = np.arange(len(suggested))
    own, other = found.mean[rows, found.labels], found.mean[rows, suggested]
    words = []
    for row in rows:
        if trusted[row]:
            words.append("trusted: a person vouches for the label")
        elif suggested[row] == found.labels[row]:
            words.append("")
        else:
            seen, given = names[suggested[row]], names[found.labels[row]]
            words.append(f"{seen} {other[row]:.2f}, {given} {own[row]:.2f} over all epochs")
    return words


def class_table(data: OwnData, found: Findings, suspects: pd.DataFrame, groups: Floats) -> pd.DataFrame:
    """One row a class; see ``CLASS_COLUMNS``. ``groups`` is (K,)."""
    names, num_classes = list(data.class_names), len(data.class_names)
    count = class_counts(found.labels, num_classes)
    flagged = suspects[suspects["in_list"]].groupby("given").size().reindex(names, fill_value=0).to_numpy()
    frame = pd.DataFrame({"name": names, "count": count, "group": groups, "flagged": flagged})
    held = _held(found, num_classes)
    for side in ("noise_in", "noise_out"):
        rate = None if found.joint is None else getattr(found.joint, side)
        for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            values = np.full(num_classes, np.nan) if rate is None else getattr(rate, part)
            frame[side + suffix] = np.where(held, values, np.nan)
    frame["action"] = [_action(row, held[place], found.joint) for place, row in enumerate(frame.itertuples())]
    return frame[list(CLASS_COLUMNS)].astype(CLASS_COLUMNS)


def _held(found: Findings, num_classes: int) -> npt.NDArray[np.bool_]:
    """(K,) whether samples of the class were held out."""
    if found.out_of_fold is None:
        return np.zeros(num_classes, dtype=bool)
    held = ~np.isnan(found.out_of_fold[:, 0])
    return class_counts(found.labels[held], num_classes) > 0


def _action(row: object, held: bool, joint: ConfidentJoint | None) -> str:
    count, flagged = row.count, row.flagged  # type: ignore[attr-defined]
    if not count:
        return "no training samples"
    if joint is not None and not held:
        return f"too few samples to estimate anything: look at all {count}"
    if flagged > count / 2:
        return "most look wrong: mark some samples as trusted, and audit again"
    if not flagged:
        return "nothing to do"
    return f"look at its {flagged} suspects"


def conflict_table(data: OwnData) -> pd.DataFrame:
    """Copies of one content under different labels, in every split; see ``CONFLICT_COLUMNS``."""
    rows = data.rows
    several = rows.groupby(["unit", "content"])["label"].transform("nunique") > 1
    chosen = rows[several].sort_values("content", kind="stable")
    names = np.array(data.class_names, dtype=object)
    columns = (chosen["content"], chosen.index, chosen["name"], names[chosen["label"].to_numpy(np.int64)])
    return pd.DataFrame({name: np.asarray(c) for name, c in zip(CONFLICT_COLUMNS, columns, strict=True)})


def known_table(data: OwnData, found: Findings, suspects: pd.DataFrame) -> pd.DataFrame | None:
    """Precision and recall of every prefix of the ranking, see ``KNOWN_COLUMNS``.

    None where no clean label is known, or none of them says that a label is wrong.
    """
    ids = suspects["id"].to_numpy()
    clean, given = data.rows["clean_label"].to_numpy(np.int64)[ids], data.labels[ids]
    known = clean != UNKNOWN
    wrong = (clean != given)[known]
    if not wrong.any():
        return None
    hits = np.cumsum(wrong)
    frame = pd.DataFrame({"rank": suspects["rank"].to_numpy()[known], "wrong": wrong})
    frame = frame.assign(precision=hits / np.arange(1, len(wrong) + 1), recall=hits / hits[-1])
    return frame[list(KNOWN_COLUMNS)].astype(KNOWN_COLUMNS)


def known_notes(known: pd.DataFrame | None, listed: int) -> dict[str, float | int] | None:
    """How right the ranking and the list, its first ``listed`` ranks, are by clean labels.

    ``average_precision`` is the area under the curve of precision and recall, in steps.
    """
    if known is None:
        return None
    inside = known[known["rank"] <= listed]
    last = inside.iloc[-1] if len(inside) else None
    return {
        "rows": len(known),
        "wrong": int(known["wrong"].sum()),
        "average_precision": float(known["precision"][known["wrong"]].mean()),
        "precision": 0.0 if last is None else float(last["precision"]),
        "recall": 0.0 if last is None else float(last["recall"]),
    }


def curve_table(function: WeightingFunction | None) -> pd.DataFrame:
    """The learned weighting function; empty where none was learned."""
    if function is None:
        return pd.DataFrame({name: [] for name in CURVE_COLUMNS}).astype(CURVE_COLUMNS)
    curves = function.curves(_GRID)
    parts = [pd.DataFrame({"group": k, "loss": _GRID, "weight": curve}) for k, curve in enumerate(curves)]
    return pd.concat(parts, ignore_index=True).astype(CURVE_COLUMNS)


def verdict(found: Findings, suspects: pd.DataFrame, classes: pd.DataFrame, num_trusted: int) -> str:
    """How many labels look wrong and where most of them are; and where to begin. Two sentences."""
    listed, total = int(suspects["in_list"].sum()), len(suspects)
    if found.joint is None:
        first = f"{listed:,} of {total:,} training labels look wrong by their rank alone."
    else:
        noise = found.joint.noise
        share, low, high = (100 * float(value) for value in (noise.value, noise.low, noise.high))
        first = f"About {share:.1f}% of {total:,} training labels look wrong"
        first += f" (an estimate, with a 95% interval of {low:.1f} to {high:.1f}%"
        first += f"; {num_trusted:,} that a person vouches for count as right)" if num_trusted else ")"
        first += _worst(classes)
    if not listed:
        return f"{first} No label stands out as wrong, so there is nothing to review."
    pair = suspects[suspects["in_list"]].groupby(["given", "suggested"]).size().sort_values().index[-1]
    where = f"most often {pair[0]} that look like {pair[1]}"
    return f"{first} Begin with the {listed:,} suspects of the list, {where}."


def _worst(classes: pd.DataFrame) -> str:
    rates = classes["noise_in"].fillna(0)
    worst = int(rates.argmax())
    if rates.iloc[worst] <= 0:
        return "."
    return f", most of all among those called {classes['name'].iloc[worst]} ({100 * rates.iloc[worst]:.0f}%)."
