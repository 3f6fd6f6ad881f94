"""Images in folders, ``SPLIT/CLASS/IMAGE``: FER2013 as Kaggle has it (train and test), RAF-DB, and the like."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterator
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
from shards.sources.sample_keys import path_keys
from shards.sources.scan import Reject, Scanned

_EXTENSIONS = (".png", ".jpg", ".jpeg")
_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}
"""What operating systems leave behind; so is any name that begins with a dot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFiles:
    """Images that are files below ``root``."""

    root: Path

    def files(self, places: list[str]) -> Iterator[tuple[str, bytes]]:
        """The files at ``places``, paths below the root: a JPEG as it is, any other as a PNG of its pixels."""
        for place in places:
            content = (self.root / place).read_bytes()
            pixels, is_jpeg = decode_image(content)
            yield ("jpg", content) if is_jpeg else ("png", encode_pngs(pixels[None])[0])


class _Looked(NamedTuple):
    """What a worker sees in a file."""

    sha256: str
    shape: tuple[int, ...]
    digest: str
    sums: np.ndarray
    square_sums: np.ndarray
    fault: str
    """Why it cannot be used; empty if it can."""


def scan_folders(root: Path, work: Path, pool: Executor, workers: int) -> Scanned:
    """Read ``root``. Raises :class:`DataError` if its folders are not as they should be; a bad file is a reject."""
    import pandas

    found, rejects = _walk(root)
    names, label_of = class_order(PurePosixPath(path).parts[1] for path, _ in found)
    paths = [path for path, _ in found]
    step = max(1, min(256, math.ceil(len(paths) / (4 * workers))))
    groups = [paths[start : start + step] for start in range(0, len(paths), step)]
    looked = [one for part in pool.map(partial(_look_at, root), groups) for one in part]
    shapes = Counter(one.shape for one in looked if not one.fault)
    if not shapes:
        raise DataError(
            f"{root}: none of its {len(looked)} images can be used; the first, {paths[0]}, {looked[0].fault}"
        )
    channels, height, width = shape = shapes.most_common(1)[0][0]
    usable: list[int] = []
    for place, (path, one) in enumerate(zip(paths, looked, strict=True)):
        fault = one.fault
        if not fault and one.shape != shape:
            fault = f"is {shape_in_words(one.shape)}; most of the images are {shape_in_words(shape)}, all should be"
        if fault:
            rejects.append(Reject(place=path, reason=fault))
        else:
            usable.append(place)
    keys = path_keys(paths)
    table = pandas.DataFrame(
        {
            "key": [keys[place] for place in usable],
            "split": [found[place][1] for place in usable],
            "label": np.array([label_of[PurePosixPath(paths[place]).parts[1]] for place in usable], np.int64),
            "place": [paths[place] for place in usable],
            "digest": [looked[place].digest for place in usable],
        }
    )
    listing = "".join(f"{one.sha256}  {path}\n" for path, one in zip(paths, looked, strict=True))
    return Scanned(
        table=table,
        sums=np.array([looked[place].sums for place in usable]),
        square_sums=np.array([looked[place].square_sums for place in usable]),
        images=ImageFiles(root=root),
        image_shape=(channels, height, width),
        class_names=names,
        rejects=sorted(rejects, key=lambda reject: reject.place),
        source_format="image-folders",
        source_sha256=hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest(),
    )


def _walk(root: Path) -> tuple[list[tuple[str, str]], list[Reject]]:
    """(path below the root, split) of every image, in the order of their paths, and files that are none."""
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and _is_data(path.name)):
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is None:
            raise DataError(f"{folder}: is no split; the folders in {root} should be train, val (or valid) and test")
        if split in folders:
            raise DataError(f"{folder}: is the split {split}, and so is {folders[split]}; one of them should go")
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
            place = path.relative_to(root).as_posix()
            if len(PurePosixPath(place).parts) < 3:
                rejects.append(Reject(place=place, reason="stands in no class folder; it should be in SPLIT/CLASS"))
            elif path.suffix.lower() not in _EXTENSIONS:
                rejects.append(
                    Reject(place=place, reason="is no image by its name; it should end in .png, .jpg or .jpeg")
                )
            else:
                found.append((place, split))
        if len(found) == before:
            raise DataError(f"{folders[split]}: holds no image; remove the folder, or put images in {split}/CLASS")
    return found, rejects


def _files(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """The files below ``folder``, whose own folders are ``above``; a link back to one of those is left out."""
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


def _look_at(root: Path, paths: list[str]) -> list[_Looked]:
    return [_look_at_file(root / path) for path in paths]


def _look_at_file(path: Path) -> _Looked:
    nothing = np.zeros(0, np.int64)
    try:
        content = path.read_bytes()
    except OSError as error:
        return _Looked("", (), "", nothing, nothing, f"cannot be read ({error.strerror})")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        pixels, _ = decode_image(content)
    except BadImage as error:
        return _Looked(sha256, (), "", nothing, nothing, str(error))
    sums, square_sums = pixel_sums(pixels[None])
    return _Looked(sha256, pixels.shape, pixel_digests(pixels[None])[0], sums[0], square_sums[0], "")
