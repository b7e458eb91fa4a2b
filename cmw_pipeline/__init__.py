"""Training well on biased data, and proving it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmw_pipeline.meta.weighting import load_weighting

__all__ = ["load_weighting"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the public functions that need torch only when they are asked for."""
    if name == "load_weighting":
        from cmw_pipeline.meta.weighting import load_weighting

        return load_weighting
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
