"""Facts about the datasets this package reads: classes, shapes, class maps, and where they come from."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.label_files import LabelFile, factors, label_files
from cmw_pipeline.config.origins import Bundled, ImageFiles, Origin, OwnVectors, archives

T = TypeVar("T")
PICTURES = 2
"""Raise it when image files become other pictures."""
ClassMap = Mapping[int, int]
"""Source class -> the class its samples are mistaken for; classes not in the map keep their label."""


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset before a byte is read.

    ``class_names`` is empty where the folders name them. Of image files the labels of the training set are
    as found, right or wrong, and ``image_shape`` is only nominal. ``mean`` and ``std`` are per channel in
    units of pixel/255. ``class_maps`` holds the named maps of asymmetric noise; the first is the default,
    and ``plc`` is the one of PLC's hybrid noise (for digits: its map for MNIST). ``label_files`` and
    ``factors`` are those of published noise, by the name of the bias step.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    origin: Origin
    class_maps: Mapping[str, ClassMap] = field(default_factory=dict)
    label_files: Mapping[str, LabelFile] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)

    @property
    def files(self) -> ImageFiles | None:
        """Which image files the dataset consists of, and where; None where its images are an array."""
        return self.origin if isinstance(self.origin, ImageFiles) else None

    @property
    def read_as(self) -> dict[str, int]:
        """How image files become pictures, which is part of what is asked of such a dataset alone."""
        return {"pictures": PICTURES} if self.files else {}

    def class_map(self, variant: str | None) -> ClassMap:
        """The named class map, or the default one.

        Raises:
            KeyError: there is no such map; the message lists those there are.
        """
        default = next(iter(self.class_maps), "(default)")
        return self._one_of(self.class_maps, "class map", variant or default)

    def label_file(self, step: BiasStep) -> LabelFile | None:
        """The published file that a step takes its labels from; None for a user's own.

        Raises:
            KeyError: there is no such file; the message lists those there are.
        """
        if step.way.looks_up != "label file":
            return None
        return self._one_of(self.label_files, "label file", step.name)

    def factor(self, step: BiasStep) -> float:
        """The published factor of a feature-dependent step.

        Raises:
            KeyError: none was published for this level; the message lists those there are.
        """
        return self._one_of(self.factors, "factor", step.name)

    def check(self, steps: Iterable[BiasStep]) -> None:
        """See that there is what the steps of a bias look up.

        Raises:
            KeyError: there is not; the message lists what there is.
        """
        for step in steps:
            if step.way.looks_up == "class map":
                self.class_map(step.variant)
            elif step.way.looks_up == "label file":
                self.label_file(step)
            elif step.way.looks_up == "factor":
                self.factor(step)

    def _one_of(self, known: Mapping[str, T], what: str, name: str) -> T:
        if name not in known:
            raise KeyError(f"{self.name} has no {what} {name}; it has {', '.join(known) or 'none'}")
        return known[name]


_CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
_ANIMALS = "cat lynx wolf coyote cheetah jaguar chimpanzee orangutan hamster guinea_pig"
_CLOTHES = (
    "T-shirt Shirt Knitwear Chiffon Sweater Hoodie Windbreaker Jacket Down_Coat Suit Shawl Dress Vest "
    "Underwear"
)
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

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WEBVISION_HOME = "https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html"
_WEBFG_HOME = "https://github.com/NUST-Machine-Intelligence-Laboratory/weblyFG-dataset"


def _digits(name: str, class_names: str, class_maps: Mapping[str, ClassMap]) -> DatasetFacts:
    return DatasetFacts(
        name=name,
        num_classes=len(class_names),
        image_shape=(8, 8, 1),
        mean=(0.287,),
        std=(0.354,),
        class_names=tuple(class_names),
        origin=Bundled("scikit-learn", "digits:read_digits"),
        class_maps=class_maps,
    )


def _large(
    name: str, num_classes: int, files: ImageFiles, side: int = 256, class_names: tuple[str, ...] = ()
) -> DatasetFacts:
    shape = (side, side, 3)
    return DatasetFacts(name, num_classes, shape, _IMAGENET_MEAN, _IMAGENET_STD, class_names, files)


def _webvision(name: str, num_classes: int, folders: str) -> DatasetFacts:
    expected = f"info/, {folders}, val_images_256/ and, for ILSVRC12, imagenet/val/"
    files = ImageFiles("webvision", _WEBVISION_HOME, expected, ("webvision", "ilsvrc12"))
    return _large(name, num_classes, files)


def _class_folders(name: str, num_classes: int, home: str, side: int = 256) -> DatasetFacts:
    expected = "train/CLASS/IMAGE and test/CLASS/IMAGE (or val/)"
    return _large(name, num_classes, ImageFiles("class-folders", home, expected), side)


class _Facts(dict[str, DatasetFacts]):
    """The known datasets; ``folder-12`` is a user's own of 12 classes, ``vectors-3-64`` own vectors."""

    def __missing__(self, source: str) -> DatasetFacts:
        if vectors := OWN_VECTORS.fullmatch(source):
            classes, length = (int(number) for number in vectors.groups())
            return DatasetFacts(source, classes, (1, 1, length), (), (), (), OwnVectors())
        match = OWN_FOLDER.fullmatch(source)
        if match is None:
            raise KeyError(source)
        return _class_folders(source, int(match[1]), "your own folder of images")


OWN_VECTORS = re.compile(r"vectors-([1-9][0-9]{0,4})-([1-9][0-9]{0,6})")
OWN_FOLDER = re.compile(r"folder-([1-9][0-9]{0,3})")

_KNOWN = (
    _digits(
        "digits",
        "0123456789",
        {"one-way": {2: 7, 3: 8, 5: 6, 9: 4}, "plc": {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}},
    ),
    _digits("digits-0-4", "01234", {"one-way": {2: 3, 4: 1}}),
    _digits("digits-5-9", "56789", {"one-way": {0: 1, 4: 2}}),
    DatasetFacts(
        name="cifar10",
        num_classes=10,
        image_shape=(32, 32, 3),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        class_names=tuple(_CIFAR10_NAMES.split()),
        origin=archives("cifar10", "cifar:read_cifar"),
        class_maps={
            "one-way": _CIFAR10_MAP,
            "two-way": {**_CIFAR10_MAP, 5: 3},
            "plc": {**_CIFAR10_MAP, 5: 3},
        },
        label_files=label_files("cifar10"),
        factors=factors("cifar10"),
    ),
    DatasetFacts(
        name="cifar100",
        num_classes=100,
        image_shape=(32, 32, 3),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        class_names=tuple(_CIFAR100_NAMES.split()),
        origin=archives("cifar100", "cifar:read_cifar"),
        class_maps={
            "superclass": _ring(_superclasses()),
            "blocks": _ring(_BLOCKS),
            "plc": _ring(_BLOCKS),
        },
        label_files=label_files("cifar100"),
        factors=factors("cifar100"),
    ),
    _large(
        "animal10n",
        10,
        ImageFiles(
            "animal10n",
            "https://dm.kaist.ac.kr/datasets/animal-10n",
            "training/ and testing/ with LABEL_img_NUMBER.jpg (raw_image.zip, unpacked)",
        ),
        side=64,
        class_names=tuple(_ANIMALS.split()),
    ),
    _class_folders("web-aircraft", 100, _WEBFG_HOME, 448),
    _class_folders("web-bird", 200, _WEBFG_HOME, 448),
    _class_folders("web-car", 196, _WEBFG_HOME, 448),
    _large(
        "clothing1m",
        14,
        ImageFiles(
            "clothing1m",
            "its authors, on request: https://github.com/Cysu/noisy_label",
            "noisy_train_key_list.txt and the other lists, here or in annotations/, and images/",
        ),
        class_names=tuple(_CLOTHES.split()),
    ),
    _large(
        "imagenet-lt",
        1000,
        ImageFiles(
            "imagenet-lt",
            "https://image-net.org, and the lists from https://github.com/facebookresearch/classifier-balancing",
            "train/ and val/ of ILSVRC12, and ImageNet_LT_train.txt, _val.txt and _test.txt",
            by_shots=True,
        ),
    ),
    _webvision("mini-webvision", 50, "google/"),
    _webvision("webvision", 1000, "google/, flickr/"),
)
FACTS: dict[str, DatasetFacts] = _Facts({facts.name: facts for facts in _KNOWN})
"""By the dataset's name."""
