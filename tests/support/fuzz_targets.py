"""The readers of files that others made: for each some genuine files, and how to read one.

A reader may accept or refuse; whatever the bytes, it raises nothing but the errors that the command line
prints as one line, and what it accepts has the promised form. Random bytes come from test_fuzz.py
(hypothesis) and from fuzz.py (coverage-guided).
"""

import gzip
import io
import json
import os
import pickle
import tarfile

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from cmw_pipeline.config import load
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.data import cifar
from cmw_pipeline.data.cifar_pickle import read_batch
from cmw_pipeline.data.label_files import read_label_file
from cmw_pipeline.errors import ConfigError, IntegrityError, SystemFault
from cmw_pipeline.io import checkpoints, manifests
from cmw_pipeline.io.archives import read_members
from cmw_pipeline.io.manifests import file_entry, open_stored, sealed
from cmw_pipeline.io.tables import read_table, write_table
from cmw_pipeline.meta.weight_net import WeightNet
from cmw_pipeline.meta.weighting import load_weighting, save_weighting

FORESEEN = (ConfigError, IntegrityError, SystemFault)
COLUMNS = {"index": "int32", "label": "int16"}


def trap(canary):
    """A pickle that makes a file when it is run."""

    class Call:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    return pickle.dumps({b"data": Call(), b"labels": [1]}, protocol=2)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def torch_file(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def tar(**members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(f"folder/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def state(folder):
    """The files of a weighting function."""
    torch.manual_seed(0)
    save_weighting(folder, WeightNet(4, 3), np.array([0, 1, 2, 1]), {"run": "x"})
    return (folder / "weighting.safetensors").read_bytes(), (folder / "card.json").read_bytes()


class Targets:
    """All readers; ``folder`` is where their files are put."""

    def __init__(self, folder):
        self.folder = folder
        self.canary = folder / "canary"
        (folder / "function").mkdir()
        self.tensors, self.card = state(folder / "function")

    def seeds(self, name):
        """Genuine files of a reader, and some hostile ones."""
        pixels = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
        batch = {b"data": pixels, b"labels": [3, 4]}
        labels = np.array([1, 2, 9, 0])
        tag = f"a: !!python/object/apply:os.mkdir [{self.canary}]\n".encode()
        weights = {"feature.layer.0.weight": torch.ones(4, 1), "feature.layer.0.bias": torch.ones(4)}
        return {
            "cifar-pickle": [pickle.dumps(batch, protocol=p) for p in (0, 2, 4)] + [trap(self.canary)],
            "cifar-binary": [bytes([3, *pixels[0], 4, *pixels[1]])],
            "archive": [tar(a=b"1234", b=b"12345"), gzip.compress(b"no tar"), tar(a=b"1234")],
            "npy": [npy(labels), npy(labels.astype(np.int8)), npy(np.array(["a"]))],
            "pt": [torch_file({"labels": labels}), torch_file(weights), trap(self.canary)],
            "json": [b"[1, 2, 3]", b'{"label": [1]}'],
            "csv": [b"label,clean_label\n1,2\n3,4\n"],
            "weighting": [self.tensors, save({"trunk.bias": torch.ones(3)})],
            "card": [self.card],
            "pth": [torch_file(weights), trap(self.canary)],
            "checkpoint": [save({"a": torch.ones(3)})],
            "manifest": [json.dumps(sealed({"format": manifests.FORMAT, "files": {}})).encode()],
            "parquet": [self._rows()],
            "params": [
                b"build: []\nseeds: [0]\n",
                tag,
                b"a: &a [*a]",
            ],
        }[name]

    def _rows(self):
        file = self.folder / "seed.parquet"
        write_table(file, pd.DataFrame({"index": [0, 1], "label": [3, 4]}), COLUMNS)
        return file.read_bytes()

    def read(self, name, data):
        """Let a reader have these bytes; raises where it does anything but accept or refuse."""
        try:
            getattr(self, "_" + name.replace("-", "_"))(data)
        except FORESEEN as error:
            assert str(error), "refused without a word"
        assert not self.canary.exists(), "code in the file was run"

    def _file(self, name, data):
        file = self.folder / name
        file.write_bytes(data)
        return file

    def _cifar_pickle(self, data):
        pixels, labels = read_batch(data, "batch", "labels")
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (3072,)
        assert isinstance(labels, list)

    def _cifar_binary(self, data):
        pixels, labels = cifar._binary(data, "batch.bin", FACTS["cifar10"], 2)
        assert pixels.shape == (2, 3072)
        assert labels.max() < 10

    def _archive(self, data):
        wanted = {"a": (4, None), "b": (None, None)}
        found = read_members(self._file("a.tar.gz", data), "folder", wanted)
        assert set(found) == {"a", "b"}
        assert len(found["a"]) == 4

    def _labels(self, name, data):
        labels, clean = read_label_file(self._file(name, data), 10, "labels")
        for found in (labels, clean):
            assert found is None or (found.dtype == np.int16 and found.ndim == 1)
            assert found is None or not len(found) or 0 <= found.min() <= found.max() < 10

    def _npy(self, data):
        self._labels("l.npy", data)

    def _pt(self, data):
        self._labels("l.pt", data)

    def _json(self, data):
        self._labels("l.json", data)

    def _csv(self, data):
        self._labels("l.csv", data)

    def _weigh(self, function):
        found = function.for_classes([10, 5, 1])(torch.tensor([0.5, 1.0]), torch.tensor([0, 2]))
        assert found.shape == (2,)

    def _weighting(self, data):
        self._file("function/weighting.safetensors", data)
        self._file("function/card.json", self.card)
        self._weigh(load_weighting(self.folder / "function"))

    def _card(self, data):
        self._file("function/weighting.safetensors", self.tensors)
        self._file("function/card.json", data)
        self._weigh(load_weighting(self.folder / "function"))

    def _pth(self, data):
        self._weigh(load_weighting(self._file("f.pth", data)))

    def _checkpoint(self, data):
        """Behind its hashes: as if somebody had made them fit."""
        step = self.folder / "checkpoints" / "step-00000001"
        step.mkdir(parents=True, exist_ok=True)
        file = self._file("checkpoints/step-00000001/state.safetensors", data)
        body = {"format": checkpoints.FORMAT, "tensors": file_entry(file), "meta": {}}
        text = json.dumps(body | {"sha256": checkpoints._digest(body)})
        self._file("checkpoints/step-00000001/state.json", text.encode())
        tensors, _ = checkpoints.load_latest(self.folder / "checkpoints")
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())

    def _manifest(self, data):
        (self.folder / "artefact").mkdir(exist_ok=True)
        self._file("artefact/manifest.json", data)
        open_stored(self.folder / "artefact")

    def _parquet(self, data):
        frame = read_table(self._file("t.parquet", data), COLUMNS)
        assert list(frame.columns) == list(COLUMNS)

    def _params(self, data):
        load(self._file("params.yaml", data))


NAMES = (
    "cifar-pickle", "cifar-binary", "archive", "npy", "pt", "json", "csv", "weighting", "card", "pth",
    "checkpoint", "manifest", "parquet", "params",
)  # fmt: skip
