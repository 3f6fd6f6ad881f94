"""Reads a split into memory: shards in order, every byte checked against the manifest."""

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from shards.errors import DataError
from shards.manifest import Manifest, Shard, read_manifest
from shards.png import stored_prefix, stored_size
from shards.processes import process_context
from shards.tar_index import Member, index_tar

IMAGE_EXTENSIONS = ("png", "jpg", "jpeg")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedSplit:
    """A split's samples, in the order of its shards."""

    images: np.ndarray
    """uint8, (samples, channels, height, width)."""
    labels: np.ndarray
    """int64, (samples,)."""
    keys: list[str]
    """Each sample's name: its row or file in the source."""


def read_split(folder: Path, split: str, workers: int = 1, manifest: Manifest | None = None) -> DecodedSplit:
    """Read and decode one split of the data set in ``folder``.

    ``manifest`` is for a folder that has none of its own (see :func:`shards.scan.scan_folder`). With ``workers`` > 1
    the shards are decoded in that many processes; the result is the same. Raises :class:`DataError` naming the file
    if a shard is missing, damaged, cut short or not what the manifest says.
    """
    refuse_url(str(folder))
    folder = Path(folder)
    manifest = manifest or read_manifest(folder)
    shards = manifest.split(split).shards
    shape, classes = manifest.image_shape, len(manifest.class_names)
    images = np.empty((sum(shard.samples for shard in shards), *shape), np.uint8)
    labels = np.empty(len(images), np.int64)
    keys: list[str] = []
    for part_images, part_labels, part_keys in _decoded(folder, shards, shape, classes, workers):
        place = slice(len(keys), len(keys) + len(part_keys))
        images[place], labels[place] = part_images, part_labels
        keys.extend(part_keys)
    return DecodedSplit(images=images, labels=labels, keys=keys)


def refuse_url(path: str) -> None:
    """Refuse ``pipe:`` and the like, which WebDataset would hand to a shell. Raises :class:`DataError`."""
    scheme = path.split(":", 1)[0] if ":" in path else ""
    if scheme.isalpha() and len(scheme) > 1 and not os.path.exists(path):
        raise DataError(f"{path}: is a {scheme}: address; it should be a folder on this machine.", exit_status=2)


def read_shard(folder: Path, shard: Shard) -> bytes:
    """The bytes of a shard, checked against its sha256 (if the manifest has it). Raises :class:`DataError`."""
    path = folder / shard.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); the manifest names it.") from error
    if shard.bytes and len(content) != shard.bytes:
        raise DataError(f"{path}: has {len(content)} bytes, the manifest says {shard.bytes}; copy or pack it again.")
    if shard.sha256 and hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(f"{path}: its sha256 is not the manifest's; the file is damaged, copy or pack it again.")
    return content


_Part = tuple[np.ndarray, np.ndarray, list[str]]


def _decoded(
    folder: Path, shards: tuple[Shard, ...], shape: tuple[int, int, int], classes: int, workers: int
) -> Iterator[_Part]:
    tasks = [(folder, shard, shape, classes) for shard in shards]
    if workers <= 1 or len(tasks) <= 1:
        yield from map(_decode_shard, tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=process_context()) as pool:
        yield from pool.map(_decode_shard, tasks)


def _decode_shard(task: tuple[Path, Shard, tuple[int, int, int], int]) -> _Part:
    folder, shard, shape, classes = task
    content = read_shard(folder, shard)
    path = str(folder / shard.name)
    samples = list(samples_of(index_tar(content, path), path))
    if len(samples) != shard.samples:
        raise DataError(f"{path}: holds {len(samples)} samples, the manifest says {shard.samples}.")
    labels = np.array([_label(content, label, classes, path) for _, _, label in samples], np.int64)
    images = decode_images(content, [image for _, image, _ in samples], shape, path)
    return images, labels, [key for key, _, _ in samples]


def samples_of(members: list[Member], path: str) -> Iterator[tuple[str, Member, Member]]:
    """Each sample of a tar as (key, image, label). Raises :class:`DataError` for a sample without one of these."""
    key, parts = "", dict[str, Member]()
    for member in members:
        folder, _, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        name = f"{folder}/{stem}" if folder else stem
        if name != key:
            if parts:
                yield _sample(key, parts, path)
            key, parts = name, {}
        parts[extension.lower()] = member
    if parts:
        yield _sample(key, parts, path)


def _sample(key: str, parts: dict[str, Member], path: str) -> tuple[str, Member, Member]:
    for extension in IMAGE_EXTENSIONS:
        if extension in parts and "cls" in parts:
            return key, parts[extension], parts["cls"]
    raise DataError(f"{path}: sample {key} has {', '.join(parts)}; it should have .cls and one of .png, .jpg, .jpeg.")


def _label(content: bytes, member: Member, classes: int, path: str) -> int:
    text = content[member.offset : member.offset + member.size]
    if not (text.isdigit() and int(text) < classes):
        raise DataError(f"{path}: {member.name} holds {text[:20]!r}; it should be a label from 0 to {classes - 1}.")
    return int(text)


def decode_images(content: bytes, members: list[Member], shape: tuple[int, int, int], path: str) -> np.ndarray:
    """The images of a tar: uint8, (members, channels, height, width). Raises :class:`DataError` naming the image."""
    images = np.empty((len(members), *shape), np.uint8)
    channels, height, width = shape
    prefix, size, row = stored_prefix(*shape), stored_size(*shape) if channels in (1, 3) else 0, 1 + width * channels
    for place, member in enumerate(members):
        start = member.offset
        # One of our own PNGs: its rows stand uncompressed behind a constant beginning.
        if prefix is not None and member.size == size and content.startswith(prefix, start):
            rows = np.frombuffer(content, np.uint8, height * row, start + len(prefix)).reshape(height, row)
            if not rows[:, 0].any():
                images[place] = rows[:, 1:].reshape(height, width, channels).transpose(2, 0, 1)
                continue
        images[place] = _decode(content[start : start + member.size], shape, f"{path}: {member.name}")
    return images


def _decode(data: bytes, shape: tuple[int, int, int], name: str) -> np.ndarray:
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{name} cannot be decoded ({error}).") from error
    if pixels.shape[:2] != (height, width):
        found = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise DataError(f"{name} is {found}; the data set's images are {width} x {height}.")
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)
