"""What a project starts from, its parameters and its workflow, laid out in a user's folder."""

import shutil
import tempfile
from pathlib import Path

from cmw_pipeline.errors import ConfigError
from cmw_pipeline.io.atomic import system_faults

IGNORED = (".dvcignore", ".gitignore")
"""What Git and DVC leave alone; lists that a folder has already stay its own."""
PARTS = (*IGNORED, "dvc.yaml", "params", "workflow", "params.yaml")
"""The last one, which every command reads, comes when all others are there."""


def origin() -> Path:
    """The folder that they are copied from: inside an installed package, or a checkout's root."""
    package = Path(__file__).parents[1]
    packed = package / "project"
    return packed if packed.is_dir() else package.parent


def lay_out(folder: Path) -> None:
    """Copy them into a folder, which is made where it is not there.

    Raises:
        ConfigError: it has a project, or files of the same names.
        SystemFault: it cannot be written to.
    """
    there = [name for name in PARTS if name not in IGNORED and (folder / name).exists()]
    if there:
        raise ConfigError(f"{folder / there[0]} is there already", "name a new folder: `cmw init FOLDER`")
    with system_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".cmw-init.", dir=folder))
        try:
            _copy(origin(), draft)
            for name in PARTS:
                if not (folder / name).exists():
                    (draft / name).rename(folder / name)
        finally:
            shutil.rmtree(draft)


def _copy(source: Path, target: Path) -> None:
    for name in PARTS:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / name, target / name)
