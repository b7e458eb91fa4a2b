"""Names shared by every room: array aliases and the column schemas of the tables on disk."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Labels: TypeAlias = npt.NDArray[np.int16]
"""(N,) class ids."""
Indices: TypeAlias = npt.NDArray[np.int32]
"""(N,) row numbers into ``images.npy``."""
Floats: TypeAlias = npt.NDArray[np.float64]
Candidates: TypeAlias = npt.NDArray[np.bool_]
"""(N, K) True where a class is a candidate for the sample's label."""
Vectors: TypeAlias = npt.NDArray[np.float32]
"""(N, D) embeddings or tabular features."""
Images: TypeAlias = npt.NDArray[np.uint8]
"""(N, H, W, C) pixels."""

TRAIN, TEST, UNUSED = "train", "test", "unused"
"""Values of the ``split`` column; ``unused`` rows were removed from training by a long tail."""

RAW_COLUMNS = {"index": "int32", "label": "int16", "split": "string"}
FILE_COLUMNS = {
    "index": "int32",
    "path": "string",
    "bytes": "int64",
    "crc32": "int64",
    "test_set": "string",
}
"""Of a dataset of image files: each one below the dataset's folder; ``test_set`` is empty for training."""
FAULT_COLUMNS = {"path": "string", "split": "string", "fault": "string", "left_out": "bool"}
"""Files that were listed but give no picture, and are left out, or were converted to RGB."""
LABEL_COLUMNS = {
    "index": "int32",
    "label": "int16",
    "clean_label": "int16",
    "split": "string",
    "is_flipped": "bool",
}
META_COLUMNS = {"index": "int32", "label": "int16"}
SAMPLE_COLUMNS = {"index": "int32", "label": "int16", "loss": "float32", "weight": "float32"}
PREDICTION_COLUMNS = {
    "index": "int32",
    "label": "int16",
    "prediction": "int16",
    "confidence": "float64",
    "softmax_response": "float64",
    "mc_dropout": "float64",
}
"""Of each test sample, with three scores of how sure it is; the last is null without dropout."""
RUN_COLUMNS = {
    "protocol": "string",
    "split": "string",
    "metric": "string",
    "value": "float64",
    "epoch": "int32",
}
ROW_COLUMNS = {
    "table": "string",
    "run": "string",
    "dataset": "string",
    "bias": "string",
    "method": "string",
    "recipe": "string",
    "seed": "int32",
    **RUN_COLUMNS,
    "seconds": "float64",
    "peak_mib": "float64",
    "device": "string",
    "precision": "string",
    "torch": "string",
    "verified": "bool",
    "smoke": "bool",
}
"""One row is one number. ``protocol`` is last or best (on test); ``verified`` is False when the raw
data's hashes are not the published ones; ``smoke`` marks a recipe too short to compare."""
