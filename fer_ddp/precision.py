"""Which dtype and memory format a run computes in, and autocast for it."""

import copy
import hashlib
import json
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from fer_ddp.atomic_write import write_json
from fer_ddp.cache import cache_folder, locked, no_room
from fer_ddp.processor import processor_flags, processor_name
from fer_ddp.run_files import read_json

Precision = Literal["auto", "bf16", "fp16", "float32", "float64"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]

_TRIAL_IMAGES, _TRIAL_SECONDS = 16, 1.0
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
    network, so steps of a few images are timed for each candidate; bf16 is one where the processor has it, since
    emulated it is ten times slower. What was the quickest is kept in the cache folder, so that runs of one recipe on
    one kind of machine compute alike.
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
    machine = [processor_name(), torch.__version__, torch.get_num_threads()]
    asked = [*machine, repr(network), image_shape, candidates, _TRIAL_IMAGES, _TRIAL_SECONDS]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    kept = cache_folder() / "quickest" / f"{digest}.json"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(kept.with_suffix(".lock")):  # which also keeps two measurements from disturbing each other
            known = read_json(kept).get("quickest")
            for candidate in candidates:
                if list(candidate) == known:
                    return candidate
            quickest = _quickest(network, image_shape, candidates)
            write_json(kept, {"quickest": quickest})
    except OSError as error:
        raise no_room(kept, "what this machine computes the quickest in", error) from None
    return quickest


def _processor_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself (x86: AVX-512 BF16 or AMX; Arm: BF16)."""
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


def _quickest(
    network: nn.Module, image_shape: tuple[int, int, int], candidates: list[tuple[Precision, MemoryFormat]]
) -> tuple[Precision, MemoryFormat]:
    """By the best step of each, in turns, after one that is not counted: three, and more while a second lasts.

    A small network's step takes some milliseconds, and with three of them the wrong one won every other time.
    """
    trials = {candidate: _Trial(network, image_shape, *candidate) for candidate in candidates}
    rounds: list[dict[tuple[Precision, MemoryFormat], float]] = []
    until = time.perf_counter() + _TRIAL_SECONDS
    while len(rounds) < 4 or time.perf_counter() < until:
        rounds.append({candidate: trial.seconds() for candidate, trial in trials.items()})
    return min(candidates, key=lambda candidate: min(each[candidate] for each in rounds[1:]))


class _Trial:
    """A copy of a network on the CPU that takes steps, forward and backward, on a few images."""

    def __init__(
        self, network: nn.Module, image_shape: tuple[int, int, int], precision: str, memory_format: str
    ) -> None:
        dtype = compute_dtype(precision)
        layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
        self._precision = precision
        self._network = copy.deepcopy(network).to(dtype=dtype).to(memory_format=layout).train()
        for module in self._network.modules():
            if hasattr(module, "current"):  # dropout needs places; its cost is the same in all candidates
                module.eval()
        self._images = to_memory_format(torch.zeros(_TRIAL_IMAGES, *image_shape, dtype=dtype), memory_format)

    def seconds(self) -> float:
        """How long a step takes."""
        started = time.perf_counter()
        with autocast(torch.device("cpu"), self._precision):
            loss = self._network(self._images).float().sum()
        loss.backward()
        return time.perf_counter() - started
