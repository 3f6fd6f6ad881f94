"""Files that are whole or absent, their digests, and a lock that processes share."""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import IO, Any


def user_path(text: str) -> Path:
    """The path that a user gives, where ``~`` is the home folder also where no shell has replaced it."""
    return Path(os.path.expanduser(text))


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, sees the old file or the new one, never a part.

    Raises OSError, with ``path`` as its file name, if it cannot be written; then ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # Another user of a shared folder may have left a link under this name: it is removed and never followed.
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk's error names no file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_regular(path: str | Path) -> bytes:
    """The bytes of a file. Raises OSError, also for what is no file: a pipe or a device might never end."""
    kind = irregular(path)
    if kind:
        raise OSError(0, f"is {kind}, not a file", str(path))
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def irregular(path: str | Path) -> str:
    """What ``path``, or what it links to, is, such as ``a named pipe``; empty for a file or a folder.

    Raises OSError if there is nothing.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileLock:
    """A lock between processes of one machine: ``with FileLock(path):`` waits until no other process holds it.

    The system releases it when the process that holds it ends, however it ends; the file ``path`` stays. Windows has
    no such lock: there nothing is locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def acquire(self, *, wait: bool = True) -> None:
        """Take the lock. Raises BlockingIOError if another process holds it and ``wait`` is False."""
        file = open(self._path, "a")  # noqa: SIM115  open for as long as the lock is held
        try:
            _lock(file, wait)
        except BaseException:
            file.close()
            raise
        self._file = file

    def release(self) -> None:
        """Let the next process have it; does nothing if the lock is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _lock(file: IO[str], wait: bool) -> None:
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
