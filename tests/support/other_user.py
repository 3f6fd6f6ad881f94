"""Calls of a function as another user of the machine, in a fork of this process, which must be root."""

import os
import pickle
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ALICE, MALLORY = 54321, 54322
"""Two users; no file of the machine belongs to them."""

T = TypeVar("T")


def as_user(uid: int, function: Callable[[], T], *, home: Path | None = None) -> T:
    """The result of ``function``, or its error, called as the user ``uid`` with the home folder ``home``.

    Modules that it needs must be loaded already: the other user may not be able to read this repository. A call that
    takes more than 20 seconds fails.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        status = 1
        try:
            os.chdir("/")
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(0o022)
            os.environ["HOME"] = str(home or "/nonexistent")
            outcome: object
            try:
                outcome = (function(), None)
            except Exception as error:  # noqa: BLE001  it is raised again in the parent
                outcome = (None, error)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(outcome, pipe)
            status = 0
        except BaseException:  # noqa: BLE001  a fork of pytest must not go on as pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the call as user {uid} ended with {os.waitstatus_to_exitcode(status)}"
    result, error = pickle.loads(content)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]
