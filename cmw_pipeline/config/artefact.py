"""An artefact: what is asked of a stage, and of what it is made; where it lies follows from that."""

import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from cmw_pipeline.config.contracts import Request
from cmw_pipeline.config.pages import RECEIPT

RESULTS = "results"
MANIFEST = "manifest.json"
STAGE_VERSIONS = {
    "download": 1,
    "inject": 1,
    "metaset": 1,
    "train": 3,
    "export": 1,
    "transfer": 3,
    "table": 2,
    "audit": 2,
}
"""Raise a number when the stage's output changes for the same parameters, or a default that it reads."""
PAGES = ("table", "audit")
"""Stages that write files of fixed names, ``results/NAME``, with a receipt in place of a manifest."""
Asked = TypeVar("Asked", bound=Request)


@dataclass(frozen=True)
class Artefact(Generic[Asked]):
    """One planned artefact: what is asked, and of which inputs it is made."""

    stage: str
    name: str
    request: Asked = field(hash=False)
    inputs: "dict[str, Artefact[Any]]" = field(default_factory=dict, hash=False)

    @functools.cached_property
    def digest(self) -> str:
        """Ten hex digits over everything that determines the content."""
        request = {
            "stage": self.stage,
            "version": STAGE_VERSIONS[self.stage],
            "params": self.request.chosen,
            "inputs": {role: artefact.digest for role, artefact in self.inputs.items()},
        }
        text = json.dumps(request, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def path(self) -> PurePosixPath:
        """Its directory, relative to the project."""
        return PurePosixPath(RESULTS, self.stage, f"{self.name}-{self.digest}")

    @property
    def manifest(self) -> str:
        """The file whose presence means that the artefact is there, whole; of a page its receipt."""
        if self.stage in PAGES:
            return str(PurePosixPath(RESULTS, self.name + RECEIPT))
        return str(self.path / MANIFEST)
