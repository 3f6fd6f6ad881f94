"""The processor of this machine, and its memory pages."""

import os
import platform
from pathlib import Path


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
