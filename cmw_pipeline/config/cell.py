"""One run of the grid by its name."""

import dataclasses
import re
from dataclasses import dataclass

from cmw_pipeline.errors import ConfigError


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    dataset: str
    bias: str
    method: str
    recipe: str
    seed: int

    @property
    def name(self) -> str:
        """The inverse of :meth:`parse`."""
        return f"{self.dataset}/{self.bias}/{self.method}/{self.recipe}/seed{self.seed}"

    def under(self, recipe: str) -> "Cell":
        """The same cell under another recipe."""
        return dataclasses.replace(self, recipe=recipe)

    @classmethod
    def parse(cls, name: str) -> "Cell":
        """Read ``dataset/bias/method/recipe/seedN``.

        Raises:
            ConfigError: not of that form.
        """
        match = re.fullmatch(r"([^/]+)/([^/]+)/([^/]+)/([^/]+)/seed(0|[1-9][0-9]{0,9})", name)
        if match is None or int(match[5]) >= 2**31:
            raise ConfigError(f"{name!r} is not a cell; write dataset/bias/method/recipe/seedN")
        return cls(match[1], match[2], match[3], match[4], int(match[5]))
