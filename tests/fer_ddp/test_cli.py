"""How a command ends: an exit status, and one sentence for whatever is wrong."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec

import pytest

from fer_ddp.cli import LAUNCHED, exit_status_of
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.signals import STOP_SIGNALS, StopFlag, StoppedEarly
from shards.errors import DataError


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The signal handlers of before; the command line of ``fer-ddp``."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fer-ddp", "train", "my job.yaml"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
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
    ],
    ids=repr,
)
def test_what_goes_wrong_is_one_sentence_and_its_status(
    error: BaseException, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(error) == status
    assert capsys.readouterr() == ("", f"{sentence}\n")


@pytest.mark.parametrize("error", [Interrupted("stopped by SIGINT"), StoppedEarly("SIGINT")], ids=repr)
def test_an_interrupted_command_prints_on_a_line_of_its_own_how_to_resume(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(error) == 75
    assert capsys.readouterr().err == "interrupted: stopped by SIGINT\nto resume: fer-ddp train 'my job.yaml'\n"


def test_ranks_of_torchrun_resume_by_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("fer_ddp.__main__", None))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    end_of(Interrupted("stopped by SIGINT"))
    assert capsys.readouterr().err.splitlines()[1] == (
        "to resume: torchrun --standalone --nproc-per-node=2 -m fer_ddp train 'my job.yaml'"
    )


def test_a_rank_that_launch_started_leaves_it_to_launch_to_print_how_to_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LAUNCHED, "1")
    end_of(Interrupted("stopped by SIGINT"))
    assert capsys.readouterr().err == "interrupted: stopped by SIGINT\n"


def test_on_a_terminal_a_message_takes_the_place_of_a_progress_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    end_of(RunError("the run failed"))
    assert capsys.readouterr().err == "\r\x1b[Kerror: the run failed\n"


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        end_of(ZeroDivisionError())


def test_only_rank_zero_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert end_of(JobError("the job is wrong")) == 2
    assert capsys.readouterr() == ("", "")


def test_a_stop_signal_ends_a_command_that_does_not_listen(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status_of(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 75
    assert capsys.readouterr().err.splitlines()[0] == "interrupted: stopped by SIGTERM"


def test_a_signal_after_the_end_is_ignored() -> None:
    exit_status_of(lambda: None)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_signal_whose_exception_is_lost_ends_the_command_before_it_trains(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> None:
        with suppress(BaseException):  # as C code does while torch is imported
            os.kill(os.getpid(), signal.SIGTERM)
        with StopFlag():
            raise AssertionError("trained")

    assert exit_status_of(command) == 75
    assert capsys.readouterr().err.splitlines()[0] == "interrupted: stopped by SIGTERM"
