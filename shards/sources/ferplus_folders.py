"""FER+ as its authors' tools write it: FER2013's images in folders, each with ``label.csv`` of ten annotators' votes.

Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label distribution", 2016.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from shards.errors import DataError
from shards.files import only_regular
from shards.labels import FERPLUS
from shards.sources.list_csv import parse_box
from shards.sources.listed_files import NotFound
from shards.sources.listing import Box, Folder, ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject
from shards.votes import CATEGORIES

LAYOUT = "FER2013Train/label.csv with FER2013Train/fer0000000.png, and FER2013Valid and FER2013Test likewise"
_SPLITS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
_WHOLE = Box(0, 0, 48, 48)
"""The box that every published row has: all of the image."""


def matches(path: Path) -> bool:
    """Whether the folder ``path`` holds FER+'s."""
    return any((path / name / "label.csv").is_file() for name in _SPLITS)


def list_images(path: Path, options: SourceOptions) -> Listing:
    """The images of FER+ in the folder ``path``, with their votes, which give the labels.

    Raises :class:`DataError` if it has another layout.
    """
    images: list[ListedImage] = []
    rejects: list[Reject] = []
    for name in _SPLITS:
        if (path / name / "label.csv").is_file():
            _read_votes(path, name, images, rejects)
    if not images:
        first = f"; the first of its rows, {rejects[0].place}, {rejects[0].reason}" if rejects else ""
        raise DataError(f"{path}: holds none of FER+'s images; it should hold {LAYOUT}{first}", exit_status=2)
    if options.scheme not in (None, FERPLUS):
        raise DataError(f"{path}: has votes for FER+'s classes; --scheme can only be ferplus", exit_status=2)
    return Listing(
        root=path,
        images=images,
        container=Folder(root=path),
        source_format="ferplus-folders",
        scheme=FERPLUS,
        rejects=rejects,
    )


def _read_votes(path: Path, name: str, images: list[ListedImage], rejects: list[Reject]) -> None:
    with open(path / name / "label.csv", encoding="utf-8-sig", newline="", opener=only_regular) as file:
        for number, fields in enumerate(csv.reader(file), 1):
            place = f"row {number} of {name}/label.csv"
            if not fields:
                continue
            try:
                images.append(_image(path, name, fields, place))
            except NotFound as error:
                rejects.append(Reject(place=place, reason=str(error)))


def _image(path: Path, name: str, fields: Sequence[str], place: str) -> ListedImage:
    numbers = fields[2:]
    if len(numbers) != len(CATEGORIES) or not all(re.fullmatch(r"\s*\d{1,4}\s*", number) for number in numbers):
        raise NotFound(f"should have an image, a box, and the votes for {', '.join(CATEGORIES)}")
    location = f"{name}/{fields[0].strip()}"
    if not (path / location).is_file():
        raise NotFound(f"{location}: there is no such file")
    votes = dict(zip(CATEGORIES, map(int, numbers), strict=True))
    box = parse_box(re.findall(r"-?\d+", fields[1]))
    emotions = CATEGORIES[: len(FERPLUS.class_names)]
    return ListedImage(
        location=location,
        name=location,
        place=f"{place} ({location})",
        label=max(emotions, key=lambda emotion: votes[emotion]),
        split=_SPLITS[name],
        box=None if box == _WHOLE else box,
        votes=votes,
    )
