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
