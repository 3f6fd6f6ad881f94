"""ExpW: photographs, and ``label.lst`` with a box and a label for each face in them.

Zhang et al., "From facial expression recognition to interpersonal relation prediction", 2018.
"""

from pathlib import Path

from shards.errors import DataError
from shards.files import SMALL, read_regular
from shards.labels import EXPW
from shards.sources.list_csv import parse_box
from shards.sources.listed_files import ImageFinder, NotFound
from shards.sources.listing import Folder, ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject, all_train

LAYOUT = "label/label.lst with image/origin/NAME.jpg, or label.lst with image/NAME.jpg"
_LIST_PLACES = ("label.lst", "label/label.lst")
_FIELDS = "name, face's number, top, left, right, bottom, confidence, label"
"""In this order, with blanks between: top comes before left."""


def matches(path: Path) -> bool:
    """Whether the folder ``path`` is ExpW's."""
    return path.is_dir() and any((path / place).is_file() for place in _LIST_PLACES)


def list_images(path: Path, options: SourceOptions) -> Listing:
    """The faces of ExpW in the folder ``path``. Raises :class:`DataError` if it has another layout."""
    place = next((place for place in _LIST_PLACES if (path / place).is_file()), None)
    if place is None:
        raise DataError(f"{path}: is not ExpW; it should hold {LAYOUT}", exit_status=2)
    finder = ImageFinder(path)
    images: list[ListedImage] = []
    rejects: list[Reject] = []
    for number, line in enumerate(read_regular(path / place, at_most=SMALL).decode("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        row = f"row {number} of {place}"
        try:
            images.append(_face(line, row, finder))
        except NotFound as error:
            rejects.append(Reject(place=row, reason=str(error)))
    if not images:
        first = f"; the first of its rows, {rejects[0].place}, {rejects[0].reason}" if rejects else ""
        raise DataError(f"{path}: holds none of ExpW's images; it should hold {LAYOUT}{first}", exit_status=2)
    return Listing(
        root=path,
        images=images,
        container=Folder(root=path),
        source_format="expw",
        scheme=options.scheme or EXPW,
        rejects=rejects,
        notes=[all_train(path)],
    )


def _face(line: str, row: str, finder: ImageFinder) -> ListedImage:
    fields = line.rsplit(None, 7)
    if len(fields) != 8:
        raise NotFound(f"has {len(fields)} fields; it should have {_FIELDS}")
    name, face, top, left, right, bottom, _, label = fields
    location = finder.find(name)
    return ListedImage(
        location=location,
        name=f"{location.rpartition('.')[0]}-face{face}.jpg",
        place=f"{row} ({name})",
        label=label,
        split="train",
        box=parse_box((left, top, right, bottom)),
    )
