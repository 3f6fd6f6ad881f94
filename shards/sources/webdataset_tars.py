"""WebDataset tars that others have made: one, a folder of them or a pattern; plain or compressed by gzip.

The files of a sample have one key, the part of a file's name before its first dot. Its image is in any common format or
a NumPy array; its label is the name or the number of a class, in ``.cls``, in a field of ``.json`` or in ``.txt``.
"""

import gzip
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from shards.errors import DataError
from shards.files import only_regular, parse_json, read_lines
from shards.manifest import FILE_NAME, read_manifest
from shards.progress import with_progress
from shards.reading.tar_index import Member, read_members
from shards.sources.file_parts import FileParts, Part, npy_fault, read_part
from shards.sources.file_sets import find_files, is_file_set, splits_of
from shards.sources.listing import ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject
from shards.sources.stated_labels import (
    BadLabel,
    StatedLabel,
    StatedLabels,
    check_stated,
    label_in_json,
    label_in_text,
)

ENDINGS = (".tar", ".tar.gz", ".tgz")
_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "npy")
_LABELS = ("cls", "json", "txt")
_OTHER_TEXTS = ("classes", "readme", "license")
"""Names of text files that are no sample's."""
_VOTES = "votes.json"
"""In a data set of ours; whether they are to give the labels, the set does not say."""
_MAX_BYTES = {"cls": 1024, "txt": 1024, "json": 2**20}
_MAX_IMAGE_BYTES = 2**28


def is_tars(source: Path) -> bool:
    """Whether ``source`` names a tar or several, or is a folder of them."""
    return is_file_set(source, ENDINGS)


def list_tars(source: Path, options: SourceOptions) -> Listing:
    """The samples of the tars that ``source`` names or holds.

    Raises :class:`DataError` if a tar cannot be read or holds something else, or if no sample can be used.
    """
    assert options.work is not None
    root, names = find_files(source, ENDINGS)
    _refuse_twice(source, names)
    splits, notes = splits_of(source, names)
    labels = StatedLabels(class_names=_class_names(root, names), options=options)
    images: list[ListedImage] = []
    rejects: list[Reject] = []
    ignored: Counter[str] = Counter()
    files: list[Path] = []
    tars = zip(names, splits, strict=True)
    for name, split in with_progress(tars, "listing", len(names), unit="tar"):
        files.append(_plain_tar(root / name, options.work / f"{len(files)}.tar"))
        with open(files[-1], "rb", opener=only_regular) as file:
            for key, sample in _samples(file, root / name, ignored):
                place = f"{name}: {key}"
                try:
                    if isinstance(sample, str):
                        raise BadLabel(sample)
                    image = _image(file, sample)
                    label = labels.resolve(place, *_stated(file, sample, options.label_field))
                except BadLabel as error:
                    rejects.append(Reject(place=place, reason=str(error)))
                    continue
                images.append(
                    ListedImage(
                        location=Part(len(files) - 1, image.offset, image.size),
                        name=f"{name[: name.lower().rindex('.t')]}/{key}.{image.name.rpartition('.')[2]}",
                        place=place,
                        label=label,
                        split=split,
                    )
                )
    if not images:
        first = rejects[0]
        raise DataError(f"{source}: none of its {len(rejects)} samples can be used; {first.place} {first.reason}")
    check_stated(source, images, options, "put a classes.txt beside the tars, with a line for each class")
    return Listing(
        root=source,
        images=images,
        container=FileParts(files=tuple(files)),
        source_format="webdataset-tars",
        scheme=options.scheme,
        rejects=rejects,
        ignored=dict(ignored),
        notes=notes,
    )


def _class_names(root: Path, names: list[str]) -> tuple[str, ...]:
    """What the tars' numbers mean: ``classes.txt`` beside them, or the manifest of a data set of ours; else nothing."""
    folders = list(dict.fromkeys((root / name).parent for name in names))
    data_sets = [folder for folder in folders if (folder / FILE_NAME).is_file()]
    if data_sets and len(folders) > 1:  # folds hold the same samples, others may number their classes otherwise
        raise DataError(
            f"{root}: holds the data set {data_sets[0]} and other tars; pack {data_sets[0]} by itself", exit_status=2
        )
    found: dict[Path, tuple[str, ...]] = {}
    for folder in dict.fromkeys((root, *folders)):
        path = folder / "classes.txt"
        if os.path.lexists(path):
            found[path] = tuple(line.strip() for line in read_lines(path) if line.strip())
        elif (folder / FILE_NAME).is_file():
            found[folder / FILE_NAME] = read_manifest(folder).class_names
    first = next(iter(found), None)
    for path, class_names in found.items():
        if first is not None and class_names != found[first]:
            raise DataError(f"{path}: names other classes than {first}; pack the tars of each by themselves")
    return () if first is None else found[first]


def _refuse_twice(source: Path, names: list[str]) -> None:
    """Raise :class:`DataError` (exit status 2) where a tar lies beside its compressed copy."""
    stems: dict[str, str] = {}
    for name in names:
        first = stems.setdefault(name[: name.lower().rindex(".t")], name)
        if first != name:
            raise DataError(f"{source}: holds {first} and {name}, which is the same tar; remove one", exit_status=2)


def _plain_tar(path: Path, copy: Path) -> Path:
    """``path`` itself, or ``copy`` with its content if it is compressed by gzip, whatever its name."""
    with open(path, "rb", opener=only_regular) as file:
        if file.read(2) != b"\x1f\x8b":
            return path
        file.seek(0)
        try:
            with gzip.open(file) as packed, open(copy, "wb") as plain:
                shutil.copyfileobj(packed, plain, 2**20)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: is damaged or cut short ({error}); copy or download it again") from error
    return copy


class _Sample(NamedTuple):
    image: Member
    labels: dict[str, Member]
    """By extension: cls, json, txt."""


def _groups(file: BinaryIO, path: Path, ignored: Counter[str]) -> dict[str, list[tuple[str, Member]]]:
    """For each key, in the order of their first files, its (extension, member), wherever in the tar these are."""
    groups: dict[str, list[tuple[str, Member]]] = {}
    example = ""
    for member in read_members(file, str(path)):
        folder, slash, base = member.name.removeprefix("./").rpartition("/")
        stem, _, extension = base.partition(".")
        if not stem or stem.startswith("__") or not extension:
            ignored["files without a key"] += 1
            continue
        groups.setdefault(folder + slash + stem, []).append((extension.lower(), member))
        example = example or member.name
    kinds = {extension.rpartition(".")[2] for members in groups.values() for extension, _ in members}
    unpack = f"unpack it with `tar -xf {path.name}` and pack what it holds"
    if not kinds.intersection(_IMAGES):
        what = f"but {example}; {unpack}" if example else "and no other file; remove it"
        raise DataError(f"{path}: holds no image, {what}")
    if not kinds.intersection(_LABELS):
        raise DataError(
            f"{path}: holds no label: beside {example} there should be a .cls, a .json or a .txt of the same name; "
            f"if it is an archive of folders, {unpack}"
        )
    return groups


def _samples(file: BinaryIO, path: Path, ignored: Counter[str]) -> Iterator[tuple[str, _Sample | str]]:
    """(key, sample), or (key, what is wrong with it). What belongs to no sample is counted in ``ignored``."""
    for key, members in _groups(file, path, ignored).items():
        by_extension = dict(members)
        if by_extension.pop(_VOTES, None):
            ignored["files of FER+ votes"] += 1
            members = [member for member in members if member[0] != _VOTES]
        kinds = {extension: extension.rpartition(".")[2] for extension in by_extension}
        images = [extension for extension, kind in kinds.items() if kind in _IMAGES]
        labels = [extension for extension, kind in kinds.items() if kind in _LABELS]
        if not images and (not labels or (labels == ["txt"] and key.rpartition("/")[2].lower() in _OTHER_TEXTS)):
            ignored["files of no image"] += len(members)
        elif len(by_extension) < len(members):
            extension, _ = Counter(extension for extension, _ in members).most_common(1)[0]
            yield key, f"has {by_extension[extension].name} twice; it should have one file of each name"
        elif not images:
            yield key, f"has no image, only .{', .'.join(by_extension)}; it should have one such as .jpg, .png or .npy"
        elif (image := _only(images)) is not None:
            found = {kind: _only([one for one in labels if kinds[one] == kind]) for kind in _LABELS}
            chosen = {kind: by_extension[extension] for kind, extension in found.items() if extension is not None}
            yield key, _Sample(by_extension[image], chosen)
        else:
            # Keys with dots in them, which WebDataset does not know: face.1.jpg, face.1.cls, face.2.jpg, face.2.cls
            parts = {extension: extension.rpartition(".")[0] for extension in by_extension}
            own = {part: [one for one in by_extension if parts[one] == part] for part in parts.values()}
            if "" in own or any(len([one for one in each if one in images]) != 1 for each in own.values()):
                yield key, f"has several images, .{', .'.join(images)}; it should have one"
                continue
            for part, each in own.items():
                (image,) = (one for one in each if one in images)
                yield (
                    f"{key}.{part}",
                    _Sample(by_extension[image], {kinds[one]: by_extension[one] for one in each if one in labels}),
                )


def _only(extensions: list[str]) -> str | None:
    """The one of ``extensions`` that counts: one without a dot before one with it, an image before an array."""
    for candidates in (
        [one for one in extensions if "." not in one and one != "npy"],
        [one for one in extensions if "." not in one],
        extensions,
    ):
        if candidates:
            return candidates[0] if len(candidates) == 1 else None
    return None


def _image(file: BinaryIO, sample: _Sample) -> Member:
    """The image of a sample. Raises :class:`BadLabel` where its size or its array cannot be an image's."""
    image = sample.image
    if image.size > _MAX_IMAGE_BYTES:
        raise BadLabel(f"has an image of {image.size:,} bytes; it should have at most {_MAX_IMAGE_BYTES:,}")
    if image.name.lower().endswith(".npy"):
        fault = npy_fault(file, image.offset, image.size)
        if fault:
            raise BadLabel(fault)
    return image


def _stated(file: BinaryIO, sample: _Sample, field: str | None) -> tuple[list[StatedLabel], list[StatedLabel]]:
    """What the files of a sample say its label is, and what their captions say. Raises :class:`BadLabel`."""
    content = {kind: _text(file, kind, member) for kind, member in sample.labels.items()}
    stated, captions = label_in_json(content["json"], field) if "json" in content else ([], [])
    if field is not None:
        if "json" not in content:
            raise BadLabel(f"has no .json; --label-field {field} names a field of it")
        return stated, []
    if "cls" in content:
        stated.insert(0, label_in_text(content["cls"], ".cls"))
    if "txt" in content:
        captions.insert(0, label_in_text(content["txt"], ".txt"))
    fields = ", ".join(parse_json(content["json"])) if "json" in content and not (stated or captions) else ""
    if fields:
        raise BadLabel(f"has no label; --label-field NAME reads it from one of the fields of its .json: {fields[:200]}")
    return stated, captions


def _text(file: BinaryIO, kind: str, member: Member) -> bytes:
    """The content of a label's file, whose size is looked at first. Raises :class:`BadLabel`."""
    most = _MAX_BYTES[kind]
    if kind == "txt":  # perhaps a caption, of which the beginning tells as much
        return read_part(file, member.offset, min(member.size, most))
    if member.size > most:
        raise BadLabel(f"has a .{kind} of {member.size:,} bytes; it should have at most {most:,}")
    return read_part(file, member.offset, member.size)
