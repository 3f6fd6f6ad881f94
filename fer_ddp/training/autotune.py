"""The fastest precision and memory format of a CPU, by measurement."""

import copy
import hashlib
import json
import time

import torch
from torch import nn

from fer_ddp.data.cache_folder import cache_folder, no_room, own_folder
from fer_ddp.hardware import processor_flags, processor_name
from fer_ddp.layers.dropout import PositionDropout
from fer_ddp.models.build import prepare_model
from fer_ddp.precision import MemoryFormat, Precision, autocast, compute_dtype, to_memory_format
from fer_ddp.runs.files import read_json
from fer_ddp.signals import check_stopped
from shards.files import FileLock, write_json

_TRIAL_IMAGES, _TRIAL_SECONDS = 16, 1.0
_CPU = torch.device("cpu")


def choose_precision(
    model: nn.Module,
    device: torch.device,
    image_shape: tuple[int, int, int],
    precision: Precision,
    memory_format: MemoryFormat,
) -> tuple[Precision, MemoryFormat]:
    """Resolve ``auto``; returns (precision, memory_format).

    A GPU computes in bf16 where it can (else fp16) and in channels_last. On a CPU the best choice depends on the
    processor and the model, so steps of a few images are timed for each candidate; bf16 is a candidate where the
    processor has it, since emulated it is ten times slower. The fastest is recorded in the cache folder, so that runs
    of one recipe on one kind of machine compute alike. Raises RunError if the cache folder can't be written.
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
    asked = [*machine, repr(model), image_shape, candidates, _TRIAL_IMAGES, _TRIAL_SECONDS]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    record = cache_folder() / "quickest" / f"{digest}.json"
    try:
        own_folder(record.parent)
        # The lock also keeps two measurements from disturbing each other.
        with FileLock(record.with_suffix(".lock"), while_waiting=check_stopped):
            known = read_json(record).get("quickest")
            for candidate in candidates:
                if list(candidate) == known:
                    return candidate
            fastest = _fastest(model, image_shape, candidates)
            write_json(record, {"quickest": fastest})
    except OSError as error:
        raise no_room(record, "the fastest precision of this machine", error) from None
    return fastest


def _processor_has_bf16() -> bool:
    """Whether the processor has bf16 instructions (x86: AVX-512 BF16 or AMX; Arm: BF16)."""
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


def _fastest(
    model: nn.Module, image_shape: tuple[int, int, int], candidates: list[tuple[Precision, MemoryFormat]]
) -> tuple[Precision, MemoryFormat]:
    """The candidate with the fastest step, timed in turns: one warm-up, then three rounds or as many as take a second.

    A small model's step takes a few milliseconds, and three rounds alone chose the slower one every other time.
    """
    trials = {candidate: _Trial(model, image_shape, *candidate) for candidate in candidates}
    rounds: list[dict[tuple[Precision, MemoryFormat], float]] = []
    until = time.perf_counter() + _TRIAL_SECONDS
    while len(rounds) < 4 or time.perf_counter() < until:
        rounds.append({candidate: trial.seconds() for candidate, trial in trials.items()})
    return min(candidates, key=lambda candidate: min(each[candidate] for each in rounds[1:]))


class _Trial:
    """A copy of a model on the CPU, for timing forward and backward passes on a few images."""

    def __init__(self, model: nn.Module, image_shape: tuple[int, int, int], precision: str, memory_format: str) -> None:
        self._precision = precision
        self._model = prepare_model(
            copy.deepcopy(model), device=_CPU, precision=precision, memory_format=memory_format, world_size=1
        ).train()
        for module in self._model.modules():
            if isinstance(module, PositionDropout):  # needs positions, and costs the same in all candidates
                module.eval()
        images = torch.zeros(_TRIAL_IMAGES, *image_shape, dtype=compute_dtype(precision))
        self._images = to_memory_format(images, memory_format)

    def seconds(self) -> float:
        """The duration of one step."""
        started = time.perf_counter()
        with autocast(_CPU, self._precision):
            loss = self._model(self._images).float().sum()
        loss.backward()
        return time.perf_counter() - started
