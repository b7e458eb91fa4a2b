"""The python form of CIFAR is a pickle. It is read with stand-ins: no code that it names is called."""

# The one place where pickle is imported; find_class below admits nothing that could run a program.
import io
import pickle
import pickletools
from typing import Any

import numpy as np
import numpy.typing as npt

from cmw_pipeline.errors import IntegrityError

_PIXELS = 3_072


class _Dtype:
    """Stands in for ``numpy.dtype``: remembers the code that it was called with."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """The state holds the byte order, which one-byte numbers do not have."""


class _Array:
    """Stands in for ``numpy.ndarray`` and for the function that starts one: remembers its state."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        """Subtype, shape and type code of an empty array; the real ones come with the state."""

    def __setstate__(self, *state: Any) -> None:
        self.state = state[0]


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Restricted(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.room = len(data)

    def encode(self, text: str, codec: str) -> bytes:
        """Stands in for ``_codecs.encode``: knows the codecs of text only, and encodes no text twice."""
        self.room -= len(text)
        if self.room < 0:
            raise pickle.UnpicklingError("it grows without end")
        return text.encode(codec)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self.encode
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR file does") from None


def read_batch(data: bytes, name: str, label_key: str) -> tuple[npt.NDArray[np.uint8], list[Any]]:
    """Read one pickled batch.

    Args:
        data: the file's content.
        name: its name, for messages.
        label_key: the entry that holds the labels.

    Returns:
        Pixels, (N, 3072) uint8, read-only; and N labels as they stand in the file.

    Raises:
        IntegrityError: not such a pickle; it names anything but a NumPy array; an entry is missing or of
            another type or shape.
    """
    try:
        _check_memo(data)
        content = _Restricted(data).load()
    except Exception as error:  # a damaged pickle can raise anything
        raise IntegrityError(f"{name}: not a CIFAR pickle: {error}") from None
    if not isinstance(content, dict):
        raise IntegrityError(f"{name}: holds a {type(content).__name__}; expected a dictionary")
    entries = {key.decode("latin1") if isinstance(key, bytes) else key: content[key] for key in content}
    for key in ("data", label_key):
        if key not in entries:
            raise IntegrityError(f"{name}: no entry {key!r}; there are {sorted(map(str, entries))}")
    labels = entries[label_key]
    if not isinstance(labels, list):
        raise IntegrityError(f"{name}: {label_key!r} is a {type(labels).__name__}; expected a list")
    return _pixels(entries["data"], name), labels


def _check_memo(data: bytes) -> None:
    """The unpickler takes memory for as many remembered objects as the largest number among them says."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name.endswith("PUT") and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"it remembers an object under the number {argument}")


def _pixels(array: Any, name: str) -> npt.NDArray[np.uint8]:
    if not isinstance(array, _Array):
        raise IntegrityError(f"{name}: 'data' is a {type(array).__name__}; expected an array")
    try:
        _, shape, dtype, fortran, data = array.state
        rows, columns = shape
        code = dtype.code.decode() if isinstance(dtype.code, bytes) else dtype.code
    except (AttributeError, TypeError, ValueError):
        raise IntegrityError(f"{name}: 'data' is not an array of rows") from None
    if code != "u1":
        raise IntegrityError(f"{name}: 'data' has dtype {code!r}; expected 'u1'")
    if columns != _PIXELS:
        raise IntegrityError(f"{name}: 'data' has rows of {columns} values; expected {_PIXELS}")
    if not isinstance(data, bytes) or not isinstance(rows, int) or len(data) != rows * _PIXELS:
        raise IntegrityError(f"{name}: 'data' does not hold the {rows} rows that it announces")
    flat = np.frombuffer(data, np.uint8)
    return flat.reshape((rows, _PIXELS), order="F" if fortran else "C")
