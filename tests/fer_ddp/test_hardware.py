"""How a CPU's memory is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys
from fer_ddp.hardware import request_huge_pages
if sys.argv[1] == "huge":
    request_huge_pages()
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
    unset = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    faults = {}
    for word in ("huge", "small"):
        done = subprocess.run([sys.executable, "-c", CODE, word], env=unset, capture_output=True, text=True, check=True)
        faults[word] = int(done.stdout)
    assert faults["huge"] < 0.25 * 16384
    assert faults["huge"] < faults["small"] or "[always]" in HUGE_PAGES.read_text()
