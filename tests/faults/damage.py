"""Damaged files: a flipped bit, a cut or zeros in a file of a run, its data or its cache, before it is read again."""

import shutil
from pathlib import Path

from laboratory import CACHE, DATA, RUN, Ended, Failure, Fault, check_refusal, no_traceback
from strikes import interrupt


def damaged_run(fault: Fault) -> str:
    """A bit of a file of the run is flipped, or the file is cut, before the run is resumed."""
    return _resume_damaged(fault, RUN)


def damaged_state(fault: Fault) -> str:
    """The same of a checkpoint."""
    return _resume_damaged(fault, f"{RUN}/checkpoints")


def damaged_data(fault: Fault) -> str:
    """The same of a shard or the manifest, with the cache or without."""
    return _resume_damaged(fault, DATA, without_cache=fault.random.random() < 0.7)


def damaged_cache(fault: Fault) -> str:
    """The same of a file of the cache."""
    return _resume_damaged(fault, CACHE)


READERS = {"report": ("run", "--out", "page.html"), "launch": ("status", "run"), "evaluate": ("run", "--out", "again")}
"""Commands that read a finished run, with their arguments."""


def damaged_reading(fault: Fault) -> str:
    """A command reads a finished run, its data or its cache, of which a file is damaged."""
    shutil.rmtree(fault.folder / DATA)
    for name in (RUN, DATA, CACHE):
        shutil.copytree(fault.finished / name, fault.folder / name)
    where = fault.random.choice((RUN, RUN, RUN, RUN, f"{RUN}/checkpoints", DATA, CACHE))
    command = fault.random.choice(("report", "launch", "evaluate") if where == RUN else ("evaluate",))
    words = [command, *READERS[command]]
    if where == DATA and fault.random.random() < 0.5:
        words = ["verify", DATA]
    fault.note(" ".join(words))
    whole = _read(fault, words)
    path = some_file(fault, where)
    path.write_bytes(damage(path.read_bytes(), fault))
    if where == DATA:
        shutil.rmtree(fault.folder / CACHE)
    damaged = _read(fault, words)
    if damaged[0].is_success and damaged[1] == whole[1]:
        return "same bytes"
    if not damaged[0].is_success:
        check_refusal(damaged[0], names_of(fault, path))
        return "refused"
    differing = [name for name in whole[1] | damaged[1] if whole[1].get(name) != damaged[1].get(name)]
    if not any(path.name.encode() in damaged[1].get(name, b"") for name in differing):
        raise Failure(f"is used in silence for {', '.join(differing)}: {damaged[0]}")
    return "told"


def _read(fault: Fault, words: list[str]) -> tuple[Ended, dict[str, bytes]]:
    """(how the command ended, what it printed and wrote, by name)."""
    ended = no_traceback(fault.start(command=words).wait())
    written = {"output": ended.output.encode()}
    for path in sorted([*fault.folder.glob("page.*"), *fault.folder.joinpath("again").rglob("*.*")]):
        written[path.name] = path.read_bytes()
        path.unlink()
    return ended, written


def some_file(fault: Fault, folder: str) -> Path:
    files = sorted(path for path in (fault.folder / folder).rglob("*") if path.is_file() and path.stat().st_size)
    path = fault.random.choice(files)
    fault.note(f"of {path.relative_to(fault.folder)}")
    return path


def names_of(fault: Fault, path: Path) -> tuple[str, ...]:
    """One of these must be in a refusal for ``path``: its name, or that of its run or data set."""
    folder = path.relative_to(fault.folder).parts[0]
    return (path.name.removeprefix("next_"), f"{folder}:")  # a resumed run gives next_best its final name


def damage(content: bytes, fault: Fault) -> bytes:
    """``content`` with a flipped bit, or without its end, or with zeros."""
    place = fault.random.randrange(len(content))
    how = fault.random.choice(("flip", "flip", "flip", "cut", "zeros"))
    if how == "cut":
        fault.note(f"cut to {place} bytes")
        return content[:place]
    if how == "zeros":
        fault.note(f"zeros from byte {place}")
        return content[:place] + bytes(len(content) - place)
    bit = fault.random.randrange(8)
    fault.note(f"bit {bit} of byte {place} flipped")
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def _resume_damaged(fault: Fault, folder: str, without_cache: bool = False) -> str:
    interrupt(fault)
    path = some_file(fault, folder)
    whole = path.read_bytes()
    path.write_bytes(damage(whole, fault))
    if without_cache:
        shutil.rmtree(fault.folder / CACHE)

    def undo() -> None:
        path.write_bytes(whole)

    if folder != DATA or without_cache:
        return fault.settle(undo, names_of(fault, path))
    return fault.settle(undo)
