"""Names shared by every room: array aliases, and the parts of a dataset."""

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
