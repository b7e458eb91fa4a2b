"""Opens the images of a raw artefact, in memory or as files, for parts of its rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.origins import OwnVectors
from cmw_pipeline.config.schema import Recipe
from cmw_pipeline.data.loader import ImageStore, Store
from cmw_pipeline.data.raw import read_files, read_images, read_vectors
from cmw_pipeline.data.stream import FileStore
from cmw_pipeline.data.vectors import VectorStore
from cmw_pipeline.errors import ConfigError, SystemFault

Index = npt.NDArray[np.int64]
"""Rows of the raw artefact."""


@dataclass(frozen=True)
class OpenImages:
    """The images of a dataset, as a recipe shows them on a device."""

    path: Path
    facts: DatasetFacts
    recipe: Recipe
    device: torch.device
    workers: int
    files: pa.Table | None
    root: Path | None

    @classmethod
    def open(
        cls,
        path: Path,
        notes: dict[str, Any],
        facts: DatasetFacts,
        recipe: Recipe,
        device: torch.device,
        workers: int,
    ) -> "OpenImages":
        """Open a raw artefact.

        Raises:
            ConfigError: the recipe does not say how files become pictures, or says it of what are none.
            IntegrityError: the artefact is damaged.
            SystemFault: the folder of the image files is not there any more.
        """
        if isinstance(facts.origin, OwnVectors) != (recipe.network.name in ("linear", "mlp")):
            what = "vectors" if isinstance(facts.origin, OwnVectors) else "pictures"
            hint = "vectors take the networks linear and mlp, pictures the others"
            raise ConfigError(f"{path}: {recipe.network.name} is not for {what}", hint)
        files = read_files(path)
        if (files is None) != (recipe.picture is None):
            what = "holds no image files" if files is None else "holds image files of any size"
            hint = "leave picture out of its recipe" if files is None else "give its recipe a picture"
            raise ConfigError(f"{path}: the dataset {what}", hint)
        root = None if files is None else Path(notes["root"])
        if root is not None and not root.is_dir():
            hint = f"put it back, or remove {path} and use `cmw download --from` with its new place"
            raise SystemFault(f"{root}: the images were here, and the folder is gone", hint)
        return cls(path, facts, recipe, device, workers, files, root)

    def store(self, index: Index) -> Store:
        """The images of these rows, in this order."""
        if (found := read_vectors(self.path)) is not None:
            return VectorStore.put(found[0][index], found[1], self.device)
        mean, std = self.facts.mean, self.facts.std
        if self.files is None or self.root is None or self.recipe.picture is None:
            images = read_images(self.path)[index]
            return ImageStore.put(images, mean, std, self.recipe.augment, self.device)
        files = self.files.take(index)
        return FileStore(self.root, files, self.recipe.picture, mean, std, self.device, self.workers)

    def test_sets(self, index: Index) -> dict[str, torch.Tensor]:
        """Where each named test set lies among these rows; nothing where the dataset names none."""
        if self.files is None or self.facts.files is None:
            return {}
        named = self.files["test_set"].take(index).to_numpy()
        parts = {name: np.flatnonzero(named == name) for name in self.facts.files.test_sets}
        return {name: torch.from_numpy(rows).to(self.device) for name, rows in parts.items() if len(rows)}
