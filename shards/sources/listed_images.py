"""Reads the images of a listing, whatever lists them and wherever they are."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from shards.errors import DataError
from shards.images import BadImage, decode_image, shape_in_words
from shards.labels import class_labels
from shards.pixel_statistics import pixel_digests, pixel_sums
from shards.png import encode_pngs
from shards.progress import with_progress
from shards.sources.listing import Container, Listing
from shards.sources.sample_keys import path_keys
from shards.sources.scan import Reject, SourceScan


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFiles:
    """The image files of a container."""

    container: Container

    def files(self, locations: list[Any]) -> Iterator[tuple[str, bytes]]:
        """The files at ``locations``: a JPEG as it is unless EXIF turns it, any other as a PNG.

        The PNG has the pixels of the upright image.
        """
        for content in self.container.contents(locations):
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


def scan_listing(listing: Listing, pool: Executor, workers: int) -> SourceScan:
    """Read the images of ``listing``; a bad file is a reject.

    Raises :class:`DataError` if no image can be used, and as :func:`shards.labels.class_labels` does.
    """
    import pandas

    labels = class_labels(listing.root, ((image.label, image.place) for image in listing.images), listing.scheme)
    names, label_of = labels.class_names, labels.label_of
    images = [image for image in listing.images if image.label in label_of]
    if not images:
        raise DataError(f"{listing.root}: none of its {len(listing.images)} images has a class: {', '.join(names)}")
    left_out = Counter(labels.left_out.get(image.label) for image in listing.images if image.label not in label_of)
    notes = [f"left out: {count:,} with the label {name}, which is not a class" for name, count in left_out.items()]
    rejects = list(listing.rejects)
    locations = [image.location for image in images]
    step = max(1, min(256, math.ceil(len(images) / (4 * workers))))
    groups = [locations[start : start + step] for start in range(0, len(locations), step)]
    results = pool.map(partial(_scan_files, listing.container), groups)
    parts = with_progress(results, "reading", len(locations), unit=" images", size=len)
    files = [file for part in parts for file in part]
    shapes = Counter(file.shape for file in files if not file.fault)
    if not shapes:
        first = images[0].place
        raise DataError(
            f"{listing.root}: none of its {len(files)} images can be used; the first, {first}, {files[0].fault}"
        )
    channels, height, width = shape = shapes.most_common(1)[0][0]
    usable: list[int] = []
    for index, (image, file) in enumerate(zip(images, files, strict=True)):
        fault = file.fault
        if not fault and file.shape != shape:
            fault = f"is {shape_in_words(file.shape)}; most of the images are {shape_in_words(shape)}, all should be"
        if fault:
            rejects.append(Reject(place=image.place, reason=fault))
        else:
            usable.append(index)
    keys = path_keys([image.name for image in images])
    table = pandas.DataFrame(
        {
            "key": [keys[index] for index in usable],
            "split": [images[index].split for index in usable],
            "label": np.array([label_of[images[index].label] for index in usable], np.int64),
            "location": [images[index].location for index in usable],
            "digest": [files[index].digest for index in usable],
        }
    )
    digests = "".join(f"{file.sha256}  {image.name}\n" for image, file in zip(images, files, strict=True))
    return SourceScan(
        table=table,
        sums=np.array([files[index].sums for index in usable]),
        square_sums=np.array([files[index].square_sums for index in usable]),
        images=ImageFiles(container=listing.container),
        image_shape=(channels, height, width),
        class_names=names,
        rejects=sorted(rejects, key=lambda reject: reject.place),
        source_format=listing.source_format,
        source_sha256=hashlib.sha256(digests.encode(errors="surrogateescape")).hexdigest(),
        notes=(*listing.notes, *notes),
        options={} if listing.scheme is None else {"scheme": listing.scheme.name},
    )


def _scan_files(container: Container, locations: list[Any]) -> list[_FileScan]:
    return [_scan_file(container, location) for location in locations]


def _scan_file(container: Container, location: Any) -> _FileScan:
    nothing = np.zeros(0, np.int64)
    try:
        (content,) = container.contents([location])
    except OSError as error:
        return _FileScan("", (), "", nothing, nothing, f"cannot be read ({error.strerror})")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        pixels, _ = decode_image(content)
    except BadImage as error:
        return _FileScan(sha256, (), "", nothing, nothing, str(error))
    sums, square_sums = pixel_sums(pixels[None])
    return _FileScan(sha256, pixels.shape, pixel_digests(pixels[None])[0], sums[0], square_sums[0], "")
