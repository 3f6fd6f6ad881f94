"""How memory is requested, and how threads wait, on a CPU."""

import ast
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer_ddp.hardware import busy_share, use_repeatable_kernels

ROOT = Path(__file__).parents[2]

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


def test_one_function_sets_which_kernels_a_gpu_uses() -> None:
    names = ("cudnn.deterministic", "cudnn.benchmark", "allow_tf32", "use_deterministic_algorithms")
    files = [path for package in ("fer_ddp", "bench") for path in (ROOT / package).rglob("*.py")]
    setting = [path for path in files if any(f"{name} =" in path.read_text() for name in names)]
    assert [str(path.relative_to(ROOT)) for path in setting] == ["fer_ddp/hardware.py"]


def test_a_gpus_kernels_are_repeatable_and_float32() -> None:
    import torch

    settings = [(torch.backends.cudnn, name) for name in ("deterministic", "benchmark", "allow_tf32")]
    settings.append((torch.backends.cuda.matmul, "allow_tf32"))
    before = [getattr(owner, name) for owner, name in settings]
    use_repeatable_kernels()
    after = [getattr(owner, name) for owner, name in settings]
    for (owner, name), value in zip(settings, before, strict=True):
        setattr(owner, name, value)
    assert after == [True, False, False, False]


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


FREED = """
import resource, sys
import fer_ddp.hardware
import torch
if sys.argv[1] == "kept":
    fer_ddp.hardware.keep_freed_memory()
for _ in range(10):  # the first ones leave small gaps
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)  # 64 MiB, 16384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_a_step_frees_is_there_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THP_MEM_ALLOC_ENABLE", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    faults = {}
    for word in ("kept", "freed"):
        done = subprocess.run([sys.executable, "-c", FREED, word], capture_output=True, text=True, check=True)
        faults[word] = int(done.stdout)
    assert faults["kept"] < 100 < faults["freed"]


BEFORE = "cpu  900 0 0 900 0\ncpu0 100 0 10 200 5 0 0\ncpu1 100 0 10 200 5 0 0\ncpu2 0 0 0 100 0 0 0\nintr 1 2\n"
AFTER = "cpu  999 0 0 999 0\ncpu0 109 0 10 200 5 0 0\ncpu1 100 0 11 210 5 0 0\ncpu2 90 0 0 110 0 0 0\nintr 3 4\n"


@pytest.mark.parametrize(("cpus", "share"), [({0}, 1.0), ({1}, 1 / 11), ({0, 1}, 0.5), ({2}, 0.9), ({7}, 0.0)])
def test_how_busy_the_cpus_of_this_process_were_is_counted_from_proc_stat(cpus: set[int], share: float) -> None:
    assert busy_share(BEFORE, AFTER, cpus) == pytest.approx(share)


def waiting(environment: dict[str, str]) -> dict[str, str]:
    """What `limit_spinning` sets in a process that starts with ``environment``."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
    code = "import os, fer_ddp.hardware as h; before = dict(os.environ); h.limit_spinning(); "
    code += "print({k: v for k, v in os.environ.items() if before.get(k) != v})"
    clean = {name: value for name, value in os.environ.items() if name not in names} | environment
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    return dict(ast.literal_eval(done.stdout))


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs Linux")
def test_threads_sleep_at_once_where_the_processors_are_busy() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        time.sleep(0.3)
        assert waiting({}) == {"OMP_WAIT_POLICY": "PASSIVE"}
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_how_threads_wait_is_left_as_the_user_set_it(name: str) -> None:
    assert waiting({name: "ACTIVE"}) == {}


def test_a_single_thread_waits_for_nobody_and_is_left_alone() -> None:
    assert waiting({"OMP_NUM_THREADS": "1"}) == {}
