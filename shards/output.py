"""Standard output and error that may close or fill up: a command with work to do continues without them.

Of a command whose output is its result, that is the end, with the status of SIGPIPE, as of ``fer-ddp keys | head -1``.
"""

import argparse
import errno
import io
import os
import sys

PIPE_CLOSED = 128 + 13
"""The exit status that a shell reports of a program that SIGPIPE ended."""


class _Descriptor(io.RawIOBase):
    """A file descriptor; what cannot be written to it is dropped."""

    is_result = False
    """Of all: whether the command has nothing to do but to write its output."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name, self._is_lost = descriptor, name, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override]
        if not self._is_lost:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                raise
            except OSError as error:
                self._is_lost = True
                is_closed = error.errno == errno.EPIPE
                if not is_closed and self._name == "stdout":
                    print(f"stdout: {error.strerror}; what follows is not printed", file=sys.stderr, flush=True)
                if _Descriptor.is_result:
                    raise SystemExit(PIPE_CLOSED if is_closed else 1) from None
        return len(data)


def guard_output() -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams that raise no error, for a process that is a command.

    What the terminal's encoding lacks is printed as an escape. Standard streams that whoever started the process has
    closed are opened on nothing, lest a file gets their number.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for descriptor, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  for good
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream.flush()
        guarded = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(stream.fileno(), name)),  # type: ignore[type-var]
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, guarded)


def execute(options: argparse.Namespace) -> int:
    """Run the command that was parsed, ``options.execute(options)``; returns its exit status.

    ``options.is_result``: whether its output is its result.
    """
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries that cannot be loaded then end the process
        print("error: the working folder was removed; change into another one, such as: cd ~", file=sys.stderr)
        return 2
    _Descriptor.is_result = getattr(options, "is_result", False)
    try:
        status = int(options.execute(options))
        sys.stdout.flush()
        return status
    finally:
        _Descriptor.is_result = False
