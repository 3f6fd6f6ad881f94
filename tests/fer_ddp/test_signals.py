"""A signal sets a flag, and nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fer_ddp.errors import Interrupted
from fer_ddp.signals import STOP_SIGNALS, StopFlag


@pytest.fixture
def flag() -> Iterator[StopFlag]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    flag = StopFlag()
    flag.listen()
    yield flag
    for number, handler in before.items():
        signal.signal(number, handler)


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
