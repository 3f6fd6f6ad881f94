"""The dtype and memory format that a run computes in, and autocast for it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["auto", "bf16", "fp16", "float32", "float64"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]

_AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def compute_dtype(precision: str) -> torch.dtype:
    """The dtype of weights, augmentation and loss: float64 if asked for, else float32."""
    return torch.float64 if precision == "float64" else torch.float32


def final_precision(precision: str) -> str:
    """The precision of final figures, predictions and exports of a run trained in ``precision``.

    float32, also where training was faster in bf16 or fp16, so that they are the same on every machine; float64 stays.
    """
    return "float64" if precision == "float64" else "float32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Convolutions and matrix products in bf16 or fp16; for the other precisions, no autocast."""
    dtype = _AUTOCAST_DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Scales fp16's loss; for the other precisions it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def torch_memory_format(memory_format: str) -> torch.memory_format:
    """torch's name of a `MemoryFormat` that is not auto."""
    return torch.channels_last if memory_format == "channels_last" else torch.contiguous_format


def to_memory_format(images: Tensor, memory_format: str) -> Tensor:
    """Images (batch, channels, height, width) in the memory format of the model's weights."""
    return images.contiguous(memory_format=torch_memory_format(memory_format))
