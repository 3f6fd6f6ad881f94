"""Images in folders, ``SPLIT/CLASS/IMAGE``: FER2013 as Kaggle has it (train and test), RAF-DB, and the like."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shards.errors import DataError
from shards.images import EXTENSIONS
from shards.labels import SPLIT_FOLDERS, SPLITS
from shards.sources.class_folders import check_class_folders
from shards.sources.listing import Folder, ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject

_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}
"""What operating systems leave behind; so is any name that begins with a dot."""


def list_folders(root: Path, options: SourceOptions) -> Listing:
    """The images below ``root``, none of them read.

    Raises :class:`DataError` if its folders are not SPLIT/CLASS, or :func:`check_class_folders` refuses them.
    """
    found, rejects = _walk(root)
    check_class_folders(root, found, options.allowed_classes)
    return Listing(
        root=root,
        images=[
            ListedImage(location=path, name=path, place=path, label=PurePosixPath(path).parts[1], split=split)
            for path, split in found
        ],
        container=Folder(root=root),
        source_format="image-folders",
        scheme=options.scheme,
        rejects=rejects,
    )


def _walk(root: Path) -> tuple[list[tuple[str, str]], list[Reject]]:
    """(path below the root, split) of every image, in the order of their paths; and the files that are not images."""
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and _is_data(path.name)):
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is None:
            raise DataError(f"{folder}: is not a split; the folders in {root} should be train, val (or valid) and test")
        if split in folders:
            raise DataError(f"{folder}: is the split {split}, and so is {folders[split]}; remove one of them")
        folders[split] = folder
    if "train" not in folders:
        raise DataError(f"{root}: has no folder train; it should hold train/CLASS/IMAGE, and val and test likewise")
    found: list[tuple[str, str]] = []
    rejects: list[Reject] = []
    for split in SPLITS:
        if split not in folders:
            continue
        before = len(found)
        for path in _files(folders[split]):
            location = path.relative_to(root).as_posix()
            if len(PurePosixPath(location).parts) < 3:
                rejects.append(Reject(place=location, reason="is not in a class folder; it should be in SPLIT/CLASS"))
            elif path.suffix.lower() not in EXTENSIONS:
                rejects.append(
                    Reject(place=location, reason="is not named as an image; it should end in .png, .jpg or .jpeg")
                )
            else:
                found.append((location, split))
        if len(found) == before:
            raise DataError(f"{folders[split]}: holds no image; remove the folder, or put images in {split}/CLASS")
    return found, rejects


def _files(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """The files below ``folder``, whose parent folders are ``above``; a link back to one of those is not followed."""
    here = os.path.realpath(folder)
    if here in above:
        return
    folders: list[Path] = []
    for path in sorted(path for path in folder.iterdir() if _is_data(path.name)):
        if path.is_dir():
            folders.append(path)
        else:
            yield path
    for path in folders:
        yield from _files(path, (*above, here))


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _NOT_DATA
