"""How a rank meets the others, without torch: torchrun's variables, checked, and a wait for them that has an end.

Ranks of one machine also share memory: `LocalRanks`.
"""

import mmap
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from fer_ddp.errors import JobError, RunError

RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

NOTICE_SECONDS = 15
"""How long a rank waits for the others before it says so."""


def launched() -> bool:
    """Whether torchrun (or anything that sets its variables) started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_main() -> bool:
    """Whether this process prints for all ranks; also where the variables are wrong, so that somebody does."""
    try:
        check_rank_variables()
    except JobError:
        return True
    return not launched() or int(os.environ["RANK"]) == 0


def check_rank_variables() -> None:
    """Raises JobError if the variables are not those of one rank among others, naming the one that is wrong."""
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        return
    ranks = _number("WORLD_SIZE", 1, None)
    _number("RANK", 0, ranks - 1)
    if ranks == 1:
        return
    _number("LOCAL_RANK", 0, _number("LOCAL_WORLD_SIZE", 1, ranks, default=ranks) - 1)
    if not os.environ.get("MASTER_ADDR", "").strip():
        raise _wrong("MASTER_ADDR", "the name of the machine of rank 0")
    _number("MASTER_PORT", 1, 65535)


def how_to_unset() -> str:
    """Such as ``unset RANK WORLD_SIZE``, with those that are set."""
    return f"unset {' '.join(name for name in RANK_VARIABLES if name in os.environ)}"


def _number(name: str, least: int, most: int | None, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    number = int(text) if text.isdecimal() and len(text) < 10 else -1  # int() takes " 1" and "1_0" too
    if number < least or (most is not None and number > most):
        raise _wrong(name, f"a number from {least} to {most}" if most is not None else f"a number from {least}")
    return number


def _wrong(name: str, right: str) -> JobError:
    found = f"is {os.environ[name]!r}" if name in os.environ else "is not set"
    return JobError(
        f"{name}: {found}; it must be {right}. torchrun sets it for each rank; if the variables are left over, "
        f"remove them: {how_to_unset()}"
    )


def loopback_listener(host: str, port: int) -> int | None:
    """The descriptor of a socket that listens at ``host``, for the store of the ranks of one machine.

    torch's own socket listens on every address of the machine, and who can connect to the store can disturb the ranks.
    None where ``host`` is not this machine's loopback address. Raises OSError if the port is taken.
    """
    try:
        address = socket.gethostbyname(host)
    except OSError:  # it has an IPv6 address alone
        return None
    return socket.create_server((address, port)).detach() if address.startswith("127.") else None


def unreachable(host: str, port: int | None) -> str | None:
    """Why nothing can connect to ``host`` now, for None why its name is not known; None if it can."""
    try:
        if port is None:
            socket.getaddrinfo(host, None)
        else:
            socket.create_connection((host, port), timeout=5).close()
    except (socket.gaierror, UnicodeError) as error:
        return f"the name {host} can't be resolved ({getattr(error, 'strerror', error)})"
    except OSError as error:
        return f"no connection was possible ({error.strerror or error})"
    return None


class Waiting:
    """For the other ranks: prints the reason after `NOTICE_SECONDS`, and ends after `join_seconds`.

    ``report`` prints why this rank ends.
    """

    def __init__(self, what: str, report: Callable[[str], None]) -> None:
        self._what, self._report = what, report
        self._began, self._is_told = time.monotonic(), False

    def pause(self, problem: str, *, is_loud: bool) -> None:
        """Wait a moment, in which signals are handled. Raises RunError once there was time enough."""
        waited = time.monotonic() - self._began
        if waited > join_seconds():
            raise self.failure(f"{problem} within {waited:.0f} s", is_loud=is_loud)
        if is_loud and waited > NOTICE_SECONDS and not self._is_told:
            self._is_told = True
            print(f"{self._what}: {problem} so far; {_remedy()}", file=sys.stderr, flush=True)
        time.sleep(0.05)

    def failure(self, problem: str, *, is_loud: bool) -> RunError:
        """The error; one that `is_loud` is also reported here."""
        message = f"{self._what}: {problem}; {_remedy()}"
        if is_loud:
            self._report(message)
        return RunError(message)


def _remedy() -> str:
    return f"start all ranks, best by torchrun or `fer-ddp launch`; to train on one rank alone: {how_to_unset()}"


def join_seconds() -> float:
    """How long a rank waits for others: a cluster's nodes may load torch at very different speeds."""
    return 300 if "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_PROCID" in os.environ else 35


class PeerFailure(RuntimeError):
    """Another rank exited, or did not come in time."""


class LocalRanks:
    """This rank among others of the same machine: memory that all of them read and write, and a way to wait.

    Nothing of it has a name in a file system, so a killed rank leaves nothing behind, and nobody else can open it.
    """

    memory: mmap.mmap
    """The same bytes for all ranks, 0 at first."""

    def __init__(self, rank: int, ranks: int, size: int) -> None:
        self._rank, self._ranks, self._size = rank, ranks, size
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(join_seconds())
        self._peers: dict[int, socket.socket] = {}
        # Of each peer: the event that it sets for this rank, the one that this rank sets for it, and what ends a wait.
        self._heard: dict[int, int] = {}
        self._told: dict[int, int] = {}
        self._polls: dict[int, select.poll] = {}
        self._shared: list[int] = []
        self._milliseconds: float | None = 1000 * join_seconds()

    @classmethod
    def connect(cls, rank: int, ranks: int, size: int, gather: Callable[[Any], list[Any]]) -> "LocalRanks | None":
        """Share ``size`` bytes; None, on every rank, where a rank can't. All ``ranks`` must call it.

        ``gather`` returns what each rank passes to it, in the order of the ranks.
        """
        local = cls(rank, ranks, size)
        found: list[Any] = []
        for step in (local._listen, local._connect, local._accept, local._share):
            try:
                mine = step(found)
            except OSError:
                local.close()  # so that no other rank waits for this one
                mine = None
            found = gather(mine)
            if None in found:
                local.close()
                return None
        local._listener.close()
        return local

    def _listen(self, _: list[Any]) -> bytes | None:
        if not hasattr(os, "eventfd"):  # of Linux, as the names below are
            return None
        self._listener.bind("")  # the kernel gives it a name that is not a file's
        self._listener.listen(self._ranks)
        return bytes(self._listener.getsockname())

    def _connect(self, names: list[bytes]) -> bool:
        for number, name in enumerate(names[: self._rank]):
            peer = self._peers[number] = socket.socket(socket.AF_UNIX)
            peer.settimeout(join_seconds())
            peer.connect(name)  # refused where that rank is on another machine
            if not _is_own(peer):
                raise PermissionError(f"rank {number} is another user's")
            peer.sendall(struct.pack("i", self._rank))
        return True

    def _accept(self, _: list[Any]) -> bool:
        while len(self._peers) < self._ranks - 1:
            peer, _address = self._listener.accept()
            if not _is_own(peer):  # anybody on this machine can connect
                peer.close()
                continue
            peer.settimeout(join_seconds())
            self._peers[struct.unpack("i", peer.recv(4))[0]] = peer
        self._peers = dict(sorted(self._peers.items()))
        return True

    def _share(self, _: list[Any]) -> bool:
        if self._rank == 0:
            self._shared.append(os.memfd_create("fer_ddp"))
            os.fchmod(self._shared[0], 0o600)
            os.ftruncate(self._shared[0], self._size)
        for number, peer in self._peers.items():
            self._heard[number] = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
            socket.send_fds(peer, [b"."], [self._heard[number], *(self._shared if self._rank == 0 else [])])
            poll = self._polls[number] = select.poll()
            poll.register(self._heard[number], select.POLLIN)
            poll.register(peer, 0)  # its end alone
        for number, peer in self._peers.items():
            data, descriptors, _flags, _name = socket.recv_fds(peer, 1, 2, socket.MSG_CMSG_CLOEXEC)
            if not data:
                raise ConnectionResetError  # that rank can't
            self._told[number] = descriptors[0]
            self._shared += descriptors[1:]
        self.memory = mmap.mmap(self._shared[0], self._size)
        return True

    def wait(self) -> None:
        """Return once all ranks are here. Raises PeerFailure if one has exited, or does not come in time.

        By eventfd: a byte over a socket would tell Linux that its sender is about to sleep, for which it wakes the
        other rank on the sender's core, where both then compute.
        """
        for event in self._told.values():
            os.eventfd_write(event, 1)
        for number, event in self._heard.items():
            ready = [descriptor for descriptor, _ in self._polls[number].poll(self._milliseconds)]
            if event not in ready:
                raise PeerFailure("Connection closed by peer" if ready else "timed out")
            os.eventfd_read(event)

    def set_timeout(self, seconds: float | None) -> None:
        """How long `wait` waits; None for as long as it takes."""
        self._milliseconds = None if seconds is None else 1000 * seconds

    def close(self) -> None:
        """Close the connections; where others wait, they see that this rank is gone."""
        for each in (self._listener, *self._peers.values()):
            each.close()
        for descriptor in (*self._heard.values(), *self._told.values(), *self._shared):
            os.close(descriptor)
        self._heard, self._told, self._shared = {}, {}, []


def _is_own(peer: socket.socket) -> bool:
    """Whether a process of this user is at the other end."""
    _pid, user, _group = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == os.geteuid())
