"""The steps that make an input: files are written, copied from whole ones, and damaged in ways that checks let pass."""

import json
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DELETED = "\0deleted"


def whole(path: Path) -> bytes | None:
    """The content of a file; None for what an earlier step made something else, which may never end."""
    is_small = path.is_file() and not path.is_symlink() and path.stat().st_size < 10**7
    return path.read_bytes() if is_small else None


def write(path: Path, content: bytes, bases: Path) -> None:
    place(path)
    path.write_bytes(content)


def place(path: Path) -> None:
    """Make the folder of ``path``, and remove what is there."""
    for parent in reversed(path.parents):
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            parent.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(path, None, path)


def copy(path: Path, base: str, bases: Path) -> None:
    place(path)
    if (bases / base).is_dir():
        shutil.copytree(bases / base, path, dirs_exist_ok=True)
    else:
        shutil.copyfile(bases / base, path)


def folder(path: Path, _: None, bases: Path) -> None:
    place(path / "x")


def link(path: Path, target: str, bases: Path) -> None:
    place(path)
    path.symlink_to(target)


def fifo(path: Path, _: None, bases: Path) -> None:
    place(path)
    os.mkfifo(path)


def sparse(path: Path, size: int, bases: Path) -> None:
    """Make the file ``size`` bytes long, without content where it was shorter."""
    if whole(path) is None:
        write(path, b"", bases)
    os.truncate(path, size)


def remove(path: Path, _: None, bases: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def splice(path: Path, piece: tuple[float, int, bytes], bases: Path) -> None:
    """At a share of the file's length, replace some bytes by others."""
    share, count, new = piece
    content = whole(path)
    if content is not None:
        start = int(share * len(content))
        path.write_bytes(content[:start] + new + content[start + count :])


def cut(path: Path, share: float, bases: Path) -> None:
    if whole(path) is not None:
        os.truncate(path, int(share * path.stat().st_size))


def edit(path: Path, change: tuple[int, Any], bases: Path) -> None:
    """Replace or delete one value in a JSON, JSONL or YAML file, without checksums, as old files are."""
    content = whole(path)
    if content is None or len(content) > 10**5:
        return
    try:
        if path.suffix == ".jsonl":
            lines = edited([_without_checksum(json.loads(line)) for line in content.splitlines()], change)
            path.write_text(
                "".join(json.dumps(line) + "\n" for line in (lines if isinstance(lines, list) else [lines]))
            )
        elif path.suffix == ".json":
            path.write_text(json.dumps(edited(_without_checksum(json.loads(content)), change)))
        else:
            path.write_text(yaml.dump(edited(yaml.safe_load(content), change)))
    except (ValueError, yaml.YAMLError, RecursionError):
        return  # damaged by an earlier step


def _without_checksum(value: Any) -> Any:
    return {key: inner for key, inner in value.items() if key != "crc32"} if isinstance(value, dict) else value


def edited(value: Any, change: tuple[int, Any]) -> Any:
    """``value`` with its ``change[0]``-th part, counted in depth and around, replaced by ``change[1]`` or deleted."""
    places = list(_places(value))
    if not places:
        return change[1]
    holder, key = places[change[0] % len(places)]
    if isinstance(change[1], str) and change[1] == DELETED:
        del holder[key]
    else:
        holder[key] = change[1]
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(parts):
        yield value, key
        yield from _places(inner)


def state(path: Path, change: tuple[int, Any], bases: Path) -> None:
    """Change one value or tensor of a checkpoint, whose digest is right afterwards."""
    import torch

    from fer_ddp.errors import RunError
    from fer_ddp.runs.checkpoint import load_checkpoint, save_checkpoint

    if isinstance(change[1], tuple):
        change = (change[0], torch.zeros(change[1][0], dtype=getattr(torch, change[1][1])))
    try:
        save_checkpoint(path, edited(load_checkpoint(path), change))
    except RunError:
        return  # damaged by an earlier step


def header(path: Path, change: tuple[int, Any], bases: Path) -> None:
    """Change one value of a safetensors file's header."""
    content = whole(path) or b""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        text = json.dumps(edited(json.loads(content[8 : 8 + length]), change)).encode()
    except (ValueError, struct.error, OverflowError, RecursionError):
        return  # damaged by an earlier step
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
