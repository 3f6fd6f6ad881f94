"""How a command ends: an exit status, and one sentence for whatever is wrong."""

import os
import signal
from collections.abc import Iterator

import pytest

from fer_ddp.cli import exit_status_of
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.signals import STOP_SIGNALS, StoppedEarly
from shards.errors import DataError


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The signal handlers of before."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def end_of(error: BaseException) -> int:
    def command() -> None:
        raise error

    return exit_status_of(command)


def test_what_is_done_ends_with_0_and_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status_of(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (RunError("the run failed"), 1, "error: the run failed"),
        (JobError("the job is wrong"), 2, "error: the job is wrong"),
        (DataError("x.tar: is cut short"), 1, "error: x.tar: is cut short"),
        (DataError("x: there is no such folder", exit_status=2), 2, "error: x: there is no such folder"),
        (OSError(36, "File name too long", "x" * 300), 1, f"error: {'x' * 300}: File name too long"),
        (OSError("the pipe is gone"), 1, "error: the pipe is gone"),
        (Interrupted("stopped by SIGINT after step 3"), 75, "interrupted: stopped by SIGINT after step 3"),
        (StoppedEarly("SIGTERM"), 75, "interrupted: stopped by SIGTERM; the same command does it again"),
    ],
    ids=repr,
)
def test_what_goes_wrong_is_one_sentence_and_its_status(
    error: BaseException, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(error) == status
    assert capsys.readouterr() == ("", f"{sentence}\n")


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        end_of(ZeroDivisionError())


def test_only_rank_zero_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    assert end_of(JobError("the job is wrong")) == 2
    assert capsys.readouterr() == ("", "")


def test_a_stop_signal_ends_a_command_that_does_not_listen(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status_of(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 75
    assert capsys.readouterr().err == "interrupted: stopped by SIGTERM; the same command does it again\n"
