"""A stalled run ends with a message that names the rank; one that only waits does not."""

import pytest
from forking import run_forked


def stalls(*names: str) -> None:
    done = run_forked(1, "tests/faults/stalls.py", *names, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as it should" in done.stdout


def test_a_rank_in_an_endless_loop_ends_the_run_with_its_number_and_line() -> None:
    stalls("looping_rank")


@pytest.mark.long
def test_what_stalls_ends_and_what_waits_does_not() -> None:
    stalls()
