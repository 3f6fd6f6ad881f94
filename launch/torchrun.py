"""Starts the ranks of a node, several by torchrun and one by itself, and forwards stop signals to them."""

import atexit
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from types import FrameType
from typing import IO, Any

from fer_ddp.cli import LAUNCHED
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.rendezvous import RANK_VARIABLES, loopback_listener
from fer_ddp.signals import STOP_SIGNALS, raise_pending_stop
from shards.output import guard_output
from shards.parallel import child_modules, end_with_parent, usable_cpus


def start_ranks(
    ranks: int,
    arguments: list[str],
    *,
    rendezvous: list[str] | None = None,
    environment: dict[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``python ARGUMENTS`` on ``ranks`` ranks of this node.

    ``rendezvous``: torchrun's options for more nodes than this; ``environment`` goes over this process's own;
    ``output``: where stdout and stderr go, None to this process's own. One rank alone needs no torchrun, whose start
    takes seconds. What is started is in a session of its own, so that Ctrl-C in the terminal reaches this process
    alone, which forwards it once. It ignores SIGUSR1 and SIGUSR2, which SLURM sends to every process of a job and
    which would kill torchrun; the ranks take them. Where this process is killed, what it started is asked to stop.
    Raises RunError if the ranks could not reach each other.
    """
    start = ["-u"]  # as torchrun starts its ranks, so that logs are up to date
    if ranks > 1 and not rendezvous:
        _check_loopback()
    if ranks > 1 or rendezvous:
        # Without an address torchrun takes this machine's name, and waits for ever where that cannot be resolved.
        options = [*(rendezvous or ["--standalone", f"--local-addr={_LOOPBACK}"]), f"--nproc-per-node={ranks}"]
        # torchrun leaves its own in the temporary folder; whichever of it and this process ends removes this one.
        logs = tempfile.mkdtemp(prefix="fer-ddp-ranks-")
        atexit.register(shutil.rmtree, logs, ignore_errors=True)
        start = ["-m", "launch.torchrun", f"{_LOGS}{logs}", *options]
    # Left over in a shell, the ranks' own variables would make one that starts alone wait for others.
    inherited = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    defaults = {"OMP_NUM_THREADS": str(max(1, usable_cpus() // ranks))}
    if not rendezvous and _LOOPBACK_INTERFACE in (name for _, name in socket.if_nameindex()):
        defaults["GLOO_SOCKET_IFNAME"] = _LOOPBACK_INTERFACE  # else that of this machine's name, open to the network
    return subprocess.Popen(
        [sys.executable, *start, *arguments],
        env=defaults | inherited | child_modules() | (environment or {}) | {LAUNCHED: "1"},
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_begin_child,
    )


_LOGS = "--log-dir="
_LOOPBACK, _LOOPBACK_INTERFACE = "127.0.0.1", "lo"


def _check_loopback() -> None:
    try:
        with socket.create_server((_LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=10).close()
    except OSError as error:
        raise RunError(
            f"this machine cannot connect to itself at {_LOOPBACK} ({error.strerror or error}), as several ranks must; "
            f"bring up its loopback interface (ip link set lo up), or train on one rank: --ranks 1"
        ) from None


def _begin_child() -> None:
    end_with_parent(signal.SIGTERM)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def killed_by(exit_status: int) -> str | None:
    """The signal that ended a process of `subprocess`, such as SIGKILL; None if it ended by itself."""
    if exit_status >= 0:
        return None
    names = {number.value: number.name for number in signal.Signals}
    return names.get(-exit_status, f"signal {-exit_status}")


class SignalForwarder:
    """Forwards the stop signals of this process to others, as the SIGTERM that makes a run save its state."""

    def __init__(self) -> None:
        self.asked_to_stop = False
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "SignalForwarder":
        raise_pending_stop()
        self._previous = {number: signal.signal(number, self._forward) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def to(self, process: subprocess.Popen[bytes]) -> None:
        """Forward signals to ``process`` too, also those that came already."""
        self._processes.append(process)
        if self.asked_to_stop:
            process.send_signal(signal.SIGTERM)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self.asked_to_stop = True
        for process in self._processes:
            process.send_signal(signal.SIGTERM)


def quiet_torchrun(arguments: list[str]) -> int:
    """torchrun, quiet: its traceback and its log of failed ranks are left out, since rank zero has printed why.

    A rank that a signal killed could not, so that is printed here. Returns the exit status: 0, or the ranks' own 2 or
    75, or 1 if a rank failed otherwise or a signal ended the agent.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    logging.disable(logging.ERROR)
    if "--standalone" in arguments:
        _host_stores_on_loopback()
    try:
        main(arguments)
    except ChildFailedError as error:
        for rank_number, failure in sorted(error.failures.items()):
            if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:  # SIGTERM is torchrun's own to the others
                name = signal.Signals(-failure.exitcode).name
                print(f"error: rank {rank_number} was killed by {name}", file=sys.stderr, flush=True)
        codes = {failure.exitcode for failure in error.failures.values()}
        return next((code for code in (JobError.exit_status, Interrupted.exit_status) if code in codes), 1)
    except SignalException:
        return 1
    finally:
        for each in (each for each in arguments if each.startswith(_LOGS)):
            shutil.rmtree(each.removeprefix(_LOGS), ignore_errors=True)
    return 0


def _host_stores_on_loopback() -> None:
    """Have torchrun's stores listen on the loopback interface alone.

    There are two, they listen on every address of the machine, and what one of them holds is unpickled.
    """
    import torch.distributed as dist
    from torch.distributed.elastic.rendezvous import c10d_rendezvous_backend

    class LoopbackStore(dist.TCPStore):
        def __init__(self, host_name: str, port: int, **options: Any) -> None:
            if options.get("is_master"):
                options["master_listen_fd"] = loopback_listener(_LOOPBACK, port)
                with socket.socket(fileno=os.dup(options["master_listen_fd"])) as listener:
                    port = listener.getsockname()[1]
            super().__init__(host_name, port, **options)

    for module in (dist, c10d_rendezvous_backend):
        vars(module)["TCPStore"] = LoopbackStore


if __name__ == "__main__":
    guard_output()
    sys.exit(quiet_torchrun(sys.argv[1:]))
