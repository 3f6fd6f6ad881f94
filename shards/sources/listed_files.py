"""Finds the image files that a list names."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from shards.images import is_image_name


class NotFound(Exception):
    """A listed image that is not there, or not one file; the message says which."""


class ImageFinder:
    """Image files below ``root``, by the paths that a list gives them.

    A path counts from ``root``. Where there is no such file, it is any one file below ``root`` whose path ends in it,
    or whose path is an end of it (lists often name folders of the machine they were made on); an extension may be
    missing. Folders are searched only if a file is not where the list has it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[str]] | None = None

    def find(self, listed: str) -> str:
        """Where the image ``listed`` is, as a path from ``root`` with ``/``. Raises :class:`NotFound`."""
        path = listed.strip().replace("\\", "/")
        plain = path.removeprefix("./")
        if plain and (self._root / plain).is_file():
            return self._one_path(plain)
        if not plain.strip("/"):
            raise NotFound("has no path of an image")
        parts = PurePosixPath(plain).parts
        candidates = self._candidates(parts[-1])
        # Candidates share the last part; of the others, as many as both have must be equal, from the end.
        fitting = [one for one in candidates if _ends_alike(PurePosixPath(one).parts[:-1], parts[:-1])]
        if len(fitting) > 1:
            raise NotFound(f"{listed}: may be {fitting[0]} or {fitting[1]}; the list should name one of them")
        if not fitting:
            raise NotFound(f"{listed}: there is no such file in {self._root} or below it")
        return fitting[0]

    def _one_path(self, plain: str) -> str:
        """The one path of a file that a list may name as ``images/../0.png`` or by its absolute path as well."""
        normal = Path(os.path.normpath(plain))
        root = Path(os.path.abspath(self._root))
        if normal.is_absolute() and normal.is_relative_to(root):
            normal = normal.relative_to(root)
        return normal.as_posix() if (self._root / normal).is_file() else plain  # ``..`` behind a link is another folder

    def _candidates(self, name: str) -> list[str]:
        if self._by_name is None:
            self._by_name = {}
            for path in files_below(self._root):
                file = PurePosixPath(path)
                if is_image_name(path):
                    for key in (file.name, file.stem):
                        self._by_name.setdefault(key, []).append(path)
        return self._by_name.get(name, [])


def files_below(root: Path) -> Iterable[str]:
    """Paths of all files below ``root``, from there and with ``/``, sorted folder by folder; hidden ones are left out.

    Links to folders are not followed.
    """
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        above = Path(folder).relative_to(root)
        for name in sorted(names):
            if not name.startswith("."):
                yield (above / name).as_posix()


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    count = min(len(one), len(other))
    return count == 0 or one[-count:] == other[-count:]
