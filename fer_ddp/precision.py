"""Which dtype and memory format a run computes in, and autocast for it."""

import copy
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from fer_ddp.processor import processor_flags

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


def decide(
    network: nn.Module,
    device: torch.device,
    image_shape: tuple[int, int, int],
    precision: Precision,
    memory_format: MemoryFormat,
) -> tuple[Precision, MemoryFormat]:
    """Settle what is ``auto``: (precision, memory_format).

    A GPU computes in bf16 where it can (else fp16) and in channels_last. On a CPU it depends on the processor and the
    network, so two steps of 16 images are timed for each candidate; bf16 is one where the processor has it, since
    emulated it is ten times slower.
    """
    precisions: list[Precision] = [precision]
    formats: list[MemoryFormat] = [memory_format]
    if device.type == "cuda":
        if precision == "auto":
            precisions = ["bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"]
        if memory_format == "auto":
            formats = ["channels_last"]
    else:
        if precision == "auto":
            precisions = ["float32", "bf16"] if _processor_has_bf16() else ["float32"]
        if memory_format == "auto":
            formats = ["contiguous", "channels_last"]
    candidates = [(p, f) for p in precisions for f in formats]
    if len(candidates) == 1:
        return candidates[0]
    return min(candidates, key=lambda candidate: _step_seconds(network, image_shape, *candidate))


def _processor_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself (x86: AVX-512 BF16 or AMX; Arm: BF16)."""
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


def _step_seconds(network: nn.Module, image_shape: tuple[int, int, int], precision: str, memory_format: str) -> float:
    """Seconds of a forward and backward of a copy of ``network`` on 16 images: the second of two."""
    device = torch.device("cpu")
    trial = copy.deepcopy(network).to(dtype=compute_dtype(precision)).train()
    for module in trial.modules():
        if hasattr(module, "current"):  # dropout needs places; its cost is the same in all candidates
            module.eval()
    trial = trial.to(memory_format=torch.channels_last if memory_format == "channels_last" else torch.contiguous_format)
    images = to_memory_format(torch.zeros(16, *image_shape, dtype=compute_dtype(precision)), memory_format)
    for _ in range(2):
        started = time.perf_counter()
        with autocast(device, precision):
            loss = trial(images).float().sum()
        loss.backward()
    return time.perf_counter() - started
