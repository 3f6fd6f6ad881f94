"""Signals only set a flag; the loop looks at it between steps, the evaluation between batches."""

import signal
import threading
from types import FrameType
from typing import Any

from fer_ddp.errors import Interrupted

# Windows has the first two alone.
_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP")
STOP_SIGNALS: list[signal.Signals] = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
if STOP_SIGNALS[-1].name == "SIGHUP" and signal.getsignal(STOP_SIGNALS[-1]) == signal.SIG_IGN:
    STOP_SIGNALS.pop()  # a terminal that closes sends it; `nohup` has it ignored

_pending: list[str] = []
"""The name of a stop signal whose `StoppedEarly` may have been lost."""


class StoppedEarly(BaseException):
    """A signal arrived before a `StopFlag` listened; not an Exception, so that no import swallows it.

    Nor a KeyboardInterrupt: raised inside some C extensions, that makes Python exit by SIGINT at the end.
    """


def stop_early() -> None:
    """While no `StopFlag` listens, a stop signal raises `StoppedEarly`.

    Code in C, such as what torch runs while it is imported, may drop an exception: so see `raise_pending_stop`.
    """
    _pending.clear()

    def stop(number: int, frame: FrameType | None) -> None:
        _pending.append(signal.Signals(number).name)
        raise StoppedEarly(_pending[0])

    for number in STOP_SIGNALS:
        signal.signal(number, stop)


def raise_pending_stop() -> None:
    """Raises `StoppedEarly` again if a stop signal came and the command did not end."""
    if _pending:
        raise StoppedEarly(_pending[0])


def ignore_stop_signals() -> None:
    """Ignore stop signals from now on; processes that are started later do not inherit this."""
    _pending.clear()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)


_listening: list["StopFlag"] = []


def check_stopped() -> None:
    """Raises Interrupted if a signal came that a `StopFlag` listens for; for waits that are not given the flag."""
    for flag in _listening:
        if flag.is_up:
            raise Interrupted(f"stopped by {flag.signal_name} while waiting for another process")


class StopFlag:
    """Set once a signal has asked this process to stop: ``with StopFlag() as stop:`` handles its stop signals.

    The previous handlers are restored on exit. Outside the main thread, where Python allows no handlers, the flag is
    never set.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopFlag":
        if threading.current_thread() is threading.main_thread():
            raise_pending_stop()
            self._previous = {number: signal.signal(number, self._raise) for number in STOP_SIGNALS}
            _listening.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in _listening:
            _listening.remove(self)
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set by Python

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name

    @property
    def is_up(self) -> bool:
        """Whether a signal arrived."""
        return self.signal_name is not None

    def check(self) -> None:
        """Raises Interrupted if a signal arrived."""
        if self.is_up:
            raise Interrupted(f"stopped by {self.signal_name} during an evaluation, which will be repeated")
