"""Variables of torchrun that are odd or left over: a message that names them, and no wait that only SIGKILL ends."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from fer_ddp import distributed, rendezvous
from fer_ddp.cli import exit_status_of
from fer_ddp.errors import JobError, RunError
from fer_ddp.rendezvous import RANK_VARIABLES, check_rank_variables, is_main
from fer_ddp.signals import STOP_SIGNALS

ONE_OF_TWO = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of another test, nor of whoever started the tests."""
    for name in (*RANK_VARIABLES, "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers of before, afterwards."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def set_variables(monkeypatch: pytest.MonkeyPatch, **changes: str | None) -> None:
    for name, value in (ONE_OF_TWO | changes).items():
        if value is not None:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "changes", [{}, {"RANK": "1", "LOCAL_WORLD_SIZE": "1"}, dict.fromkeys(ONE_OF_TWO), {"WORLD_SIZE": "1"}]
)
def test_a_rank_among_others_and_one_alone_are_as_they_should_be(
    changes: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, **changes)
    check_rank_variables()


@pytest.mark.parametrize(
    ("changes", "beginning"),
    [
        ({"RANK": None}, "RANK: is not set; it must be a number from 0 to 1. "),
        ({"WORLD_SIZE": None}, "WORLD_SIZE: is not set; it must be a number from 1. "),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: is 'two'; it must be a number from 1. "),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE: is '0'; it must be a number from 1. "),
        ({"RANK": "-1"}, "RANK: is '-1'; it must be a number from 0 to 1. "),
        ({"RANK": "2"}, "RANK: is '2'; it must be a number from 0 to 1. "),
        ({"LOCAL_RANK": "7"}, "LOCAL_RANK: is '7'; it must be a number from 0 to 1. "),
        ({"LOCAL_WORLD_SIZE": "3"}, "LOCAL_WORLD_SIZE: is '3'; it must be a number from 1 to 2. "),
        ({"MASTER_ADDR": " "}, "MASTER_ADDR: is ' '; it must be the name of the machine of rank 0. "),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT: is '65536'; it must be a number from 1 to 65535. "),
        ({"MASTER_PORT": None}, "MASTER_PORT: is not set; it must be a number from 1 to 65535. "),
    ],
)
def test_an_odd_variable_is_named_with_the_way_to_remove_it(
    changes: dict[str, str | None], beginning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, **changes)
    with pytest.raises(JobError) as raised, distributed.world():
        pass
    assert str(raised.value).startswith(beginning)
    assert str(raised.value).endswith(f": unset {' '.join(name for name in RANK_VARIABLES if name in os.environ)}")
    assert is_main(), "somebody must print it"


def test_a_rank_to_which_nobody_comes_ends_and_prints_before_that_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_variables(monkeypatch, MASTER_PORT="29517")
    monkeypatch.setattr(rendezvous, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(rendezvous, "join_seconds", lambda: 0.3)
    message = r"rank 1 did not come within 0 s; .* unset RANK WORLD_SIZE LOCAL_RANK"
    with pytest.raises(RunError, match=message), distributed.world():
        pass
    assert capsys.readouterr().err.startswith("rank 0 of 2 waits at 127.0.0.1:29517 (MASTER_ADDR:MASTER_PORT): rank 1")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"MASTER_ADDR": "no.such.host.invalid"}, "the name no.such.host.invalid can't be resolved ("),
        ({"RANK": "1", "MASTER_PORT": "1"}, "no connection was possible (Connection refused) within"),
    ],
)
def test_a_rank_that_cannot_reach_the_others_tells_why(
    changes: dict[str, str | None], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, **changes)
    monkeypatch.setattr(rendezvous, "join_seconds", lambda: 0.1)
    with pytest.raises(RunError) as raised, distributed.world():
        pass
    assert problem in str(raised.value)


def test_a_signal_ends_a_rank_that_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], handlers: None
) -> None:
    set_variables(monkeypatch, MASTER_PORT="29519")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert exit_status_of(lambda: distributed.world().__enter__() and None) == 75
    assert capsys.readouterr().err.splitlines()[0] == "interrupted: stopped by SIGTERM"


def test_a_rank_whose_peer_exits_before_the_run_is_open_ends_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch)
    monkeypatch.setattr(distributed, "_join", lambda: None)
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *_, **__: None)
    with pytest.raises(RunError, match="another rank exited"), distributed.world():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:21189")
