"""This machine: its processor, its memory pages, how its threads wait, its devices, which kernels its GPU uses."""

import ctypes
import os
import platform
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from fer_ddp.errors import JobError

if TYPE_CHECKING:
    import torch

_OBSERVED_SECONDS, _BUSY_SHARE = 0.1, 0.25


def processor_name() -> str:
    """Such as ``AMD EPYC 7763``."""
    for line in _information():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """Its features as Linux reports them, such as ``avx2`` (x86) or ``bf16`` (Arm); empty elsewhere."""
    lines = [line for line in _information() if line.startswith(("flags", "Features"))]
    return frozenset(flag for line in lines for flag in line.partition(":")[2].split())


def _information() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def request_huge_pages() -> None:
    """Let torch ask Linux for 2 MiB pages for its large tensors; call it before the first tensor is created.

    A training step frees all its activations, blocks above 32 MiB go back to the kernel, and the next step has each of
    their pages cleared and mapped again: 10 to 14 % of Model 4's time with pages of 4 KiB. It is torch's own switch
    (c10/core/impl/alloc_cpu.cpp) and does nothing where the kernel has no such pages. A value already set is kept.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_freed_memory() -> None:
    """Let the C library keep memory that tensors free, for the next step to use.

    By default blocks above its threshold (32 MiB at most) go back to the kernel when they are freed, and so does the
    end of the heap; each step has the pages cleared and mapped again. docs/performance.md has the figures. Only glibc
    has these settings; elsewhere this does nothing. The process keeps the memory of its largest step until it ends.
    """
    settings = {"MALLOC_MMAP_MAX_": (-4, 0), "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1)}  # numbers of malloc.h
    library = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    for variable, (number, value) in settings.items():
        if library is not None and not {variable, "GLIBC_TUNABLES"} & os.environ.keys():  # what the user set is kept
            library.mallopt(number, value)


def limit_spinning() -> None:
    """Set how long torch's OpenMP threads spin while they wait for work; call it before torch is imported.

    By default they spin for milliseconds. A training alone needs that (sleeping costs it up to a third), but it takes
    the time of whatever else runs on the same cores, and the training's own. So where the processors are busy at the
    start, threads sleep at once (docs/performance.md has the figures). A policy that is already set is kept, and a
    single thread never waits.
    """
    chosen = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    stat = Path("/proc/stat")
    if any(name in os.environ for name in chosen) or os.environ.get("OMP_NUM_THREADS") == "1" or not stat.exists():
        return
    before = stat.read_text()
    time.sleep(_OBSERVED_SECONDS)
    if busy_share(before, stat.read_text(), os.sched_getaffinity(0)) > _BUSY_SHARE:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def use_repeatable_kernels() -> None:
    """Let cuDNN and cuBLAS give the same bits each time, and float32 be float32; nothing else sets this.

    The trainer, the benchmark and the GPU tests call it, so that all three run the same kernels.
    """
    import torch

    torch.backends.cudnn.deterministic = True  # else a resumed run would not have the same bytes
    torch.backends.cudnn.benchmark = False  # it may choose another kernel in another process
    torch.backends.cudnn.allow_tf32 = False  # float32 is what a CPU computes, and bf16 is what is fast
    torch.backends.cuda.matmul.allow_tf32 = False


def default_device(rank: int, local_rank: int) -> "torch.device":
    """This rank's GPU, the CPU where there is none. Raises JobError if this machine has fewer GPUs than ranks."""
    import torch  # this module is imported before torch is

    if not torch.cuda.is_available():
        return torch.device("cpu")
    # SLURM may show each rank only its own GPU.
    shared = torch.cuda.device_count() == 1 and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
    if shared and os.environ.get("SLURM_NTASKS") is None:
        raise JobError(
            f"{os.environ['LOCAL_WORLD_SIZE']} ranks were started on a machine with 1 GPU; start one rank a GPU, "
            f"or hide the GPU with CUDA_VISIBLE_DEVICES="
        )
    index = 0 if torch.cuda.device_count() == 1 else local_rank
    if index >= torch.cuda.device_count():
        raise JobError(
            f"rank {rank} has no GPU: this machine has {torch.cuda.device_count()}; start one rank a GPU "
            f"(--nproc-per-node={torch.cuda.device_count()})"
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    use_repeatable_kernels()
    return device


def choose_device(device: "str | torch.device | None", default: "torch.device") -> "torch.device":
    """``device`` where one is given, else ``default``. Raises JobError if this machine has no such device."""
    import torch

    if device is None:
        return default
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError):  # no such kind, no driver or number, a torch without CUDA
        raise JobError(f"device: is {str(device)!r}; this machine has {_devices()}") from None
    return chosen


def _devices() -> str:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return " and ".join(["cpu", *(f"cuda:{index}" for index in range(count))])


def busy_share(before: str, after: str, cpus: Collection[int]) -> float:
    """The share of their time that ``cpus`` worked between two readings of ``/proc/stat``; 0 where it can't be told."""
    (idle_before, total_before), (idle_after, total_after) = (_idle_and_total(text, cpus) for text in (before, after))
    total = total_after - total_before
    return 1 - (idle_after - idle_before) / total if total > 0 else 0.0


def _idle_and_total(text: str, cpus: Collection[int]) -> tuple[int, int]:
    """Clock ticks of the ``cpuN`` lines of ``/proc/stat``: user, nice, system, idle, waiting for disks, ..."""
    names = {f"cpu{number}" for number in cpus}
    ticks = [[int(tick) for tick in line.split()[1:]] for line in text.splitlines() if line.split(" ")[0] in names]
    return sum(each[3] + each[4] for each in ticks), sum(map(sum, ticks))
