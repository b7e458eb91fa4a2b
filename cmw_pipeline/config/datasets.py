"""Facts about the datasets this package reads: classes, shapes, class maps, archives and their hashes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ClassMap = Mapping[int, int]
"""Source class -> the class its samples are mistaken for; classes not in the map keep their label."""


@dataclass(frozen=True)
class Archive:
    """One published archive of a dataset.

    ``members`` are the wanted files under ``folder`` with their exact sizes in bytes (None where the
    size is not fixed) and published hashes (``md5:...`` or ``sha256:...``).
    """

    urls: tuple[str, ...]
    sha256: str
    folder: str
    members: Mapping[str, tuple[int | None, str | None]]


@dataclass(frozen=True)
class ImageFiles:
    """A dataset of image files that does not fit in memory: never fetched, read where the user has it.

    ``home`` is where users get it, ``expected`` what the folder of ``--from`` holds. The first of the named
    test sets is the one that every table shows; with names, top-5 accuracy is recorded too.
    """

    layout: Literal["webvision", "animal10n", "class-folders"]
    home: str
    expected: str
    test_sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset before a byte is read.

    ``class_names`` is empty where the folders name them. ``files`` marks a dataset of image files; the labels
    of its training set are as found, right or wrong, and ``image_shape`` is only nominal. ``mean`` and
    ``std`` are per channel in units of pixel/255. ``class_maps`` holds the named maps of asymmetric noise;
    the first is the default, and ``plc`` is the one of PLC's hybrid noise (for digits: its map for MNIST).
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    class_maps: Mapping[str, ClassMap] = field(default_factory=dict)
    archives: Mapping[str, Archive] = field(default_factory=dict)
    files: ImageFiles | None = None


_KRIZ = "https://www.cs.toronto.edu/~kriz/"
_CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
_ANIMALS = "cat lynx wolf coyote cheetah jaguar chimpanzee orangutan hamster guinea_pig"
_CIFAR10_MAP = {9: 1, 2: 0, 4: 7, 3: 5}
_CIFAR100_COARSE = (
    "4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 "
    "5 19 8 8 15 13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 "
    "15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13"
)
_CIFAR100_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly "
    "camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup "
    "dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower "
    "leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid "
    "otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
    "road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
    "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle "
    "wardrobe whale willow_tree wolf woman worm"
)


def _ring(groups: list[list[int]]) -> dict[int, int]:
    """Each class goes to the next one of its group, the last to the first."""
    return {a: b for group in groups for a, b in zip(group, group[1:] + group[:1], strict=True)}


def _superclasses() -> list[list[int]]:
    coarse = [int(number) for number in _CIFAR100_COARSE.split()]
    return [[fine for fine, group in enumerate(coarse) if group == wanted] for wanted in range(20)]


_BLOCKS = [list(range(start, start + 5)) for start in range(0, 100, 5)]
_BATCH_BYTES, _BATCH100_BYTES = 3_073 * 10_000, 3_074 * 10_000

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WEBVISION_HOME = "https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html"
_WEBFG_HOME = "https://github.com/NUST-Machine-Intelligence-Laboratory/weblyFG-dataset"


def _digits(class_names: str, class_maps: Mapping[str, ClassMap]) -> DatasetFacts:
    return DatasetFacts(len(class_names), (8, 8, 1), (0.287,), (0.354,), tuple(class_names), class_maps)


def _large(
    num_classes: int, files: ImageFiles, side: int = 256, class_names: tuple[str, ...] = ()
) -> DatasetFacts:
    return DatasetFacts(num_classes, (side, side, 3), _IMAGENET_MEAN, _IMAGENET_STD, class_names, files=files)


def _webvision(num_classes: int, folders: str) -> DatasetFacts:
    expected = f"info/, {folders}, val_images_256/ and, for ILSVRC12, imagenet/val/"
    files = ImageFiles("webvision", _WEBVISION_HOME, expected, ("webvision", "ilsvrc12"))
    return _large(num_classes, files)


def _class_folders(num_classes: int, home: str, side: int = 256) -> DatasetFacts:
    expected = "train/CLASS/IMAGE and test/CLASS/IMAGE (or val/)"
    return _large(num_classes, ImageFiles("class-folders", home, expected), side)


class _Facts(dict[str, DatasetFacts]):
    """The known datasets; ``folder-12`` is a user's own folder of 12 classes."""

    def __missing__(self, source: str) -> DatasetFacts:
        match = OWN_FOLDER.fullmatch(source)
        if match is None:
            raise KeyError(source)
        return _class_folders(int(match[1]), "your own folder of images")


OWN_FOLDER = re.compile(r"folder-([1-9][0-9]{0,3})")

FACTS: dict[str, DatasetFacts] = _Facts()
FACTS |= {
    "digits": _digits(
        "0123456789", {"one-way": {2: 7, 3: 8, 5: 6, 9: 4}, "plc": {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}}
    ),
    "digits-0-4": _digits("01234", {"one-way": {2: 3, 4: 1}}),
    "digits-5-9": _digits("56789", {"one-way": {0: 1, 4: 2}}),
    "cifar10": DatasetFacts(
        num_classes=10,
        image_shape=(32, 32, 3),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        class_names=tuple(_CIFAR10_NAMES.split()),
        class_maps={
            "one-way": _CIFAR10_MAP,
            "two-way": {**_CIFAR10_MAP, 5: 3},
            "plc": {**_CIFAR10_MAP, 5: 3},
        },
        archives={
            "binary": Archive(
                urls=(
                    _KRIZ + "cifar-10-binary.tar.gz",
                    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/"
                    "cifar-10-binary.tar.gz",
                ),
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                folder="cifar-10-batches-bin",
                members={
                    "data_batch_1.bin": (
                        _BATCH_BYTES,
                        "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                    ),
                    "data_batch_2.bin": (
                        _BATCH_BYTES,
                        "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                    ),
                    "data_batch_3.bin": (
                        _BATCH_BYTES,
                        "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                    ),
                    "data_batch_4.bin": (
                        _BATCH_BYTES,
                        "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                    ),
                    "data_batch_5.bin": (
                        _BATCH_BYTES,
                        "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                    ),
                    "test_batch.bin": (
                        _BATCH_BYTES,
                        "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
                    ),
                },
            ),
            "python": Archive(
                urls=(
                    _KRIZ + "cifar-10-python.tar.gz",
                    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-10-python.tar.gz",
                ),
                sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                folder="cifar-10-batches-py",
                members={
                    "data_batch_1": (None, "md5:c99cafc152244af753f735de768cd75f"),
                    "data_batch_2": (None, "md5:d4bba439e000b95fd0a9bffe97cbabec"),
                    "data_batch_3": (None, "md5:54ebc095f3ab1f0389bbae665268c751"),
                    "data_batch_4": (None, "md5:634d18415352ddfa80567beed471001a"),
                    "data_batch_5": (None, "md5:482c414d41f54cd18b22e5b47cb7c3cb"),
                    "test_batch": (None, "md5:40351d587109b95175f43aff81a1287e"),
                },
            ),
        },
    ),
    "cifar100": DatasetFacts(
        num_classes=100,
        image_shape=(32, 32, 3),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        class_names=tuple(_CIFAR100_NAMES.split()),
        class_maps={
            "superclass": _ring(_superclasses()),
            "blocks": _ring(_BLOCKS),
            "plc": _ring(_BLOCKS),
        },
        archives={
            "binary": Archive(
                urls=(_KRIZ + "cifar-100-binary.tar.gz",),
                sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                folder="cifar-100-binary",
                members={
                    "train.bin": (
                        5 * _BATCH100_BYTES,
                        "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
                    ),
                    "test.bin": (
                        _BATCH100_BYTES,
                        "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
                    ),
                },
            ),
            "python": Archive(
                urls=(
                    _KRIZ + "cifar-100-python.tar.gz",
                    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-100-python.tar.gz",
                ),
                sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                folder="cifar-100-python",
                members={
                    "train": (None, "md5:16019d7e3df5f24257cddd939b257f8d"),
                    "test": (None, "md5:f0ef6b0ae62326f3e7ffdfab6717acfc"),
                },
            ),
        },
    ),
    "animal10n": _large(
        10,
        ImageFiles(
            "animal10n",
            "https://dm.kaist.ac.kr/datasets/animal-10n",
            "training/ and testing/ with LABEL_img_NUMBER.jpg (raw_image.zip, unpacked)",
        ),
        side=64,
        class_names=tuple(_ANIMALS.split()),
    ),
    "web-aircraft": _class_folders(100, _WEBFG_HOME, 448),
    "web-bird": _class_folders(200, _WEBFG_HOME, 448),
    "web-car": _class_folders(196, _WEBFG_HOME, 448),
    "mini-webvision": _webvision(50, "google/"),
    "webvision": _webvision(1000, "google/, flickr/"),
}


def class_map(dataset: str, variant: str | None) -> ClassMap:
    """The named class map of a dataset, or its default.

    Raises:
        KeyError: the dataset has no such map; the message lists those it has.
    """
    maps = FACTS[dataset].class_maps
    name = variant or next(iter(maps), None)
    if name is None or name not in maps:
        raise KeyError(f"{dataset} has no class map {variant or '(default)'}; it has {list(maps)}")
    return maps[name]
