"""Findings of an audit, made up: of any size, with any names."""

import numpy as np
import pandas as pd

from cmw_pipeline.audit.result import CLASS_COLUMNS, CONFLICT_COLUMNS, CURVE_COLUMNS, Audit

HOSTILE = (
    "<img src=x onerror='window.hacked = 1'>",
    "</script><script>window.hacked = 2</script>",
    '"><svg onload="window.hacked = 3">',
    "{{ 7 * 7 }} {% raw %} ${window.hacked = 4} $& $1 $`",
    "two\nlines,\r\nand a \"quoted\" 'part'",
    "photo_\u202egpj.exe \u2066",
    "&lt;b&gt; &amp; \\u003c 'javascript:window.hacked=5'",
    "=HYPERLINK(1)",
    " kept apart by blanks ",
    "NA",
    "0012",
    "ein " + "Wort" * 60,
)


NOTES = {
    "rows": 200,
    "test": 36,
    "test_accuracy": 91.7,
    "classifier": "rows outside the list",
    "trusted": 0,
    "meta_set": "self-selected",
    "samples": "vectors",
    "backbone": None,
    "network": "linear",
    "method": "cmw-net-sl",
    "epochs": 15,
    "folds": 5,
    "seed": 0,
    "seconds": 1.5,
    "device": "cpu",
    "versions": {"torch": "2"},
    "name": "my pictures",
    "options": "",
    "out": "audit/my pictures",
    "certificate": None,
    "review_unseen": None,
}


def made_up(
    num_samples=200,
    names=("cat", "dog", "bird"),
    *,
    listed=40,
    sampled=10,
    side=32,
    pictures=True,
    folds=True,
    conflicts=2,
    paths="class/photo-{:05d}.png",
):
    """Row r of the list has the id 3 r; its given class is r modulo K and the next one is suggested."""
    rng = np.random.default_rng(0)
    num_classes, rank = len(names), np.arange(num_samples)
    names = np.array(names, dtype=object)
    given = rank % num_classes
    in_list = rank < listed
    drawn = np.isin(rank, rng.permutation(min(listed, num_samples))[:sampled])
    loss = np.round(rng.random(num_samples) * 5, 4) if folds else np.full(num_samples, np.nan)
    suspects = pd.DataFrame(
        {
            "id": 3 * rank,
            "path": [paths.format(3 * r) for r in rank],
            "given": names[given],
            "suggested": names[np.where(in_list, (given + 1) % num_classes, given)],
            "rank": rank + 1,
            "margin": 4.0 - rank * 8 / num_samples,
            "loss": loss,
            "weight": np.round(rng.random(num_samples), 4),
            "in_list": in_list,
            "sampled": drawn,
            "why": np.where(in_list, "another class fits better", "the given label fits best"),
            "content": [f"x{3 * r:012d}" for r in rank],
        }
    )
    return Audit(
        suspects,
        classes_of(suspects, names, folds),
        np.full((num_classes, num_classes), 1 / num_classes) if folds else None,
        curves_of(min(3, num_classes)),
        conflicts_of(suspects, conflicts, names),
        "Some 20% of the labels look wrong. Look at the list.",
        NOTES
        | {
            "train": num_samples,
            "folds": 5 if folds else 0,
            "options": "" if folds else "--fast",
            "noise": {"value": 0.2, "low": 0.1, "high": 0.3} if folds else None,
        },
        (lambda id_: np.random.default_rng(id_).integers(0, 256, (side, side, 3), np.uint8))
        if pictures
        else None,
    )


def classes_of(suspects, names, folds):
    counts = suspects["given"].value_counts()
    flagged = suspects[suspects["in_list"]]["given"].value_counts()
    rate = 0.2 if folds else np.nan
    columns = {
        "name": names,
        "count": [int(counts.get(name, 0)) for name in names],
        "group": [place % min(3, len(names)) for place in range(len(names))],
        "flagged": [int(flagged.get(name, 0)) for name in names],
        "noise_in": rate,
        "noise_in_low": rate / 2,
        "noise_in_high": rate * 2,
        "noise_out": rate,
        "noise_out_low": rate / 2,
        "noise_out_high": rate * 2,
        "action": [f"Review the suspects of {name}." for name in names],
    }
    return pd.DataFrame(columns)[list(CLASS_COLUMNS)]


def curves_of(groups):
    losses = np.linspace(0, 5, 20)
    parts = [
        pd.DataFrame({"group": group, "loss": losses, "weight": np.exp(-losses / (1 + group))})
        for group in range(groups)
    ]
    return pd.concat(parts)[list(CURVE_COLUMNS)]


def conflicts_of(suspects, number, names):
    rows = [
        {"content": f"c{k}", "id": 3 * (k + other), "path": suspects["path"][k + other], "given": name}
        for k in range(number)
        for other, name in enumerate((names[0], names[-1]))
    ]
    return pd.DataFrame(rows, columns=list(CONFLICT_COLUMNS))
