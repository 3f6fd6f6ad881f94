"""Files that are whole or absent, their digests, and a lock that processes share."""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from shards.errors import DataError


def user_path(text: str) -> Path:
    """The path that a user gives, where ``~`` is the home folder also where no shell has replaced it."""
    return Path(os.path.expanduser(text))


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, sees the old file or the new one, never a part.

    Raises OSError, with ``path`` as its file name, if it cannot be written, also for a device or a pipe, which would
    be replaced by a file; then ``path`` is as it was.
    """
    try:
        if path.exists():
            _check_regular(os.stat(path), path)
        temporary, file = _new_temporary(path)
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if os.name != "nt":  # while it is locked; Windows renames no open file
                    os.replace(temporary, path)
            if os.name == "nt":
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk's error names no file
    sync_folder(path.parent)


def _new_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file beside ``path`` under a name that nobody can foresee: in a shared folder another user may leave links.

    It is locked; those of writers that were killed are not, and are removed.
    """
    stem = f".{path.name[:50]}."  # names have 255 bytes at most
    for name in os.listdir(path.parent):
        if name.startswith(stem) and re.fullmatch(r"[0-9a-f]{16}\.tmp", name[len(stem) :]):
            _remove_unlocked(path.parent / name)
    while True:
        temporary = path.parent / f"{stem}{os.urandom(8).hex()}.tmp"
        file = open(temporary, "xb")  # noqa: SIM115  which follows no link; the caller closes it
        if _try_lock(file) is not False and os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()  # another process took it for a leftover
        temporary.unlink(missing_ok=True)


def _remove_unlocked(path: Path) -> None:
    try:
        with os.fdopen(_open_regular(path, os.O_RDWR), "rb") as file:
            if _try_lock(file):
                path.unlink()
    except OSError:
        return  # gone, or another user's


@contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` for what will become it; removed at the end, however that comes.

    Where the process is killed, the next `remove_partial_folders` removes it. Raises OSError if it cannot be made.
    """
    folder, descriptor = _new_folder(out)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _new_folder(out: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        if os.name == "nt":
            return folder, None
        descriptor = os.open(folder, os.O_RDONLY)
        if _try_lock(descriptor) is not False and _is_at(descriptor, folder):
            return folder, descriptor
        os.close(descriptor)  # another process took it for a leftover


def remove_partial_folders(out: Path) -> list[Path]:
    """Remove what killed processes have left of ``out``, see `partial_folder`; returns the folders."""
    folders = sorted(out.parent.glob(f".{glob.escape(out.name)}.partial-*"))
    return [folder for folder in folders if _remove_abandoned(folder)]


def _remove_abandoned(folder: Path) -> bool:
    if os.name == "nt":
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # no folder, or another user's
        return False
    try:
        if os.fstat(descriptor).st_uid != os.getuid() or not _try_lock(descriptor) or not _is_at(descriptor, folder):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    finally:
        os.close(descriptor)


SMALL = 1 << 26
"""Bytes that a file of names and numbers has at most: a manifest, a list, a run's files."""


def read_regular(path: str | Path, *, at_most: int = 1 << 28) -> bytes:
    """The bytes of a file.

    Raises OSError, also for what is no file, since a pipe or a device might never end, and for more than ``at_most``
    bytes: a file of any size can be made out of nothing, and would fill the memory.
    """
    if "\0" in str(path):  # for which Python raises ValueError
        raise OSError(errno.EINVAL, "has a zero byte in its name", str(path))
    check_regular(path)  # opening a device may do something
    with os.fdopen(_open_regular(path, os.O_RDONLY, links=True), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > at_most:
            raise OSError(errno.EFBIG, f"has {size:,} bytes, more than the {at_most:,} of such a file", str(path))
        content: bytes = file.readall()
        return content


def only_regular(path: str, flags: int) -> int:
    """For ``open(path, opener=only_regular)``: raises OSError for what is no file, since a pipe might never end."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "has a zero byte in its name", path)
    check_regular(path)  # opening a device may do something
    return _open_regular(path, flags, links=True)


def read_lines(path: Path) -> list[str]:
    """The lines of a list, in UTF-8. Raises :class:`DataError` for what is not such a file or cannot be read."""
    try:
        return read_regular(path, at_most=SMALL).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from error


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also for one that is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def append_bytes(path: Path, content: bytes) -> None:
    """Add ``content`` to the end of a file. Raises OSError, with ``path`` as its file name, as `open_to_append`."""
    try:
        with open_to_append(path) as file:
            file.write(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # a full disk's error names no file


def open_to_append(path: Path) -> IO[bytes]:
    """Open a file, which is made if there is none, to add to its end.

    Raises OSError, also for a link or a pipe: a run folder may come from another user.
    """
    return os.fdopen(_open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")


def _open_regular(path: str | Path, flags: int, *, links: bool = False) -> int:
    """A descriptor of the file ``path``. Raises OSError for anything else, and for a link unless ``links``."""
    follow = 0 if links else getattr(os, "O_NOFOLLOW", 0)
    binary = getattr(os, "O_BINARY", 0)  # Windows
    try:
        # Without O_NONBLOCK the opening of a pipe waits for its other end.
        descriptor = os.open(path, flags | follow | binary | getattr(os, "O_NONBLOCK", 0), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and os.path.islink(path):
            raise OSError(errno.ELOOP, "is a link, which is not followed; remove it", str(path)) from None
        raise
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(path: str | Path) -> None:
    """Raises OSError for what is no file, before something opens ``path`` by its name and waits for a pipe."""
    _check_regular(os.stat(path), path)


def _check_regular(found: os.stat_result, path: str | Path) -> None:
    """Raises OSError for what is no file."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file", str(path))
    kind = _irregular(found.st_mode)
    if kind:
        raise OSError(errno.EINVAL, f"is {kind}, not a file", str(path))


def irregular(path: str | Path) -> str:
    """What ``path``, or what it links to, is, such as ``a named pipe``; empty for a file or a folder.

    Raises OSError if there is nothing.
    """
    return _irregular(os.stat(path).st_mode)


def _irregular(mode: int) -> str:
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


def atomic_write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with :func:`atomic_write_bytes`.

    Bytes of a file's name that are no UTF-8 are surrogates in Python; they are written as ``\\udcff``, in JSON as well.
    """
    atomic_write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with :func:`atomic_write_text`."""
    atomic_write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits. Raises OSError, also for what is no file."""
    with open(path, "rb", opener=only_regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileLock:
    """A lock between processes of one machine: ``with FileLock(path):`` waits until no other process holds it.

    A ``shared`` one is held by any number of processes at once, and by none while one holds it alone. The system
    releases it when the process that holds it ends, however it ends; the file ``path`` stays. Windows has no such lock:
    there nothing is locked. ``while_waiting`` is called ten times a second of waiting, which ends if it raises.
    """

    def __init__(self, path: Path, *, shared: bool = False, while_waiting: Callable[[], None] | None = None) -> None:
        self._path, self._shared, self._while_waiting = path, shared, while_waiting
        self._file: IO[bytes] | None = None

    def acquire(self, *, wait: bool = True) -> None:
        """Take the lock. Raises BlockingIOError if another process holds it and ``wait`` is False.

        OSError if the file can't be made or is a link or a pipe, which another user may have left.
        """
        while self._file is None:
            file = os.fdopen(_open_regular(self._path, os.O_RDWR | os.O_CREAT), "rb")
            try:
                _lock(file, wait and self._while_waiting is None, self._shared)
                if _is_at(file.fileno(), self._path):
                    self._file = file
            except BlockingIOError:
                if not wait or self._while_waiting is None:
                    raise
                self._while_waiting()
                time.sleep(0.1)
            finally:
                if self._file is None:  # the one that held it removed the file, so another process may hold a new one
                    file.close()

    def release(self) -> None:
        """Let the next process have it; does nothing if the lock is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_in_place(self) -> bool:
        """Whether the lock is held and its file is where it was: nobody removed it, or a folder above it."""
        return self._file is not None and _is_at(self._file.fileno(), self._path)

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _lock(file: IO[bytes] | int, wait: bool, shared: bool = False) -> None:
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def _try_lock(file: IO[bytes] | int) -> bool | None:
    """Whether this process has the lock of a file, or descriptor, now; None where its system or Windows has none."""
    if os.name == "nt":
        return None
    try:
        _lock(file, wait=False)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
