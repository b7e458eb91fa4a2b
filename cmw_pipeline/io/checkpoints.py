"""Tensors on disk as safetensors, and checkpoints: a directory each, two kept, every byte checked."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io.atomic import atomic_dir, atomic_file
from cmw_pipeline.io.manifests import file_entry

FORMAT = 1
KEEP = 2
_TENSORS, _META = "state.safetensors", "state.json"
log = logging.getLogger(__name__)


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a flat dict of tensors as safetensors, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_file(path, lambda draft: draft.write_bytes(save(plain)))


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name from a file of PyTorch's that others wrote; no code in it is run.

    Raises:
        IntegrityError: it holds anything but a flat dict of tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can raise anything
        raise IntegrityError(f"{path}: not a plain state dict: {why_unread(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise IntegrityError(f"{path}: not a plain state dict: it holds other things than tensors")
    return state


def why_unread(error: Exception) -> str:
    """Why ``torch.load`` with weights only refused a file, without its advice to run the code in it."""
    if "weights_only" in str(error):
        return "damaged, or no file of tensors alone"
    return str(error).partition("\n")[0] or type(error).__name__


def save_checkpoint(folder: Path, step: int, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
    """Write ``step-NNNNNNNN/`` whole or not at all, and drop all but the newest two.

    ``meta`` is JSON and holds what is not a tensor; the tensors' hash goes beside it.

    Raises:
        SystemFault: the disk is full, and the like; earlier checkpoints stay.
    """
    with atomic_dir(folder / f"step-{step:08d}") as draft:
        save_tensors(draft / _TENSORS, tensors)
        body = {"format": FORMAT, "tensors": file_entry(draft / _TENSORS), "meta": meta}
        (draft / _META).write_text(json.dumps(body | {"sha256": _digest(body)}))
    for old in _newest_first(folder)[KEEP:]:
        shutil.rmtree(old)


def load_latest(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The newest checkpoint that is whole, or None where there is none.

    A damaged one is named in the log and passed over. Tensors are on the CPU.

    Raises:
        IntegrityError: there are checkpoints, but not one of them is whole.
    """
    candidates = _newest_first(folder)
    for path in candidates:
        try:
            return _load(path)
        except IntegrityError as error:
            log.warning("checkpoint passed over: %s", error.message)
    if candidates:
        raise IntegrityError(f"{folder}: no checkpoint is whole", f"remove {folder} to start afresh")
    return None


def _load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        body = json.loads(plain(path / _META).read_text())
        if body["format"] != FORMAT:
            raise IntegrityError(f"{path}: checkpoint format {body['format']}; this version reads {FORMAT}")
        if body.pop("sha256") != _digest(body):
            raise IntegrityError(f"{path / _META}: its text is not what was written")
        if file_entry(path / _TENSORS) != body["tensors"]:
            raise IntegrityError(f"{path / _TENSORS}: its bytes are not those that were written")
        return load_file(path / _TENSORS), body["meta"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise IntegrityError(f"{path}: not a checkpoint: {error}") from None


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-[0-9]*"), reverse=True)
