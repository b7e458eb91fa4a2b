"""Running out of memory, in one line."""

import resource
import sys

from cmw_pipeline.errors import SystemFault

_WORDS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def memory_fault(error: BaseException) -> SystemFault | None:
    """The fault to report where an error says that memory ran out, with what was in use at most."""
    if not isinstance(error, MemoryError) and not any(word in str(error) for word in _WORDS):
        return None
    used = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB of memory"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        used += f" and {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB of the GPU's"
    hint = "in the recipe: a smaller batch_size, low_memory: true, precision: bf16; or a larger device"
    return SystemFault(f"out of memory; in use were at most {used}", hint)
