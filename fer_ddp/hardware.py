"""What this machine's processor is."""

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
    """What Linux says it can do, such as ``avx2`` (x86) or ``bf16`` (Arm); empty elsewhere."""
    lines = [line for line in _information() if line.startswith(("flags", "Features"))]
    return frozenset(flag for line in lines for flag in line.partition(":")[2].split())


def _information() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def request_huge_pages() -> None:
    """Let torch ask Linux for 2 MiB pages for its large tensors; to be called before the first tensor is made.

    A training step frees all its activations, blocks above 32 MiB go back to the kernel, and in the next step each page
    of them is cleared and mapped anew: 10 to 14 % of Model 4's time with pages of 4 KiB. It is torch's own switch
    (c10/core/impl/alloc_cpu.cpp) and does nothing where the kernel has no such pages. Whoever has set it is heard.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
