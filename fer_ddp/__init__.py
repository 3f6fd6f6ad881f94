"""Trains facial expression recognition models; see README.md."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fer_ddp.data.dataset import FERDataset as FERDataset

__all__ = ["FERDataset"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: it needs torch, which takes seconds.
    if name == "FERDataset":
        from fer_ddp.data.dataset import FERDataset

        return FERDataset
    raise AttributeError(f"module 'fer_ddp' has no attribute {name!r}")
