"""Images in folders, ``SPLIT/CLASS/IMAGE``: FER2013 as Kaggle has it (train and test), RAF-DB, and the like."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from shards.errors import DataError
from shards.images import BadImage, decode_image, shape_in_words
from shards.labels import SPLIT_FOLDERS, SPLITS, class_order
from shards.pixel_statistics import pixel_digests, pixel_sums
from shards.png import encode_pngs
from shards.progress import with_progress
from shards.sources.class_folders import check_class_folders
from shards.sources.sample_keys import path_keys
from shards.sources.scan import Reject, SourceScan

_EXTENSIONS = (".png", ".jpg", ".jpeg")
_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}
"""What operating systems leave behind; so is any name that begins with a dot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFiles:
    """Images that are files below ``root``."""

    root: Path

    def files(self, locations: list[str]) -> Iterator[tuple[str, bytes]]:
        """The files at ``locations``, paths below the root: a JPEG as it is unless EXIF turns it, any other as a PNG.

        The PNG has the pixels of the upright image.
        """
        for location in locations:
            content = (self.root / location).read_bytes()
            pixels, can_be_kept = decode_image(content)
            yield ("jpg", content) if can_be_kept else ("png", encode_pngs(pixels[None])[0])


class _FileScan(NamedTuple):
    """What a worker reads of a file."""

    sha256: str
    shape: tuple[int, ...]
    digest: str
    sums: np.ndarray
    square_sums: np.ndarray
    fault: str
    """Why it cannot be used; empty if it can."""


def scan_folders(
    root: Path, work: Path, pool: Executor, workers: int, allowed_classes: Collection[str] = ()
) -> SourceScan:
    """Read the images below ``root``; ``work`` is not used. ``allowed_classes`` are not taken for mistakes.

    Raises :class:`DataError` if its folders are not SPLIT/CLASS, :func:`check_class_folders` refuses them, or no image
    can be used; a bad file is a reject.
    """
    import pandas

    found, rejects = _walk(root)
    check_class_folders(root, found, allowed_classes)
    names, label_of = class_order(PurePosixPath(path).parts[1] for path, _ in found)
    paths = [path for path, _ in found]
    step = max(1, min(256, math.ceil(len(paths) / (4 * workers))))
    groups = [paths[start : start + step] for start in range(0, len(paths), step)]
    parts = with_progress(pool.map(partial(_scan_files, root), groups), "reading", len(paths), unit=" images", size=len)
    files = [file for part in parts for file in part]
    shapes = Counter(file.shape for file in files if not file.fault)
    if not shapes:
        raise DataError(f"{root}: none of its {len(files)} images can be used; the first, {paths[0]}, {files[0].fault}")
    channels, height, width = shape = shapes.most_common(1)[0][0]
    usable: list[int] = []
    for index, (path, file) in enumerate(zip(paths, files, strict=True)):
        fault = file.fault
        if not fault and file.shape != shape:
            fault = f"is {shape_in_words(file.shape)}; most of the images are {shape_in_words(shape)}, all should be"
        if fault:
            rejects.append(Reject(place=path, reason=fault))
        else:
            usable.append(index)
    keys = path_keys(paths)
    table = pandas.DataFrame(
        {
            "key": [keys[index] for index in usable],
            "split": [found[index][1] for index in usable],
            "label": np.array([label_of[PurePosixPath(paths[index]).parts[1]] for index in usable], np.int64),
            "location": [paths[index] for index in usable],
            "digest": [files[index].digest for index in usable],
        }
    )
    listing = "".join(f"{file.sha256}  {path}\n" for path, file in zip(paths, files, strict=True))
    return SourceScan(
        table=table,
        sums=np.array([files[index].sums for index in usable]),
        square_sums=np.array([files[index].square_sums for index in usable]),
        images=ImageFiles(root=root),
        image_shape=(channels, height, width),
        class_names=names,
        rejects=sorted(rejects, key=lambda reject: reject.place),
        source_format="image-folders",
        source_sha256=hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest(),
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
            elif path.suffix.lower() not in _EXTENSIONS:
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


def _scan_files(root: Path, paths: list[str]) -> list[_FileScan]:
    return [_scan_file(root / path) for path in paths]


def _scan_file(path: Path) -> _FileScan:
    nothing = np.zeros(0, np.int64)
    try:
        content = path.read_bytes()
    except OSError as error:
        return _FileScan("", (), "", nothing, nothing, f"cannot be read ({error.strerror})")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        pixels, _ = decode_image(content)
    except BadImage as error:
        return _FileScan(sha256, (), "", nothing, nothing, str(error))
    sums, square_sums = pixel_sums(pixels[None])
    return _FileScan(sha256, pixels.shape, pixel_digests(pixels[None])[0], sums[0], square_sums[0], "")
