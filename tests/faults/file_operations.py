"""Strikes a process before its nth change of a file: what a kill, a full disk or a power cut finds half done.

`FileOperations.install` replaces Python's own functions in this process, so the program under test is the real one.
"""

import builtins
import errno
import io
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


class FileOperations:
    """Counts this process's changes of files below ``folder``, and calls ``strike`` before number ``strike_at``.

    A change is an opening to write, a write, fsync, rename, mkdir, unlink or a reservation of space. ``names`` holds
    them, such as ``write metrics.jsonl``. What has not been synced is remembered, for `power_cut`.
    """

    def __init__(self, folder: Path, strike_at: int, strike: Callable[["FileOperations"], None]) -> None:
        self.folder, self.strike_at, self._strike = str(folder), strike_at, strike
        self.names: list[str] = []
        self.error: int | None = None
        """From now on each write fails with it."""
        self._unsynced: dict[str, int] = {}
        """By path, how many bytes of a file are safe on the disk."""
        self._undo: list[tuple[str, Callable[[], None]]] = []
        """(the folder that has to be synced, what a power cut before that may undo)."""

    def install(self) -> None:
        """Replace the functions."""
        real_open, self._real_open = io.open, io.open

        def open_file(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> IO[Any]:
            path = self._path(file)
            if path is None or not set(mode) & set("wax+"):
                return real_open(file, mode, *arguments, **named)
            self._before("open", path)
            is_new = not os.path.exists(path)
            opened = real_open(file, mode, *arguments, **named)
            if is_new:
                self._undo.append((os.path.dirname(path), lambda: _remove(path)))
            self._unsynced.setdefault(path, 0 if is_new or "w" in mode else os.path.getsize(path))
            return _Written(opened, self, path)

        builtins.open = io.open = open_file  # type: ignore[assignment]
        for name, action in {
            "open": self._open,
            "fsync": self._fsync,
            "replace": self._rename,
            "rename": self._rename,
            "mkdir": self._mkdir,
            "unlink": self._unlink,
            "remove": self._unlink,
            "rmdir": self._rmdir,
            "posix_fallocate": self._reserve,
        }.items():
            setattr(os, name, _wrapped(getattr(os, name), action))

    def write(self, file: IO[Any], path: str, content: Any) -> int:
        """Write ``content``, unless the disk is full."""
        self._before("write", path)
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))  # a file object's error names no file
        return file.write(content)

    def power_cut(self, choice: random.Random) -> None:
        """Lose some of what was never synced, as a file system with a journal may, and end the process.

        Of changes of folders the last few are undone; a file keeps a part of its new bytes, or zeros.
        """
        unsynced = dict(self._unsynced)  # undoing writes files as well
        for _, undo in reversed(self._undo[choice.randint(0, len(self._undo)) :]):
            undo()
        for path, synced in unsynced.items():
            if os.path.isfile(path):
                length = os.path.getsize(path)
                kept = choice.randint(min(synced, length), length)
                os.truncate(path, kept)
                if choice.random() < 0.5:
                    os.truncate(path, length)  # the size was on the disk, the bytes were not
        os.kill(os.getpid(), signal.SIGKILL)

    def _before(self, what: str, path: str) -> None:
        self.names.append(f"{what} {os.path.basename(path)}")
        if len(self.names) == self.strike_at:
            self._strike(self)

    def _path(self, file: Any, folder: int | None = None) -> str | None:
        """The path of a name or a descriptor; None outside of the folder."""
        if isinstance(file, int):
            path = os.readlink(f"/proc/self/fd/{file}")
        else:
            within = "" if folder is None else os.readlink(f"/proc/self/fd/{folder}")
            path = os.path.abspath(os.path.join(within, os.fsdecode(file)))
        return path if path.startswith(self.folder + "/") else None

    def _open(self, real: Callable[..., Any], name: Any, flags: int, *arguments: Any, **named: Any) -> int:
        path = self._path(name, named.get("dir_fd")) if flags & os.O_CREAT else None
        if path is not None and not os.path.exists(path):
            self._before("make", path)
            self._undo.append((os.path.dirname(path), lambda: _remove(path)))
            self._unsynced[path] = 0
        return int(real(name, flags, *arguments, **named))

    def _fsync(self, real: Callable[..., Any], descriptor: int) -> None:
        path = self._path(descriptor)
        if path is not None:
            self._before("fsync", path)
            if os.path.isdir(path):
                self._undo = [each for each in self._undo if each[0] != path]
            self._unsynced.pop(path, None)
        real(descriptor)

    def _rename(self, real: Callable[..., Any], source: Any, target: Any, **named: Any) -> None:
        old, new = self._path(source), self._path(target)
        if old is None or new is None:
            real(source, target, **named)
            return
        self._before("rename", new)
        before = _content(new)
        real(source, target, **named)
        moved = {path: size for path, size in self._unsynced.items() if path == old or path.startswith(old + "/")}
        for path, size in moved.items():
            del self._unsynced[path]
            self._unsynced[new + path[len(old) :]] = size

        def undo() -> None:
            shutil.move(new, old)
            _restore(new, before)

        self._undo.append((os.path.dirname(new), undo))

    def _mkdir(self, real: Callable[..., Any], path: Any, *arguments: Any, **named: Any) -> None:
        made = self._path(path, named.get("dir_fd"))
        if made is not None and not os.path.exists(made):
            self._before("mkdir", made)
            real(path, *arguments, **named)
            self._undo.append((os.path.dirname(made), lambda: shutil.rmtree(made, ignore_errors=True)))
        else:
            real(path, *arguments, **named)

    def _unlink(self, real: Callable[..., Any], path: Any, **named: Any) -> None:
        gone = self._path(path, named.get("dir_fd"))
        before = None if gone is None else _content(gone)
        if gone is not None and before is not None:
            self._before("unlink", gone)
            self._undo.append((os.path.dirname(gone), lambda: _restore(gone, before)))
        real(path, **named)

    def _rmdir(self, real: Callable[..., Any], path: Any, **named: Any) -> None:
        gone = self._path(path, named.get("dir_fd"))
        if gone is not None:
            self._before("rmdir", gone)
        real(path, **named)

    def _reserve(self, real: Callable[..., Any], descriptor: int, offset: int, length: int) -> None:
        path = self._path(descriptor)
        if path is not None:
            self._before("reserve", path)
            if self.error is not None:
                raise OSError(self.error, os.strerror(self.error))
        real(descriptor, offset, length)


class _Written:
    """A file object whose writes are counted."""

    def __init__(self, file: IO[Any], operations: FileOperations, path: str) -> None:
        self._file, self._operations, self._path = file, operations, path

    def write(self, content: Any) -> int:
        return self._operations.write(self._file, self._path, content)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __enter__(self) -> "_Written":
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _wrapped(real: Callable[..., Any], action: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        return action(real, *arguments, **named)

    return call


def _content(path: str) -> bytes | None:
    """The bytes of a file; None if there is none."""
    if not os.path.isfile(path):
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 2**30)
    finally:
        os.close(descriptor)


def _restore(path: str, content: bytes | None) -> None:
    if content is not None and os.path.isdir(os.path.dirname(path)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(descriptor, content)
        os.close(descriptor)


def _remove(path: str) -> None:
    if os.path.isfile(path):
        os.unlink(path)


FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""A write's errors that more room, or another disk, ends."""
