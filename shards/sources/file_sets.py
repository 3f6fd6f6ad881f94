"""Finds the files of a source that is one file, a folder of them, or a pattern such as ``train-{000..003}.tar``."""

import glob
import os
from itertools import islice
from pathlib import Path

from shards.errors import DataError
from shards.sources.class_folders import has_class_folders
from shards.sources.scan import all_train
from shards.splits import split_in_name

_PATTERN = "{*?["
_MAX_NAMES = 100_000
"""A pattern of more files is a mistake."""


def is_pattern(path: Path) -> bool:
    """Whether a path that does not exist stands for several files."""
    return any(character in str(path) for character in _PATTERN) and not path.exists()


def is_file_set(source: Path, endings: tuple[str, ...]) -> bool:
    """Whether ``source`` names files with these endings, or is a folder of them and not of SPLIT/CLASS/IMAGE."""
    if not source.is_dir():
        return source.name.lower().endswith(endings)
    return not has_class_folders(source) and bool(_files_below(source, endings))


def find_files(source: Path, endings: tuple[str, ...]) -> tuple[Path, list[str]]:
    """The folder that the files of ``source`` are in, and their paths below it (with ``/``), in their order.

    Of a folder, the files in it and at most two folders below. A pattern has braces (``{000..003}``, ``{train,val}``)
    or is a glob. Raises :class:`DataError` (exit status 2) where a file that it names is missing.
    """
    if source.is_dir():
        return source, _files_below(source, endings)
    files = _expanded(str(source)) if is_pattern(source) else [source]
    for file in files:
        if not file.name.lower().endswith(endings):
            raise DataError(f"{source}: names {file}, which should end in {' or '.join(endings)}", exit_status=2)
    root = Path(os.path.commonpath([file.parent.absolute() for file in files]))
    return root, [file.absolute().relative_to(root).as_posix() for file in files]


def splits_of(source: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """The split of each file, by its name or its folder's; and notes to print.

    Where no name has one, all are train. Raises :class:`DataError` where some do and others do not.
    """
    found = [split_in_name(name) for name in names]
    if not any(found):
        reason = "no file's name has train, val or test in it, so all of it is train"
        return ["train"] * len(names), [all_train(source, reason)]
    if None in found:
        lost = names[found.index(None)]
        raise DataError(
            f"{source}: the name of {lost} has no split, unlike others; it should have train, val or test in it"
        )
    return [split for split in found if split], []


def _files_below(root: Path, endings: tuple[str, ...]) -> list[str]:
    found = [
        path.relative_to(root)
        for depth in ("*", "*/*", "*/*/*")
        for path in root.glob(depth)
        if path.name.lower().endswith(endings) and path.is_file()
    ]
    return sorted(path.as_posix() for path in found if not any(part.startswith((".", "__")) for part in path.parts))


def _expanded(pattern: str) -> list[Path]:
    from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

    try:
        names = list(islice(braceexpand(pattern), _MAX_NAMES + 1))
    except UnbalancedBracesError as error:
        raise DataError(f"{pattern}: is not a pattern ({error}); close each brace", exit_status=2) from error
    if len(names) > _MAX_NAMES:
        raise DataError(f"{pattern}: names more than {_MAX_NAMES:,} files", exit_status=2)
    files: list[Path] = []
    for name in names:
        matches = [name] if os.path.isfile(name) else sorted(glob.glob(name))
        if not matches:
            raise DataError(f"{pattern}: there is no file {name}", exit_status=2)
        files += map(Path, matches)
    return files
