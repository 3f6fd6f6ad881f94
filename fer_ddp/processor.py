"""What this machine's processor is."""

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
