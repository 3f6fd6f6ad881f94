"""A stalled run ends with a message that names the rank; one that only waits does not."""

import subprocess
import sys

import pytest
from launching import ROOT


def stalls(*names: str) -> None:
    words = [sys.executable, "tests/faults/stalls.py", *names]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rank_in_an_endless_loop_ends_the_run_with_its_number_and_line() -> None:
    stalls("looping_rank")


@pytest.mark.long
def test_what_stalls_ends_and_what_waits_does_not() -> None:
    stalls()
