"""The cache folder: one of this user alone, what it holds, and how long that stays."""

import json
import os
import re
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fer_ddp.errors import RunError
from fer_ddp.signals import check_stopped
from fer_ddp.text import join_names, plural, size_text
from shards.files import FileLock, user_path, write_json

DAYS_UNUSED = 90
"""A data set that no process has opened for so long is removed when another is written."""
SHARE_OF_DISK = 4
"""Above a quarter of the disk, the data sets unused for longest are removed when another is written."""
_USED, _SOURCE = "used.lock", "source.json"
_HELD: dict[Path, FileLock] = {}


def cache_folder() -> Path:
    """Where decoded splits are kept; it is made if there is none, and nobody but this user can write to it.

    ``FER_DDP_CACHE``, ``fer_ddp`` in ``XDG_CACHE_HOME``, or a folder ``fer_ddp-UID`` in the temporary folder; this last
    one also inside a folder where all users may make one, if that is what the variable names. Raises RunError if
    another user could change what is in it, which is then not to be trusted, or if it can't be made.
    """
    named = _named()
    if os.name == "nt":  # the temporary folder is the user's own there
        return named or Path(tempfile.gettempdir()) / "fer_ddp"
    folder = named or Path(tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
        if named is not None and found.st_uid == os.getuid() and not found.st_mode & stat.S_IWOTH:
            return folder
        # Who may rename a folder could put another in its place: its owner, and where nothing prevents it, all users.
        owners = (0, os.getuid(), os.stat("/").st_uid)  # in a container root may have another number
        if found.st_uid not in owners or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
            raise _not_own(folder)
        return own_folder(folder / f"fer_ddp-{os.getuid()}")
    except OSError as error:
        raise no_room(Path(error.filename or folder), "decoded splits", error) from None


def _named() -> Path | None:
    if os.environ.get("FER_DDP_CACHE"):
        return user_path(os.environ["FER_DDP_CACHE"])
    return Path(os.environ["XDG_CACHE_HOME"]) / "fer_ddp" if os.environ.get("XDG_CACHE_HOME") else None


def own_folder(path: Path) -> Path:
    """``path``, a folder that is made if there is none. Raises RunError if it is a link or not this user's alone."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    if os.name != "nt" and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise _not_own(path)
    return path


def _not_own(folder: Path) -> RunError:
    return RunError(
        f"{folder}: is a link, or belongs to another user or can be written by one, so decoded splits are not kept "
        f"there; remove it, or set FER_DDP_CACHE to a folder of your own on a local disk"
    )


def no_room(target: Path, what: str, error: OSError) -> RunError:
    """The error for ``what`` that could not be written to ``target``, in the cache folder."""
    return RunError(
        f"{target}: {what} can't be kept there ({error.strerror or error}); "
        f"set FER_DDP_CACHE to a folder with room on a local disk"
    )


def hold_entry(digest: str, data: Path) -> Path:
    """The folder in the cache of the data set ``data`` with this ``digest``, which is now in use until this process
    ends. Raises as `cache_folder`, and OSError.
    """
    entry = cache_folder() / digest[:32]
    # Each time: where a group may write to the cache folder, a member could have put another entry in its place.
    while not (own_folder(entry) / _USED).exists() or entry not in _HELD:
        lock = FileLock(entry / _USED, shared=True, while_waiting=check_stopped)
        try:
            lock.acquire()
        except FileNotFoundError:  # it was removed at this moment
            continue
        _HELD[entry] = lock
    os.utime(entry / _USED)
    folder = Path(os.path.abspath(data))
    if _source(entry) != folder:
        write_json(entry / _SOURCE, {"folder": str(folder)})
    return entry


def _source(entry: Path) -> Path | None:
    try:
        return Path(json.loads((entry / _SOURCE).read_bytes())["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheEntry:
    """What the cache holds of one data set."""

    path: Path
    data: Path | None
    """Where the data set was when it was last opened; None if that is not known."""
    bytes: int
    last_used: float
    """Seconds since 1970."""

    @property
    def data_exist(self) -> bool:
        """Whether there still is a folder where the data set was."""
        return self.data is not None and self.data.is_dir()

    def remove(self) -> bool:
        """Remove it; False if it is in use, in this process or another."""
        lock = FileLock(self.path / _USED)
        try:
            lock.acquire(wait=False)
        except OSError:
            return False
        try:
            for path in self.path.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != _USED:
                    path.unlink(missing_ok=True)
            (self.path / _USED).unlink(missing_ok=True)  # last: who waits for it then makes a new one
            self.path.rmdir()
        except OSError:
            return not self.path.exists()
        finally:
            lock.release()
        return True


def cache_entries(folder: Path) -> list[CacheEntry]:
    """What the cache ``folder`` holds, the one unused for longest first."""
    paths = [path for path in folder.glob("*") if re.fullmatch("[0-9a-f]{32}", path.name)]
    entries = [entry for entry in map(_entry, paths) if entry is not None]
    return sorted(entries, key=lambda entry: entry.last_used)


def _entry(path: Path) -> CacheEntry | None:
    """None for what is not this user's folder, or has just been removed."""
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or (os.name != "nt" and found.st_uid != os.getuid()):
            return None
        used = path / _USED
        last_used = used.stat().st_mtime if used.exists() else found.st_mtime  # a version without it made the folder
        size = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    except OSError:
        return None
    return CacheEntry(path=path, data=_source(path), bytes=size, last_used=last_used)


def prune_cache(
    folder: Path, *, days: float | None = None, max_bytes: int | None = None, absent_data: bool = False
) -> list[CacheEntry]:
    """Remove what nobody has used for ``days`` (default `DAYS_UNUSED`), with ``absent_data`` also that of data sets
    that are gone, and then those unused for longest until at most ``max_bytes`` remain (default: a share of the disk).

    What is in use stays. Returns what was removed.
    """
    entries = cache_entries(folder)
    since = time.time() - 86400 * (DAYS_UNUSED if days is None else days)
    limit = shutil.disk_usage(folder).total // SHARE_OF_DISK if max_bytes is None else max_bytes
    total = sum(entry.bytes for entry in entries)
    removed = []
    for entry in entries:
        unwanted = entry.last_used <= since or (absent_data and not entry.data_exist) or total > limit
        if unwanted and entry.remove():
            removed.append(entry)
            total -= entry.bytes
    return removed


def make_room(folder: Path, new_bytes: int) -> None:
    """Apply the limits of `prune_cache` before ``new_bytes`` are written, and print what was removed."""
    removed = prune_cache(folder, max_bytes=max(0, shutil.disk_usage(folder).total // SHARE_OF_DISK - new_bytes))
    if removed:
        print(f"{removed_text(removed)}; `fer-ddp cache` lists the others", flush=True)


def removed_text(removed: list[CacheEntry]) -> str:
    """What `prune_cache` removed, in a few words."""
    names = join_names([str(entry.data or entry.path) for entry in removed]) if removed else "nothing"
    return f"removed from the cache: {names} ({size_text(sum(entry.bytes for entry in removed))})"


def cache_table(folder: Path) -> str:
    """A line for each data set in the cache ``folder``: size, last use, where its data are, its folder in the cache."""
    entries = cache_entries(folder)
    lines = [f"{folder}: {plural(len(entries), 'data set')}, {size_text(sum(entry.bytes for entry in entries))}"]
    if entries:
        lines.append(f"{'size':>10}  {'last used':<16}  data set")
    for entry in reversed(entries):
        data = f"{entry.data or 'unknown'}{'' if entry.data_exist else ' (no longer there)'}"
        used = datetime.fromtimestamp(entry.last_used).isoformat(" ", "minutes")
        lines.append(f"{size_text(entry.bytes):>10}  {used}  {data}, in {entry.path.name}")
    return "\n".join(lines)
