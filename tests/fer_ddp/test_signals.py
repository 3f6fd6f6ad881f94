"""A signal sets a flag, and nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fer_ddp.errors import Interrupted
from fer_ddp.signals import STOP_SIGNALS, StopFlag


@pytest.fixture
def flag() -> Iterator[StopFlag]:
    with StopFlag() as flag:
        yield flag


def test_the_handlers_of_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopFlag():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_outside_the_main_thread_no_handler_is_installed() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]

    def handlers() -> list[object]:
        with StopFlag() as flag:
            flag.check()
            return [signal.getsignal(number) for number in STOP_SIGNALS]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handlers).result() == before


def test_without_a_signal_the_flag_is_down(flag: StopFlag) -> None:
    flag.check()
    assert not flag.is_up


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_signal_raises_the_flag_and_lets_the_work_continue(flag: StopFlag, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    assert (flag.is_up, flag.signal_name) == (True, number.name)


def test_an_evaluation_is_ended_by_a_raised_flag(flag: StopFlag) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped by SIGTERM during an evaluation"):
        flag.check()


@pytest.mark.parametrize(("command", "listens"), [(["env", "--default-signal=HUP"], True), (["nohup"], False)])
def test_a_closed_terminal_stops_a_run_unless_nohup_started_it(command: list[str], listens: bool) -> None:
    code = "import signal, fer_ddp.signals; print(signal.SIGHUP in fer_ddp.signals.STOP_SIGNALS)"
    output = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == str(listens)
