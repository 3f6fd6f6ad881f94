"""Images in folders, ``SPLIT/CLASS/IMAGE`` or ``CLASS/IMAGE``, as Kaggle's variants of FER2013, AffectNet and CK+."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from shards.errors import DataError
from shards.files import irregular, only_regular
from shards.images import EXTENSIONS, is_image_name, other_file
from shards.labels import is_expression
from shards.sources import list_csv
from shards.sources.class_folders import check_class_folders
from shards.sources.listing import Folder, ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject, all_train
from shards.splits import SPLITS, split_of_word

_NOT_DATA = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r"),
    *("$recycle.bin", "system volume information", "@eadir"),
}
"""What operating systems leave behind; so is any name that begins with a dot."""
_TEXT = (
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".rst", ".xml", ".yaml", ".yml", ".html", ".htm"),
    *(".log", ".ini", ".cfg", ".toml", ".py", ".ipynb"),
)
_NO_EXTENSION = "without an extension"
_MAX_WRAPPERS = 3
"""Folders that may lie around those of the splits."""


def list_folders(root: Path, options: SourceOptions) -> Listing:
    """The images below ``root``, none of them read.

    Folders that only lie around the others are passed over. Without folders of splits, the class folders are train;
    without train, the data set is one to evaluate on. Raises :class:`DataError` if the folders are neither
    SPLIT/CLASS nor CLASS, or :func:`check_class_folders` refuses them.
    """
    walk = _Walk()
    notes: list[str] = []
    inner = _data_root(root)
    if inner != root:
        notes.append(f"the images are those in {inner}")
        for wrapper in (root, *(root / part for part in reversed(inner.relative_to(root).parents[:-1]))):
            walk.ignore_files_of(wrapper)
        root = inner
    splits = _split_folders(root)
    if splits:
        _check_others(root, splits, walk)
        for split in (split for split in SPLITS if split in splits):
            walk.read(root, splits[split], split, depth=2)
        check_class_folders(root, [(image.location, image.split) for image in walk.images], options.allowed_classes)
    else:
        walk.read(root, root, "train", depth=1)
        # The root takes the place of the split's folder, so that paths in messages are right.
        named = root if root.name else root.resolve()
        found = [(f"{named.name}/{image.location}", "train") for image in walk.images]
        if not options.allowed_classes and not any(is_expression(image.label) for image in walk.images):
            _refuse_list(root)
        check_class_folders(named.parent, found, options.allowed_classes)
        notes.append(all_train(root, "these are classes, not splits, so the images are read as train"))
    return Listing(
        root=root,
        images=walk.images,
        container=Folder(root=root),
        source_format="image-folders",
        scheme=options.scheme,
        rejects=walk.rejects,
        ignored=dict(walk.ignored),
        notes=notes,
    )


class _Walk:
    """What the folders hold."""

    def __init__(self) -> None:
        self.images: list[ListedImage] = []
        self.rejects: list[Reject] = []
        self.ignored: Counter[str] = Counter()

    def read(self, root: Path, folder: Path, split: str, depth: int) -> None:
        """Sort the files below ``folder``; the class is the last of the first ``depth`` folders below ``root``."""
        before = len(self.images)
        loose = 0
        for place, is_file in _files(folder, "" if folder == root else f"{folder.name}/"):
            extension = _extension(place)
            fault = "" if is_file else _irregular(root / place)
            if not fault and extension not in EXTENSIONS:
                with open(root / place, "rb", opener=only_regular) as file:
                    head = file.read(1024)
                if extension in _TEXT or _is_text(head):
                    self.ignored[extension or _NO_EXTENSION] += 1
                    continue
                fault = other_file(head) or "is not named as an image; it should end in .png, .jpg or the like"
            parts = place.split("/")
            if not fault and len(parts) <= depth:
                layout = "SPLIT/CLASS" if depth == 2 else "CLASS"
                fault = f"is not in a class folder; it should be in {layout}"
                loose += 1
            if fault:
                self.rejects.append(Reject(place=place, reason=fault))
            else:
                self.images.append(
                    ListedImage(location=place, name=place, place=place, label=parts[depth - 1], split=split)
                )
        if len(self.images) == before:
            if folder == root:
                raise DataError(f"{root}: holds no image in a folder; it should hold train/CLASS/IMAGE, or CLASS/IMAGE")
            if loose:
                raise DataError(_unlabelled(root, folder, split, loose))
            raise DataError(f"{folder}: holds no image; remove the folder, or put images in {folder.name}/CLASS")

    def ignore_files_of(self, folder: Path, below: bool = False) -> None:
        """Count the files of ``folder``, or all ``below`` it, as ignored."""
        for name, is_file in _files(folder) if below else _entries(folder)[0]:
            if is_file:
                self.ignored[_extension(name) or _NO_EXTENSION] += 1
            else:
                self.rejects.append(Reject(place=str(folder / name), reason=_irregular(folder / name)))


def _unlabelled(root: Path, folder: Path, split: str, count: int) -> str:
    """What is wrong with a split's ``folder`` whose ``count`` images are in no class folder."""
    images, they = ("image", "it has") if count == 1 else ("images", "they have")
    message = f"{folder}: holds {count} {images} and no class folder, so {they} no label; put images in {folder}/CLASS"
    if split == "train":
        return message
    return (
        f"{message}; without labels, move {folder.name} out of {root}, pack the rest, and give the images to "
        f"`fer-ddp predict`"
    )


def _refuse_list(root: Path) -> None:
    """Raise :class:`DataError` if ``root`` has a list, which was not recognised as one or not asked for."""
    if list_csv.matches(root):
        raise DataError(
            f"{root}: holds a list of images and no class folders; leave out --format folders", exit_status=2
        )
    for name in (name for name, is_file in _entries(root)[0] if is_file and _extension(name) in (".csv", ".tsv")):
        with open(root / name, encoding="utf-8-sig", errors="replace", opener=only_regular) as file:
            columns = ", ".join(part.strip(' "\n') for part in re.split("[,;\t]", file.readline(1000)))
        raise DataError(
            f"{root / name}: has the columns {columns}; a list of images should have the columns image and label; "
            f"rename them (without a list, {root} should hold train/CLASS/IMAGE, or CLASS/IMAGE)"
        )


def _data_root(root: Path) -> Path:
    """``root``, or the folder below it that holds the splits or classes, if all else there is that one folder.

    Raises :class:`DataError` with the path that would be right if there are other folders.
    """
    holding = _holding_splits(root, _MAX_WRAPPERS)
    if root in holding:
        return root
    if len(holding) > 1:
        paths = ", ".join(str(path) for path in holding)
        raise DataError(f"{root}: holds several data sets; pack one of them: {paths}")
    inner = root
    while not holding or inner != holding[0]:
        folders = _entries(inner)[1]
        if len(folders) != 1 or not (holding or _are_classes(_entries(folders[0])[1])):
            break
        inner = folders[0]
    if holding and inner != holding[0]:
        raise DataError(f"{root}: holds no split itself; pack {holding[0]} instead, which does")
    return inner


def _are_classes(folders: list[Path]) -> bool:
    return any(is_expression(path.name) or path.name.isdigit() for path in folders)


def _holding_splits(folder: Path, depth: int) -> list[Path]:
    """The folders, ``folder`` or up to ``depth`` below it, that directly hold a split's folder; none inside another."""
    _, folders = _entries(folder)
    if any(_split_of(path) for path in folders):
        return [folder]
    return [found for path in folders if depth for found in _holding_splits(path, depth - 1)]


def _split_folders(root: Path) -> dict[str, Path]:
    splits: dict[str, Path] = {}
    for folder in _entries(root)[1]:
        split = _split_of(folder)
        if split in splits:
            raise DataError(f"{folder}: is the split {split}, and so is {splits[split]}; remove one of them")
        if split:
            splits[split] = folder
    return splits


def _check_others(root: Path, splits: dict[str, Path], walk: _Walk) -> None:
    """Ignore what lies beside the splits; raise :class:`DataError` for a folder of images there."""
    walk.ignore_files_of(root)
    for folder in _entries(root)[1]:
        if folder in splits.values():
            continue
        if any(is_image_name(name) for name, _ in _files(folder)):
            raise DataError(f"{folder}: is not a split; the folders in {root} should be train, val (or valid) and test")
        walk.ignore_files_of(folder, below=True)


def _split_of(folder: Path) -> str:
    return split_of_word(folder.name) or ""


def _files(folder: Path, start: str = "", above: tuple[str, ...] = ()) -> Iterator[tuple[str, bool]]:
    """The files below ``folder``, whose parent folders are ``above``, and whether each is an ordinary file.

    Each is ``start`` and its path below ``folder``, with ``/``: strings, since a data set may have a million of them. A
    link back to a folder above is not followed.
    """
    here = os.path.realpath(folder)
    if here in above:
        return
    files, folders = _entries(folder)
    for name, is_file in files:
        yield start + name, is_file
    for path in folders:
        yield from _files(path, f"{start}{path.name}/", (*above, here))


def _entries(folder: Path) -> tuple[list[tuple[str, bool]], list[Path]]:
    """The names of the files of ``folder`` with whether each is an ordinary one, and its folders, both sorted."""
    files: list[tuple[str, bool]] = []
    folders: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith(".") or entry.name.lower() in _NOT_DATA:
                continue
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself
                is_folder, is_file = False, False
            if is_folder:
                folders.append(folder / entry.name)
            else:
                files.append((entry.name, is_file))
    return files, folders


def _irregular(path: Path) -> str:
    """Why ``path``, which is not an ordinary file, cannot be read."""
    try:
        return f"is {irregular(path)}, not a file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_text(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is text: UTF-8 without control characters."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a character that the end of ``head`` cuts is no fault
            return False
        text = head[: error.start].decode("utf-8-sig")
    return all(character.isprintable() or character.isspace() for character in text)
