"""A server in W&B's place that hangs, lies or fails."""

import contextlib
import itertools
import os
import signal
import socket
import time
from collections.abc import Iterator

BEHAVIOURS = ("silent", "closed", "full of nonsense", "a web page", "failing", "of another shape", "slow", "turning")
_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


@contextlib.contextmanager
def lying_server(behaviour: str, nonsense: bytes) -> Iterator[str]:
    """The address of a server of this behaviour, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        pid = os.fork()
        if not pid:
            try:
                _serve(server, url, behaviour, nonsense)
            finally:
                os._exit(0)
    try:
        yield url
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _serve(server: socket.socket, url: str, behaviour: str, nonsense: bytes) -> None:
    kept = []
    for number in itertools.count():
        connection, _ = server.accept()
        kept.append(connection)  # open until this process ends
        with contextlib.suppress(OSError):
            if behaviour == "closed":
                connection.close()
                continue
            if behaviour == "silent":
                continue
            connection.settimeout(1)
            connection.recv(2**16)
            if behaviour == "slow":
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"[:20]:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.2)
                continue
            connection.sendall(_reply(behaviour, url, nonsense, number))
            connection.close()


def _reply(behaviour: str, url: str, nonsense: bytes, number: int) -> bytes:
    if behaviour == "turning":
        return b"HTTP/1.1 302 Found\r\nLocation: %s/%d\r\nContent-Length: 0\r\n\r\n" % (url.encode(), number)
    status, body = {
        "full of nonsense": (b"200 OK", nonsense),
        "a web page": (b"200 OK", b"<html><title>Please log in to the network</title></html>"),
        "failing": (b"500 Internal Server Error", b"{}"),
        "of another shape": (b"200 OK", b'{"data": {"viewer": [1, null, {"id": {}}], "serverInfo": 7, "model": ""}}'),
    }[behaviour]
    return _HEAD % (status, len(body), body)
