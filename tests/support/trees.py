"""Miniature trees of image files in the layouts that the large datasets have, made of the digits as JPEG."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIDE = 24
_DIGITS = load_digits()
_ROWS = [np.flatnonzero(_DIGITS.target == digit) for digit in range(10)]


def picture(label, number, side=SIDE):
    """Digit ``label`` modulo 10, tinted by the tens, so that every class looks like itself."""
    digit = _DIGITS.images[_ROWS[label % 10][number % len(_ROWS[label % 10])]] / 16
    tint = np.array([1.0, 1 - (label // 10) % 5 / 5, (label // 10) % 3 / 3])
    pixels = (255 * digit[..., None] * tint).round().astype(np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def save(file, label, number, side=SIDE):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(label, number, side).save(file, quality=95)


def synset(label):
    return f"n{1440764 + 10 * label:08d}"


def webvision(root, classes=50, train=3, flickr=1, val=1, ilsvrc12="folders", listed=None):
    """WebVision 1.0: info/, google/, flickr/, val_images_256/ and imagenet/val/ in one of its layouts.

    ``listed`` is how many synsets synsets.txt has; by default as many as there are classes.
    """
    lists = {"train_filelist_google": [], "train_filelist_flickr": [], "val_filelist": []}
    for label in range(classes):
        for part, count in (("google", train), ("flickr", flickr)):
            for number in range(count):
                path = f"{part}/q{label:04d}/{number}.jpg"
                save(root / path, label, number)
                lists[f"train_filelist_{part}"].append(f"{path} {label}")
        for number in range(val):
            path = f"val{label:03d}{number:03d}.jpg"
            save(root / "val_images_256" / path, label, 50 + number)
            lists["val_filelist"].append(f"{path} {label}")
    (root / "info").mkdir(parents=True)
    for name, lines in lists.items():
        (root / "info" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    words = "".join(f"{synset(label)} digit {label}\n" for label in range(listed or classes))
    (root / "info" / "synsets.txt").write_text(words)
    _ilsvrc12(root / "imagenet" / "val", classes, ilsvrc12)
    return root


def _ilsvrc12(folder, classes, layout):
    if layout is None:
        return
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(classes)]
    labels = [(7 * number) % classes for number in range(classes)]  # not in order of the classes
    for name, label in zip(names, labels, strict=True):
        save(folder / (f"{synset(label)}/{name}" if layout == "folders" else name), label, 80)
    if layout == "list":
        lines = [f"{name} {synset(label)}\n" for name, label in zip(names, labels, strict=True)]
        (folder / "val.txt").write_text("".join(lines))
    if layout == "numbers":
        lines = [f"{name} {label}\n" for name, label in zip(names, labels, strict=True)]
        (folder / "val.txt").write_text("".join(lines))
    if layout == "devkit":
        from scipy.io import savemat

        order = np.random.default_rng(0).permutation(classes)  # the kit's own numbers, from 1
        kind = np.dtype([("ILSVRC2012_ID", object), ("WNID", object)])
        synsets = np.array([(int(order[label]) + 1, synset(label)) for label in range(classes)], dtype=kind)
        savemat(folder.parent / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
        truth = "".join(f"{order[label] + 1}\n" for label in labels)
        (folder.parent / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def animal10n(root, train=4, test=2):
    for folder, first, count in (("training", 0, train), ("testing", 50, test)):
        for label in range(10):
            for number in range(count):
                save(root / "raw_image" / folder / f"{label}_img_{number:05d}.jpg", label, first + number)
    return root


def class_folders(root, names, train=4, test=2, meta=0, test_folder="test"):
    """``names`` may be a list or a count of classes."""
    names = [f"class {number:03d}" for number in range(names)] if isinstance(names, int) else names
    for folder, first, count in (("train", 0, train), (test_folder, 50, test), ("meta", 70, meta)):
        for label, name in enumerate(names):
            for number in range(count):
                save(root / folder / name / f"{number}.jpg", label, first + number)
    return root


def clothing1m(root, layout="official"):
    """14 classes: 4 noisy training images each, 1 of clean training, 2 of validation and 1 of test.

    One in four training labels is that of the next class. Half of the clean images have a noisy label, too.
    The layouts: official, annotations, beside (no ``images/``), inside (lists in ``images/``), combined,
    folders.
    """
    images = list(_clothes())
    for number, (part, label, given, key) in enumerate(images, 1):
        place = {"beside": key.removeprefix("images/"), "folders": f"{part}/{given}/{number},{number}.jpg"}
        save(root / place.get(layout, key), label, number)
    folder = root / {"annotations": "annotations", "inside": "images", "combined": "annotations"}.get(
        layout, ""
    )
    folder.mkdir(exist_ok=True)
    if layout != "folders":
        for name, lines in (_combined if layout == "combined" else _official)(images).items():
            (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return root


def _clothes():
    """Part, class, label and key of each image."""
    number = 0
    for part, count in (("noisy_train", 4), ("clean_train", 1), ("clean_val", 2), ("clean_test", 1)):
        for label in range(14):
            for copy in range(count):
                number += 1
                given = (label + (copy == 0)) % 14 if part == "noisy_train" else label
                yield part, label, given, f"images/{number // 100}/{number % 100:02d}/{number},{number}.jpg"


def _combined(images):
    parts = dict.fromkeys(part for part, *_ in images)
    return {
        f"{name}.txt": [f"{key} {given}" for part, _, given, key in images if part == name] for name in parts
    }


def _official(images):
    parts = dict.fromkeys(part for part, *_ in images)
    noisy = [f"{key} {given}" for part, _, given, key in images if part == "noisy_train"]
    clean = [f"{key} {given}" for part, _, given, key in images if part != "noisy_train"]
    both = [f"{key} {(label + 1) % 14}" for part, label, _, key in images[::2] if part != "noisy_train"]
    lists = {f"{name}_key_list.txt": [key for part, *_, key in images if part == name] for name in parts}
    return lists | {"noisy_label_kv.txt": noisy + both, "clean_label_kv.txt": clean}


def imagenet_lt(
    root, counts=(101, 100, 21, 20, 19, 5), val=2, test=3, flat=False, lists="", stem="ImageNet_LT_"
):
    """ILSVRC12's ``train/`` and ``val/`` of as many synsets as counts, and lists in the folder ``lists``."""
    lines = {"train": [], "val": [], "test": []}
    for label, count in enumerate(counts):
        name = synset(label)
        for number in range(count + val):
            path = f"train/{name}/{name}_{number}.JPEG"
            save(root / path, label, number, side=8)
            lines["train" if number < count else "val"].append(f"{path} {label}")
        for number in range(test):
            file = f"ILSVRC2012_val_{100 * label + number:08d}.JPEG"
            save(root / "val" / ("" if flat else name) / file, label, 90 + number, side=8)
            lines["test"].append(f"val/{name}/{file} {label}")
    (root / lists).mkdir(parents=True, exist_ok=True)
    for part, texts in lines.items():
        (root / lists / f"{stem}{part}.txt").write_text("".join(f"{text}\n" for text in texts))
    return root
