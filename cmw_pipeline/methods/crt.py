"""cRT: features of a plain run, and an output layer anew on batches of even classes (ICLR 2020)."""

import numpy as np
import numpy.typing as npt

from cmw_pipeline.config.methods.losses import Crt as Options
from cmw_pipeline.methods.base import Method, Problem, Stream


class Crt(Method):
    """Cross-entropy on as many samples of each class, of large ones others in every epoch (Kang et al.).

    The trunk is that of the run ``first``; a recipe with ``head_only`` leaves it as it is.
    """

    def __init__(self, options: Options, problem: Problem) -> None:
        super().__init__(options, problem)
        labels = problem.labels.cpu().numpy()
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def turns(self, epoch: int) -> list[list[Stream]]:
        """An epoch of about as many samples as there are."""
        share = -(-self.num_samples // len(self.members))
        return [[Stream(np.concatenate([_part(rows, epoch, share) for rows in self.members]))]]


def _part(rows: npt.NDArray[np.int64], epoch: int, share: int) -> npt.NDArray[np.int64]:
    """(share,) of the rows of a class, where the epoch before stopped, and round and round."""
    return rows[(epoch * share + np.arange(share)) % len(rows)]
