"""Facts about published label files: where they are, what they hold, how noisy they are."""

from collections.abc import Iterable
from dataclasses import dataclass

from cmw_pipeline.config.bias_names import GENERATED, BiasStep
from cmw_pipeline.config.datasets import class_map

OWN = "file"
"""The kind of a user's own label file; its name holds the beginning of the digest of its labels."""


@dataclass(frozen=True)
class LabelFile:
    """One published set of labels for the first ``rows`` training samples of a dataset, in file order.

    ``sha256`` is of the file at ``url``; ``labels_sha256`` is of the labels alone, as little-endian int16,
    so that a copy in another format can be recognised. ``entry`` is the labels' key where the file holds
    several sets. ``level`` is the share of labels that differ from the dataset's, rounded to 4 digits.
    """

    url: str
    sha256: str
    labels_sha256: str
    rows: int
    level: float
    entry: str | None = None


_GITHUB = "https://raw.githubusercontent.com/"
_PLC = _GITHUB + "pxiangwu/PLC/8c2bcfd25e538fdcdb637a820ac340e9ee084e59/cifar/noisy_labels/"
"""Zhang et al., ICLR 2021: feature-dependent noise; the files that CMW-Net's Tables 4 and 5 read."""
_CIFAR_N = _GITHUB + "UCSC-REAL/cifar-10-100n/49df7d8a69e355470c77c1c2f2424916325a394b/data/"
"""Wei et al., ICLR 2022: labels that people gave. CC BY-NC 4.0: fetched, never handed on."""

_PLC_FILES = {
    "cifar10-1-0.35": (
        0.3503,
        "f8216a408f6413c82b1aa6868e496a6ed4ad712d5876a110bd53bb779bd3c3d2",
        "f747b6661e717a1e11a9d559b414309c88ee70d2e65b49055298a40ff8d163ad",
    ),
    "cifar10-1-0.70": (
        0.7046,
        "ab274c1392fda8138d5b3e6f1e3786aac2b6cd52752cbfd289542a5ca85a6bdf",
        "c9d3305ed8c5ca703b0ced0021b016ccfcf569da012eb3ab916644cb66cb9566",
    ),
    "cifar10-2-0.35": (
        0.3537,
        "0b1c144637547296af0fda75f6747dd6a1670750fecf444c06a0654068904d78",
        "835bfd7256784b90cfcabd8d58835825efdd5439daa19a28b1cbf46d8fcc1ef5",
    ),
    "cifar10-2-0.70": (
        0.7003,
        "8b187c86378a2916dcb2387ef8864b8728a43320ac4f617d1b645f24c6cf4fad",
        "a1dbd42e6d556697fda0a944fb029090f96de6bf304b4e9af1c1288d77942d37",
    ),
    "cifar10-3-0.35": (
        0.3511,
        "322de9da3ed0d20c7c6081cd5de34db4a94879fb671057f78ee5fa469d8b5e17",
        "53d83e45d97236140fbe37a578ab5b12b195b0efe690b6aa69d70ebc40dd3955",
    ),
    "cifar10-3-0.70": (
        0.7027,
        "d96249e0df489de665de41f22e7812258d87511ac0498c61b408630f08cbfe60",
        "c3771ce9b46479c5362a779bc86c4810f65e91745b82cdeca54ddd3f55299704",
    ),
    "cifar100-1-0.35": (
        0.3526,
        "cef3ccade9429ed0721b15f066cc5a5ef6141d299f6a9f0b1a0808e748dec848",
        "9180a730be66b1bfeb857af3739c28b9888e3dfdecddfc60fe0864c1ce835b17",
    ),
    "cifar100-1-0.70": (
        0.6987,
        "22026d55c7b6ee34bde26c7f6fe66f4cb5a38561dff25cf4bf39931c554ed8b6",
        "0232db4e555e7b5bba4f674ffd49f8bbef82714f843f307c06d3c3372ad00011",
    ),
    "cifar100-2-0.35": (
        0.3468,
        "8d3cc60fbea6210eaaeaacab279b5b4a44fabc0dba4d383beac302877f8ebe7d",
        "b88c9b69b1984e921aeef1b9cdc84bcd0c52abb397feb46b1029f21a533a922f",
    ),
    "cifar100-2-0.70": (
        0.7004,
        "acaf6e760b8148b2f3444cd7b8595eeef457b7594e16aeb51d655c196a8e4d58",
        "809f5a06c0ab146f6b3c0fd62af832c39fb6408dff3d9d11b32198cc0f608d0b",
    ),
    "cifar100-3-0.35": (
        0.3546,
        "327b71dad500a348d38d9514f9de143764d674df5b4aceda40bbf23832c5956e",
        "b0e6d433f0505d33bd4975ae8fc51df6a2e149e90a0ba20345de628fe50af0db",
    ),
    "cifar100-3-0.70": (
        0.7007,
        "f24cb020e718661d6790cd25fde9d0e2ce5861a727032b1b6387de8c21cbe40f",
        "7d88ff3099769c8e882fe00ebd3b91c641bac14450f2aa521a9c74c2fc75db87",
    ),
}
"""File -> level, hash of the file, hash of its labels."""
_CIFAR_N_FILES = {
    "cifar10": ("CIFAR-10_human.pt", "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310"),
    "cifar100": ("CIFAR-100_human.pt", "bd2d80409754d420292d622e15e25248ba21e37d27429efac49c8da723f44394"),
}
_HUMAN = {
    ("cifar10", "human-aggregate"): (
        "aggre_label",
        0.0901,
        "777fa651d0de048a9a71b6fc393394d5267c429b184c5362088b6c7cc9c46c8a",
    ),
    ("cifar10", "human-random1"): (
        "random_label1",
        0.1723,
        "5cb3ed4002671201cc658918acf082a5b312039bce23292113a41a633a9adcf4",
    ),
    ("cifar10", "human-random2"): (
        "random_label2",
        0.1812,
        "234deea22dc55da333ab30db43cd32fd9e53ca5a3c51a388db65e1de0a9d3049",
    ),
    ("cifar10", "human-random3"): (
        "random_label3",
        0.1764,
        "a25d9eda123a85ee29ebdbd07f0fca8a9a17cbf1994b18875fe265f6946bde45",
    ),
    ("cifar10", "human-worst"): (
        "worse_label",
        0.4021,
        "6f044f6f67e794603892e6e2f0e4aa791d8d8f856d3750bb2f0e4ffe8e69aa71",
    ),
    ("cifar100", "human-noisy"): (
        "noisy_label",
        0.402,
        "f636488476e6fb2ca9f7d51580acde486f7752d75866d71f31b0a950c186b7dd",
    ),
}
"""Dataset and bias -> entry of the file, level, hash of the labels."""


def _plc_files() -> dict[tuple[str, str], LabelFile]:
    found = {}
    for stem, (level, sha256, labels_sha256) in _PLC_FILES.items():
        source, kind, rate = stem.split("-")
        name = f"plc:type{kind}-{float(rate)}"
        found[source, name] = LabelFile(f"{_PLC}{stem}.npy", sha256, labels_sha256, 45_000, level)
    return found


def _human_files() -> dict[tuple[str, str], LabelFile]:
    found = {}
    for (source, name), (entry, level, labels_sha256) in _HUMAN.items():
        file, sha256 = _CIFAR_N_FILES[source]
        found[source, name] = LabelFile(_CIFAR_N + file, sha256, labels_sha256, 50_000, level, entry)
    return found


LABEL_FILES: dict[tuple[str, str], LabelFile] = _plc_files() | _human_files()
"""Dataset and name of a bias step -> its published file."""

PUBLISHED_FACTORS: dict[tuple[str, str], float] = {
    ("cifar10", "type1-0.35"): 1.43,
    ("cifar10", "type1-0.7"): 3.40,
    ("cifar10", "type2-0.35"): 1.32,
    ("cifar10", "type2-0.7"): 3.10,
    ("cifar10", "type3-0.35"): 1.35,
    ("cifar10", "type3-0.7"): 3.20,
    ("cifar100", "type1-0.35"): 1.08,
    ("cifar100", "type1-0.7"): 1.80,
    ("cifar100", "type2-0.35"): 1.02,
    ("cifar100", "type2-0.7"): 2.58,
    ("cifar100", "type3-0.35"): 1.12,
    ("cifar100", "type3-0.7"): 1.20,
}
"""Dataset and step -> the factor F that gave this level with PLC's teacher (its cifar/readme.md)."""


def label_file(source: str, step: BiasStep) -> LabelFile | None:
    """The published file that a step takes its labels from; None for a user's own.

    Raises:
        KeyError: the dataset has no such file; the message lists those it has.
    """
    if step.kind == OWN:
        return None
    try:
        return LABEL_FILES[source, step.name]
    except KeyError:
        raise KeyError(_lacks(source, "label file", step.name, LABEL_FILES)) from None


def published_factor(source: str, step: BiasStep) -> float:
    """The factor that a step of the variant ``published`` uses.

    Raises:
        KeyError: none was published for this dataset and level; the message lists those there are.
    """
    name = step.name.removeprefix("published:")
    try:
        return PUBLISHED_FACTORS[source, name]
    except KeyError:
        raise KeyError(_lacks(source, "published factor for", name, PUBLISHED_FACTORS)) from None


def check_steps(steps: tuple[BiasStep, ...], source: str) -> None:
    """See that a dataset has the class maps, label files and factors that the steps of a bias name.

    Raises:
        KeyError: it lacks one; the message lists those it has.
    """
    for step in steps:
        if step.kind == "asym":
            class_map(source, step.variant)
        if step.reads == "labels":
            label_file(source, step)
        elif step.kind in GENERATED and step.variant == "published":
            published_factor(source, step)


def _lacks(source: str, what: str, name: str, known: Iterable[tuple[str, str]]) -> str:
    there = ", ".join(other for dataset, other in known if dataset == source)
    return f"{source} has no {what} {name}; it has {there or 'none'}"
