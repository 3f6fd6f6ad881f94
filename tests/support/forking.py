"""Programs of the project in processes that are forked from a loaded one, so that none waits seconds for imports.

For tests of what a program does. How it starts is another matter: `launching.torchrun` and `interrupting.start` start
real processes.
"""

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[2]
_ENVIRONMENT = dict(os.environ)
"""No test has changed it yet."""
_ADDRESS = "FORKING_SERVER"
"""The environment variable with the server's address, for processes that start others."""
_NUMBER = 8
"""The bytes of a process id or an exit status on the way from the server."""
_LOADED = (
    "fer_ddp.deploy.predict",
    "fer_ddp.report.write",
    "fer_ddp.training.run",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "scipy.stats",
    "sklearn.metrics",
    "torch._dynamo",  # what an optimizer imports
)


def load_everything() -> None:
    """Import what a training imports, once, so that a forked one starts in no time; nothing is computed here."""
    for module in _LOADED:
        importlib.import_module(module)
    from PIL import Image

    from fer_ddp.figures import style

    Image.init()
    style.DOTS_PER_INCH = 40  # figures take most of the time of a small run; those of a real one are finer


class Forked:
    """A forked process: what tests use of `subprocess.Popen`."""

    def __init__(self, connection: socket.socket, output: Sequence[IO[Any]]) -> None:
        self._connection, self._output = connection, output
        self.pid = int(connection.recv(_NUMBER))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status once it has ended, negative for a signal."""
        with suppress(BlockingIOError):
            self._receive(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        try:
            return self._receive(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None

    def _receive(self, timeout: float | None) -> int:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            status = self._connection.recv(_NUMBER)  # nothing from one that starts ranks and was killed
            self.returncode = int(status) if status else -signal.SIGKILL
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """(stdout, stderr) of the whole process; the second is empty where they were asked for together."""
        self.wait(timeout)
        texts = []
        for file in self._output:
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def fork(
    arguments: list[str],
    *,
    ranks: int = 1,
    cwd: Path = ROOT,
    environment: dict[str, str] | None = None,
    together: bool = True,
    output: IO[Any] | None = None,
) -> Forked:
    """Start ``python ARGUMENTS`` on ``ranks`` ranks, in sessions of their own.

    ``environment`` goes over this process's own; ``together``: stderr into stdout; ``output``: both go there.
    """
    files = tuple(output or tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115  until its end
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_server())
    environment = os.environ | (environment or {}) | {_ADDRESS: _server()}
    request = {"arguments": arguments, "ranks": ranks, "cwd": str(cwd), "environment": environment}
    descriptors = [files[0].fileno(), files[0 if together else 1].fileno()]
    socket.send_fds(connection, [b"."], descriptors)
    connection.sendall(json.dumps(request).encode())
    connection.shutdown(socket.SHUT_WR)
    return Forked(connection, files)


def run_forked(
    ranks: int,
    *arguments: str,
    timeout: float = 180,
    cwd: Path = ROOT,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` on ``ranks`` ranks, as `launching.torchrun` does, to its end."""
    process = fork(list(arguments), ranks=ranks, cwd=cwd, environment=environment, together=False)
    try:
        stdout, stderr = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL if ranks == 1 else signal.SIGTERM)
        raise
    return subprocess.CompletedProcess(arguments, process.wait(), stdout, stderr)


@cache
def _server() -> str:
    """The address of this test process's server, which is started for the first fork and ends with this process."""
    if _ADDRESS in os.environ:
        return os.environ[_ADDRESS]
    folder = tempfile.TemporaryDirectory(prefix="fork-")
    path = str(Path(folder.name) / "socket")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen(16)
        server = subprocess.Popen(
            [sys.executable, "-u", __file__, str(listener.fileno())],
            cwd=ROOT,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )

    def end() -> None:
        server.kill()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    return path


# What follows runs in the server and in what it forks.


def _serve(listener: socket.socket) -> Callable[[], Any]:
    """Fork for each request; in a forked process, returns what it is to run."""
    from shards.parallel import end_with_parent

    end_with_parent(signal.SIGKILL)
    load_everything()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those forked here
    while True:
        connection, _ = listener.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            return _begin(connection)
        connection.close()


def _begin(connection: socket.socket) -> Callable[[], Any]:
    """Read the request and start its ranks; in them, returns the program, else what waits for them."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 2)
    request = json.loads(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
    for standard, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    ranks = request["ranks"]
    pids = []
    port = _free_port()
    for rank in range(ranks):
        pid = os.fork()
        if not pid:
            connection.close()
            os.setsid()
            random.seed()
            if ranks > 1:
                os.environ.update(_rank_variables(rank, ranks, port))
            return lambda: _program(*request["arguments"])
        pids.append(pid)
    if ranks > 1:
        os.setsid()
    return lambda: _report(connection, pids)


def _send(connection: socket.socket, number: int) -> None:
    connection.sendall(f"{number:{_NUMBER}}".encode())


def _free_port() -> int:
    """One that no connection gets by itself: those are from 32768 on."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as unused, suppress(OSError):
            unused.bind(("127.0.0.1", port))
            return port


def _rank_variables(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {
        "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_RUN_ID": "forked",
    }


def _report(connection: socket.socket, pids: list[int]) -> None:
    """Wait for the processes; as torchrun does, end all once one has failed or SIGTERM came, after 30 s by SIGKILL.

    Sends the id to which signals go, of the one process or of this one, and then the exit status.
    """
    alone, left = len(pids) == 1, set(pids)

    def end_all(*_: object) -> None:
        send_all(signal.SIGTERM)
        signal.alarm(30)

    def send_all(number: int) -> None:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    signal.signal(signal.SIGTERM, end_all)
    signal.signal(signal.SIGALRM, lambda *_: send_all(signal.SIGKILL))
    _send(connection, pids[0] if alone else os.getpid())
    outcome = 0
    while left:
        pid, status = os.wait()
        left.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        if code and not alone:
            time.sleep(0.1)  # a failure of one rank is often one of the others as well, which report it
            end_all()
            code = 1
        outcome = outcome or code
    _send(connection, outcome)


def _program(first: str, *rest: str) -> None:
    """Run ``python FIRST REST`` in this process."""
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if first == "-P":
        first, *rest = rest
    else:
        sys.path.insert(0, os.getcwd() if first == "-m" else str(Path(first).resolve().parent))
    if first == "-m":
        sys.argv = [*rest]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


def _status_of(task: Callable[[], Any]) -> int:
    """The exit status with which Python would end after ``task``; prints what it would print."""
    try:
        task()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001  as Python itself would end the program
        traceback.print_exc()
        return 1
    return 0


def _end(status: int) -> NoReturn:
    """End as Python does, but take nothing down, which would copy all that is shared with the server."""
    threading._shutdown()  # type: ignore[attr-defined]  waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    with closing(socket.socket(fileno=int(sys.argv[1]))) as listening:
        task = _serve(listening)
    _end(_status_of(task))
