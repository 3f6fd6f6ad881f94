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


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """bf16 and fp16 run convolutions and matrix products in that dtype; the others leave everything as it is."""
    dtype = _AUTOCAST_DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Scales fp16's loss; for the other precisions it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def to_memory_format(images: Tensor, memory_format: str) -> Tensor:
    """Images (batch, channels, height, width) laid out as the network's weights are."""
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    return images.contiguous(memory_format=layout)
