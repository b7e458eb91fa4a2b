"""Named random streams: every draw comes from a generator that its seed and its names determine."""

import hashlib

import numpy as np


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on every name.

    >>> stream_seed(0, "inject", "digits") == stream_seed(0, "inject", "digits")
    True
    >>> stream_seed(0, "inject", "digits") == stream_seed(0, "metaset", "digits")
    False
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The NumPy generator of a named stream.

    ``stream(seed, "batches", epoch)`` is the same whatever was drawn before: nothing is global.
    """
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *names)))
