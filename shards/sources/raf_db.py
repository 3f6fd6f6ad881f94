"""RAF-DB's basic expressions: its authors' list and aligned faces, or Kaggle's folders ``1`` to ``7``.

Li et al., "Reliable crowdsourcing and deep locality-preserving learning for expression recognition in the wild", 2017.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shards.errors import DataError
from shards.files import SMALL, read_regular
from shards.images import is_image_name
from shards.labels import RAFDB
from shards.sources.listed_files import files_below
from shards.sources.listing import Folder, ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject
from shards.splits import split_of_word

LAYOUT = (
    "basic/EmoLabel/list_patition_label.txt with basic/Image/aligned/train_00001_aligned.jpg, "
    "or DATASET/train/1 to 7 with train_labels.csv"
)
_LIST = "EmoLabel/list_patition_label.txt"
"""The authors spell it so."""


def matches(path: Path) -> bool:
    """Whether the folder ``path`` is RAF-DB's in one of the two layouts."""
    return path.is_dir() and (_authors_folder(path) is not None or _kaggles_folder(path) is not None)


def list_images(path: Path, options: SourceOptions) -> Listing:
    """The images of RAF-DB in the folder ``path``. Raises :class:`DataError` if it has another layout."""
    authors, kaggles = _authors_folder(path), _kaggles_folder(path)
    rejects: list[Reject] = []
    if authors is not None:
        root, images = authors, list(_in_list(authors, rejects))
    elif kaggles is not None:
        root, images = kaggles, list(_in_folders(kaggles))
    else:
        raise DataError(f"{path}: is not RAF-DB; it should hold {LAYOUT}", exit_status=2)
    if not images:
        raise DataError(f"{path}: holds none of RAF-DB's images; it should hold {LAYOUT}", exit_status=2)
    return Listing(
        root=path,
        images=images,
        container=Folder(root=root),
        source_format="rafdb",
        scheme=options.scheme or RAFDB,
        rejects=rejects,
    )


def _authors_folder(path: Path) -> Path | None:
    return next((root for root in (path, path / "basic") if (root / _LIST).is_file()), None)


def _kaggles_folder(path: Path) -> Path | None:
    has_lists = (path / "train_labels.csv").is_file()
    root = path / "DATASET"
    return root if has_lists and (root / "train" / "1").is_dir() else None


def _in_list(root: Path, rejects: list[Reject]) -> Iterator[ListedImage]:
    """Lines such as ``train_00001.jpg 5``: the split is in the name, and the face was cut out and aligned."""
    for number, line in enumerate(read_regular(root / _LIST, at_most=SMALL).decode("utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        place = f"row {number} of {_LIST}"
        file = PurePosixPath(name.strip())
        split = split_of_word(file.name.partition("_")[0])
        if not label.isdigit() or split is None:
            rejects.append(Reject(place=place, reason=f"is {line[:60]!r}; it should be such as train_00001.jpg 5"))
            continue
        location = f"Image/aligned/{file.stem}_aligned{file.suffix}"
        if not (root / location).is_file():
            rejects.append(Reject(place=place, reason=f"{location}: there is no such file"))
            continue
        yield ListedImage(location=location, name=location, place=f"{place} ({location})", label=label, split=split)


def _in_folders(root: Path) -> Iterator[ListedImage]:
    """``train/5/train_00001_aligned.jpg``."""
    for location in files_below(root):
        path = PurePosixPath(location)
        split = split_of_word(path.parts[0])
        if split is not None and len(path.parts) == 3 and is_image_name(location):
            yield ListedImage(location=location, name=location, place=location, label=path.parts[1], split=split)
