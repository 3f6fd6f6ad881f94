"""What the watchdog counts as a stall, and how it tells; tests/faults/stalls.py has runs of several ranks."""

import sys
import threading
import time
from pathlib import Path
from types import FunctionType

import pytest

from fer_ddp.runs.folder import RunFolder
from fer_ddp.training import watchdog
from fer_ddp.training.watchdog import Report, Watchdog, is_debugged, who_stalled

SECONDS = 0.2


def stand_still(seconds: float = 4 * SECONDS) -> None:
    time.sleep(seconds)


def test_from_python_a_stall_is_told_once_with_its_line_and_the_stacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Watchdog(RunFolder(tmp_path), SECONDS, ends_process=False) as watching:
        watching.beat()
        stand_still()
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: no progress for 0 s: the run is at tests/fer_ddp/training/test_watchdog.py line ")
    assert ", in stand_still; the stacks of all threads are in " in message
    assert "set a larger stall_seconds" in message
    assert "time.sleep(seconds)" in (tmp_path / "stall.txt").read_text()
    assert not (tmp_path / "status.json").exists()  # it may yet succeed


def test_a_stall_is_told_before_the_disk_is_written_to_which_may_be_its_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Watchdog(RunFolder(tmp_path / "absent"), SECONDS, ends_process=False) as watching:
        watching.beat()
        stand_still()
    stall, disk = capsys.readouterr().err.splitlines()
    assert stall.startswith("error: no progress for ")
    assert disk.startswith(f"error: {tmp_path}/absent/")


def test_nothing_is_told_while_steps_are_done_or_before_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Watchdog(RunFolder(tmp_path), SECONDS, ends_process=False) as watching:
        stand_still()
        for _ in range(8):
            watching.beat()
            stand_still(SECONDS / 2)
    assert capsys.readouterr().err == ""


def test_time_in_which_the_machine_was_suspended_is_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, ahead = time.monotonic, [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: real() + ahead[0])
    with Watchdog(RunFolder(tmp_path), 5.0, ends_process=False) as watching:
        watching.beat()
        stand_still(0.6)
        ahead[0] = 600.0
        stand_still(0.6)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seconds", [None, 0.0])
def test_without_a_bound_nothing_watches(tmp_path: Path, seconds: float | None) -> None:
    before = threading.active_count()
    with Watchdog(RunFolder(tmp_path), seconds, ends_process=True) as watching:
        watching.beat()
        assert threading.active_count() == before


def test_a_run_in_a_debugger_does_not_stall() -> None:
    thread = threading.get_ident()
    assert not is_debugged(thread)
    # As at pdb's prompt, whose functions are below the debugged one's.
    prompt = FunctionType(
        (lambda: is_debugged(thread)).__code__,
        {"__name__": "bdb", "is_debugged": is_debugged},
        closure=(lambda: thread).__closure__,
    )
    assert prompt()
    threading.settrace(lambda *_: None)
    try:
        assert is_debugged(thread)
    finally:
        threading.settrace(None)  # type: ignore[arg-type]


def test_the_ranks_that_hold_up_the_run_are_named_first() -> None:
    reports = {
        0: Report("loop.py line 9, in step", True, ""),
        2: Report("face.py line 7, in forward", False, ""),
    }
    assert who_stalled(reports, 3) == (
        "rank 1 does not respond (it is stopped, or its machine is lost); rank 2 is at face.py line 7, in forward; "
        "rank 0 waits at loop.py line 9, in step"
    )


def test_the_line_of_a_stall_is_the_innermost_that_is_not_a_librarys() -> None:
    event = threading.Event()

    def wait() -> None:
        event.wait()  # below it is a frame of the standard library

    thread = threading.Thread(target=wait)
    thread.start()
    assert thread.ident is not None
    place = watchdog.place_of(sys._current_frames()[thread.ident])
    event.set()
    thread.join()
    assert place.startswith("tests/fer_ddp/training/test_watchdog.py line ")
    assert place.endswith(", in wait")
