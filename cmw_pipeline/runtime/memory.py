"""Memory of this process: kept between training steps, and running out of it in one line."""

import ctypes
import resource
import sys

from cmw_pipeline.errors import SystemFault

_KEPT = {
    "M_MMAP_THRESHOLD": (-3, 1 << 30),
    "M_TRIM_THRESHOLD": (-1, (1 << 31) - 1),
    "M_TOP_PAD": (-2, 1 << 28),
}
"""Parameter and value of glibc's mallopt(3): blocks of any size come from the heap, which does not shrink."""
_ADDRESSES = 6000 * 2**20
"""Bytes; a run on digits works with so many, one with 4,500 MB does not (PyTorch 2.15 built for CUDA)."""
_WORDS = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "cannot allocate memory",
    "failed to map segment",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def keep_memory() -> None:
    """Let the C library keep what tensors free: a step on a CPU would fault the same pages in again.

    Where the C library is not glibc, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _KEPT.values():
            mallopt(parameter, value)


def check_addresses() -> None:
    """Refuse a limit of the address space under which PyTorch aborts.

    Raises:
        SystemFault: `ulimit -v` is below what the smallest runs need.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _ADDRESSES:
        least, given = (f"{size / 2**20:,.0f} MiB" for size in (_ADDRESSES, limit))
        text = (
            f"the address space is limited to {given}; PyTorch maps about {least} before it computes anything"
        )
        raise SystemFault(
            text, "`ulimit -v unlimited`, or a cluster's limit of virtual memory; this is not what is used"
        )


def memory_fault(error: BaseException) -> SystemFault | None:
    """The fault to report where an error says that memory ran out, with what was in use at most.

    A library that finds no room to be loaded says so as an ImportError.
    """
    if not isinstance(error, MemoryError) and not any(word in str(error) for word in _WORDS):
        return None
    used = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB of memory"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        used += f" and {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB of the GPU's"
    hint = "in the recipe: a smaller batch_size, low_memory: true, precision: bf16; or a larger device"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        hint += f"; or a higher limit of the address space (`ulimit -v`), now {limit / 2**20:,.0f} MiB"
    return SystemFault(f"out of memory; in use were at most {used}", hint)
