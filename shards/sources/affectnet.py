"""AffectNet: the lists ``training.csv`` and ``validation.csv``, or faces with an array of each one's label.

Mollahosseini et al., "AffectNet: A database for facial expression, valence, and arousal computing in the wild", 2017.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from shards.errors import DataError
from shards.files import only_regular
from shards.labels import AFFECTNET7, AFFECTNET8
from shards.sources.list_csv import parse_box
from shards.sources.listed_files import ImageFinder, NotFound
from shards.sources.listing import Folder, ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject

LAYOUT = (
    "train_set/images/0.jpg with train_set/annotations/0_exp.npy, and val_set likewise, "
    "or training.csv and validation.csv with Manually_Annotated_Images/1/NAME.jpg"
)
_SETS = {"train_set": "train", "val_set": "val"}
_LISTS = {"training.csv": "train", "validation.csv": "val"}
_COLUMNS = (
    *("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression"),
    *("valence", "arousal"),
)
"""Of the lists; some copies lack this header."""


def matches(path: Path) -> bool:
    """Whether the folder, or one of the lists, ``path`` is AffectNet's."""
    if path.is_file():
        return path.name in _LISTS and bool(_our_lists(path))
    return any((path / name / "annotations").is_dir() for name in _SETS) or bool(_our_lists(path))


def list_images(path: Path, options: SourceOptions) -> Listing:
    """The images of AffectNet in ``path``: 8 classes if there is contempt, else 7.

    Raises :class:`DataError` if it has another layout.
    """
    root = path if path.is_dir() else path.parent
    rejects: list[Reject] = []
    lists = _our_lists(path)
    if lists:
        finder = ImageFinder(root)
        images = [image for one in lists for image in _in_list(one, root, finder, rejects)]
    else:
        images = [image for name in _SETS for image in _in_arrays(root, name, rejects)]
    if not images:
        raise DataError(f"{path}: holds none of AffectNet's images; it should hold {LAYOUT}", exit_status=2)
    has_contempt = any(image.label == "7" for image in images)
    return Listing(
        root=path,
        images=images,
        container=Folder(root=root),
        source_format="affectnet",
        scheme=options.scheme or (AFFECTNET8 if has_contempt else AFFECTNET7),
        rejects=rejects,
    )


def _our_lists(path: Path) -> list[Path]:
    """The lists with AffectNet's columns: ``path`` itself, those in the folder or in one below it."""
    folders = [path, *sorted(one for one in path.iterdir() if one.is_dir())] if path.is_dir() else []
    found = [path] if path.is_file() else [folder / name for folder in folders for name in _LISTS]
    return [one for one in found if one.is_file() and _has_our_columns(one)]


def _has_our_columns(path: Path) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace", newline="", opener=only_regular) as file:
        fields = next(csv.reader([file.readline()]), [])
    return fields[:7] == list(_COLUMNS[:7]) or (len(fields) == len(_COLUMNS) and fields[5].count(";") > 100)


def _in_list(path: Path, root: Path, finder: ImageFinder, rejects: list[Reject]) -> Iterator[ListedImage]:
    shown = path.relative_to(root).as_posix()
    with open(path, encoding="utf-8-sig", newline="", opener=only_regular) as file:
        first = file.readline()
        has_header = first.startswith(_COLUMNS[0])
        file.seek(0)
        for number, fields in enumerate(csv.reader(file), 0 if has_header else 1):
            if not number or not fields:
                continue
            place = f"row {number} of {shown}"
            try:
                yield _image(fields, place, _LISTS[path.name], finder)
            except NotFound as error:
                rejects.append(Reject(place=place, reason=str(error)))


def _image(fields: Sequence[str], place: str, split: str, finder: ImageFinder) -> ListedImage:
    if len(fields) < 7:
        raise NotFound(f"has {len(fields)} fields; it should have {', '.join(_COLUMNS)}")
    location = finder.find(fields[0])
    return ListedImage(
        location=location,
        name=location,
        place=f"{place} ({location})",
        label=fields[6],
        split=split,
        box=parse_box(fields[1:5], is_sized=True),
    )


def _in_arrays(root: Path, name: str, rejects: list[Reject]) -> Iterator[ListedImage]:
    folder = root / name
    images = folder / "images"
    if not images.is_dir():
        return
    for image in sorted(os.listdir(images), key=_by_number):
        if image.startswith("."):
            continue
        location = f"{name}/images/{image}"
        array = f"{name}/annotations/{PurePosixPath(image).stem}_exp.npy"
        try:
            label = str(np.load(root / array, allow_pickle=False).item())
        except FileNotFoundError:
            rejects.append(Reject(place=location, reason=f"has no label; it should be in {array}"))
        except (OSError, ValueError, EOFError) as error:
            rejects.append(Reject(place=array, reason=f"is not an array of one label ({error})"))
        else:
            yield ListedImage(location=location, name=location, place=location, label=label, split=_SETS[name])


def _by_number(name: str) -> tuple[int, str]:
    stem = PurePosixPath(name).stem
    return (int(stem) if stem.isdecimal() else -1, name)
