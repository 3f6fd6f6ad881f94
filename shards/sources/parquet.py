"""Hugging Face's Parquet files: a column of images with their bytes in it, and one of labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from shards.errors import DataError
from shards.files import only_regular, parse_json
from shards.labels import whole_number
from shards.progress import with_progress
from shards.sources.file_parts import FileParts, Part
from shards.sources.file_sets import find_files, is_file_set, splits_of
from shards.sources.listing import ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject
from shards.sources.stated_labels import FIELDS, check_stated

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ENDINGS = (".parquet",)
_ROWS_AT_ONCE = 256


def is_parquet(source: Path) -> bool:
    """Whether ``source`` names a Parquet file or several, or is a folder of them."""
    return is_file_set(source, ENDINGS)


def list_parquet(source: Path, options: SourceOptions) -> Listing:
    """The rows of the Parquet files that ``source`` names or holds; their images are copied into ``options.work``.

    A row group has hundreds to thousands of rows and can only be read whole, while the packer wants single images in
    random order. Raises :class:`DataError` if a file cannot be read or has other columns, or if pyarrow is missing.
    """
    assert options.work is not None
    root, names = find_files(source, ENDINGS)
    splits, notes = splits_of(source, names)
    images: list[ListedImage] = []
    rejects: list[Reject] = []
    copy = options.work / "images"
    with open(copy, "wb") as file:
        for name, split in with_progress(zip(names, splits, strict=True), "listing", len(names), unit="file"):
            for row in _rows(root / name, options.label_field):
                place = f"row {row.number} of {name}"
                if row.fault:
                    rejects.append(Reject(place=place, reason=row.fault))
                    continue
                images.append(
                    ListedImage(
                        location=_append(file, row.content),
                        name=f"{name.removesuffix('.parquet')}/{row.number:07d}.",
                        place=place,
                        label=row.label,
                        split=split,
                    )
                )
    if not images:
        first = rejects[0] if rejects else Reject(place=names[0], reason="has no row")
        raise DataError(f"{source}: none of its {len(rejects)} rows can be used; {first.place} {first.reason}")
    check_stated(source, images, options, "name a column of names with --label-field")
    return Listing(
        root=source,
        images=images,
        container=FileParts(files=(copy,)),
        source_format="huggingface-parquet",
        scheme=options.scheme,
        rejects=rejects,
        notes=notes,
    )


class _Row(NamedTuple):
    number: int
    """Counted from 1."""
    content: bytes
    label: str
    fault: str


def _rows(path: Path, field: str | None) -> Iterator[_Row]:
    """The rows of a file, a few hundred of them in memory at a time."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(
            f"{path}: is Parquet, which the package pyarrow reads; install it with `pip install 'fer-ddp[parquet]'`, "
            f"in a clone `pip install '.[parquet]'`",
            exit_status=2,
        ) from None
    try:
        with open(path, "rb", opener=only_regular) as raw, ParquetFile(raw) as file:
            image, label, class_names = _columns(file, path, field)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[image, label]):
                values = (batch.column(column).to_pylist() for column in (image, label))
                for cell, stated in zip(*values, strict=True):
                    number += 1
                    content, fault = _content(cell)
                    text = _text(stated, class_names)
                    if text is None:
                        fault = fault or _label_fault(stated, label, class_names)
                    yield _Row(number, content, text or "", fault)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: is not a Parquet file that can be read ({reason}); download it again") from error


def _columns(file: "ParquetFile", path: Path, field: str | None) -> tuple[str, str, tuple[str, ...]]:
    """The columns of images and of labels, and what the numbers of the latter mean. Raises :class:`DataError`."""
    import pyarrow.types as types

    schema = file.schema_arrow
    features = _features(schema.metadata or {})
    found = f"its columns are {', '.join(f'{each.name} ({each.type})' for each in schema)}"[:500]
    images = [
        each.name
        for each in schema
        if (types.is_struct(each.type) and each.type.get_field_index("bytes") >= 0)
        or types.is_binary(each.type)
        or types.is_large_binary(each.type)
    ]
    for likelier in (
        [name for name in images if name.lower() in ("image", "img")],
        [name for name in images if features.get(name, {}).get("_type") == "Image"],
    ):
        if len(images) > 1 and likelier:
            images = likelier
    if len(images) != 1:
        raise DataError(
            f"{path}: has {len(images) or 'no'} columns of images, {found}; it should have one, a struct of bytes and "
            f"path as Hugging Face's datasets write it"
        )
    labels = [
        each.name
        for each in schema
        if types.is_integer(each.type)
        or types.is_floating(each.type)  # what pandas makes of whole numbers if one is missing
        or types.is_string(each.type)
        or types.is_large_string(each.type)
        or types.is_dictionary(each.type)
    ]
    named = [name for name in labels if features.get(name, {}).get("_type") == "ClassLabel"]
    usual = [name for name in labels if name.lower() in (*FIELDS, "labels")]
    chosen = [name for name in labels if name == field] if field else named or usual
    if len(chosen) != 1:
        wanted = f"column {field} of numbers or names" if field else "one column that must be the label's"
        raise DataError(f"{path}: has no {wanted}, {found}; name the label's with --label-field", exit_status=2)
    class_names = features.get(chosen[0], {}).get("names") or ()
    if isinstance(class_names, dict):  # as an early version wrote it: {"0": "happy"}
        class_names = [class_names[key] for key in sorted(class_names, key=lambda number: (len(number), number))]
    if not isinstance(class_names, list):
        class_names = ()
    return images[0], chosen[0], tuple(map(str, class_names))


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """What Hugging Face's datasets say of each column; nothing where they did not write the file."""
    try:
        features = parse_json(metadata[b"huggingface"])["info"]["features"].items()
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return {name: each for name, each in features if isinstance(each, dict)}


def _content(cell: Any) -> tuple[bytes, str]:
    """The image file in a cell, or what is wrong with it."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if content:
        return content, ""
    path = cell.get("path") if isinstance(cell, dict) else None
    where = f"only the path {path}" if path else "none"
    return b"", f"has no image in it, {where}; write the file again with the images embedded"


def _text(stated: Any, class_names: tuple[str, ...]) -> str | None:
    """The label of a cell as text, by name where its number has one; None where it is no label."""
    if stated is None or stated != stated or not str(stated).strip():  # not equal to itself: not a number
        return None
    number = whole_number(str(stated))
    if number is None or not class_names:
        return str(stated).strip()
    return class_names[number] if 0 <= number < len(class_names) else None


def _label_fault(stated: Any, column: str, class_names: tuple[str, ...]) -> str:
    right = f"0 to {len(class_names) - 1}" if class_names else "the name or the number of a class"
    return f"has {stated!r} in the column {column}; it should be {right}"


def _append(file: BinaryIO, content: bytes) -> Part:
    offset = file.tell()
    file.write(content)
    return Part(0, offset, len(content))
