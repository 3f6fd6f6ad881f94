"""How a CPU's memory is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys
from fer_ddp.memory import ask_for_huge_pages
if sys.argv[1] == "huge":
    ask_for_huge_pages()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)  # 64 MiB, 16384 small pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(), reason="needs a kernel with huge pages"
)
def test_a_large_tensor_takes_few_pages() -> None:
    faults = {
        word: int(subprocess.run([sys.executable, "-c", CODE, word], capture_output=True, text=True, check=True).stdout)
        for word in ("huge", "small")
    }
    assert faults["huge"] < 0.25 * 16384
    assert faults["huge"] < faults["small"] or "[always]" in HUGE_PAGES.read_text()
