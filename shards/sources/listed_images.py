"""Reads the images of a listing, whatever lists them and wherever they are."""

import hashlib
import math
import posixpath
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from shards.errors import DataError
from shards.images import AS_THEY_ARE, BadImage, ImageOptions, decode_image, shape_in_words
from shards.labels import class_labels
from shards.pixel_statistics import pixel_digests, pixel_sums
from shards.png import encode_pngs
from shards.progress import with_progress
from shards.sources.listing import Container, ListedImage, Listing
from shards.sources.sample_keys import path_keys
from shards.sources.scan import Reject, SourceScan
from shards.votes import votes_text

_FEW = 0.03
"""The share of images, or a count of :data:`_FEW_IMAGES`, that may differ in shape from the others as rejects."""
_FEW_IMAGES = 3


class ImageFile(NamedTuple):
    """Where a sample's image is, and what makes it the sample's."""

    location: Any
    """In the container."""
    box: tuple[int, int, int, int] | None
    is_kept: bool
    """Whether the file itself is stored: a JPEG that nothing changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFiles:
    """The image files of a container; a location is an :class:`ImageFile`."""

    container: Container
    options: ImageOptions = AS_THEY_ARE

    def files(self, locations: list[ImageFile]) -> Iterator[tuple[str, bytes]]:
        """The files at ``locations``: a JPEG that nothing changes as it is, any other as a PNG of its pixels."""
        contents = self.container.contents([image.location for image in locations])
        for image, content in zip(locations, contents, strict=True):
            if image.is_kept:
                yield "jpg", content
            else:
                pixels, _ = decode_image(content, self.options, image.box)
                yield "png", encode_pngs(pixels[None])[0]


class _FileScan(NamedTuple):
    """What a worker reads of a file."""

    sha256: str
    shape: tuple[int, ...]
    is_kept: bool
    digest: str
    sums: list[int]
    square_sums: list[int]
    fault: str
    """Why it cannot be used; empty if it can."""


def scan_listing(
    listing: Listing, pool: Executor, workers: int, image_options: ImageOptions = AS_THEY_ARE
) -> SourceScan:
    """Read the images of ``listing`` in the form ``image_options``; a bad file is a reject.

    A few images of another shape than the others are rejects as well. Raises :class:`DataError` if no image can be
    used, if more than a few differ in shape, if they are not square, which training needs, and as
    :func:`shards.labels.class_labels` does.
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
    images = _listed_once(images, rejects)
    step = max(1, min(256, math.ceil(len(images) / (4 * workers))))
    wanted = [(image.location, image.box) for image in images]
    groups = [wanted[start : start + step] for start in range(0, len(wanted), step)]
    results = pool.map(partial(_scan_files, listing.container, image_options), groups)
    parts = with_progress(results, "reading", len(wanted), unit=" images", size=len)
    files = [file for part in parts for file in part]
    shapes = Counter(file.shape for file in files if not file.fault)
    if not shapes:
        first = images[0].place
        raise DataError(
            f"{listing.root}: none of its {len(files)} images can be used; the first, {first}, {files[0].fault}"
        )
    shape = _common_shape(listing, shapes, image_options)
    usable: list[int] = []
    for index, (image, file) in enumerate(zip(images, files, strict=True)):
        fault = file.fault
        if not fault and file.shape != shape:
            fault = (
                f"is {shape_in_words(file.shape)}; most of the images are {shape_in_words(shape)}, all should be: "
                f"pack with {_flags({file.shape, shape}, image_options)}"
            )
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
            "location": [
                ImageFile(images[index].location, images[index].box, files[index].is_kept) for index in usable
            ],
            "digest": [files[index].digest for index in usable],
        }
    )
    if any(image.subject for image in images):
        table["subject"] = [images[index].subject for index in usable]
    votes = [None if (one := images[index].votes) is None else votes_text(one) for index in usable]
    has_votes = any(text is not None for text in votes)
    digests = "".join(f"{file.sha256}  {image.name}\n" for image, file in zip(images, files, strict=True))
    return SourceScan(
        table=table,
        sums=np.array([files[index].sums for index in usable], np.int64),
        square_sums=np.array([files[index].square_sums for index in usable], np.int64),
        images=ImageFiles(container=listing.container, options=image_options),
        image_shape=shape,
        class_names=names,
        rejects=sorted(rejects, key=lambda reject: reject.place),
        source_format=listing.source_format,
        source_sha256=hashlib.sha256(digests.encode(errors="surrogateescape")).hexdigest(),
        notes=(*_ignored_note(listing), *listing.notes, *notes),
        options=_recorded(listing, image_options),
        votes=votes if has_votes else None,
        is_labelled_by_votes=has_votes,
    )


def _listed_once(images: list[ListedImage], rejects: list[Reject]) -> list[ListedImage]:
    """``images`` without those listed before, in another list perhaps, which are added to ``rejects``."""
    first_places: dict[tuple[Any, Any], str] = {}
    kept = []
    for image in images:
        location = posixpath.normpath(image.location) if isinstance(image.location, str) else image.location
        first = first_places.setdefault((location, image.box), image.place)
        if first is image.place:
            kept.append(image)
        else:
            rejects.append(Reject(place=image.place, reason=f"is the image of {first} again; remove one"))
    return kept


def _scan_files(container: Container, options: ImageOptions, wanted: list[tuple[Any, Any]]) -> list[_FileScan]:
    contents = _contents(container, [location for location, _ in wanted])
    return [_scan_file(content, options, box) for content, (_, box) in zip(contents, wanted, strict=True)]


def _contents(container: Container, locations: list[Any]) -> Iterator[bytes | OSError]:
    """The file at each of ``locations``, or the error that it cannot be read for."""
    done = 0
    while done < len(locations):
        try:
            for content in container.contents(locations[done:]):
                done += 1
                yield content
        except OSError as error:
            done += 1
            yield error


def _scan_file(content: bytes | OSError, options: ImageOptions, box: tuple[int, int, int, int] | None) -> _FileScan:
    if isinstance(content, OSError):
        return _FileScan("", (), False, "", [], [], f"cannot be read ({content.strerror})")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        pixels, is_kept = decode_image(content, options, box)
    except BadImage as error:
        return _FileScan(sha256, (), False, "", [], [], str(error))
    sums, square_sums = pixel_sums(pixels[None])
    (digest,) = pixel_digests(pixels[None])
    return _FileScan(sha256, pixels.shape, is_kept, digest, sums[0].tolist(), square_sums[0].tolist(), "")


def _common_shape(listing: Listing, shapes: Counter[tuple[int, ...]], options: ImageOptions) -> tuple[int, int, int]:
    """The square shape that all but a few images have. Raises :class:`DataError` if there is none."""
    square = [(shape, count) for shape, count in shapes.most_common() if shape[1] == shape[2]]
    total = shapes.total()
    if square and total - square[0][1] <= max(_FEW_IMAGES, _FEW * total):
        channels, height, width = square[0][0]
        return channels, height, width
    most = shapes.most_common(3)
    counts = ", ".join(f"{count} {'is' if count == 1 else 'are'} {shape_in_words(shape)}" for shape, count in most)
    others = f" and {total - sum(count for _, count in most)} have other shapes" if len(shapes) > len(most) else ""
    wanted = "images should be square" if len(shapes) == 1 else "images should be square and of one shape"
    raise DataError(f"{listing.root}: {counts}{others}; {wanted}: pack with {_flags(set(shapes), options)}")


def _flags(shapes: set[tuple[int, ...]], options: ImageOptions) -> str:
    """The flags beside ``options`` that give images of these shapes one square shape."""
    flags = []
    if any(height != width for _, height, width in shapes):
        flags.append("--crop (their centre) or --pad (black bars)")
    if options.size is None and len({shape[1:] for shape in shapes}) > 1:
        flags.append("--size N")
    if len({shape[0] for shape in shapes}) > 1:
        flags.append("--grey or --rgb")
    return ", and ".join(flags)


def _recorded(listing: Listing, options: ImageOptions) -> dict[str, int | str]:
    """What the manifest's options record: what was asked for."""
    recorded: dict[str, int | str] = {} if listing.scheme is None else {"scheme": listing.scheme.name}
    if options.size is not None:
        recorded["size"] = options.size
    if options.channels is not None:
        recorded["channels"] = options.channels
    if options.fit != "refuse":
        recorded["fit"] = options.fit
    return recorded


def _ignored_note(listing: Listing) -> list[str]:
    count = sum(listing.ignored.values())
    if not count:
        return []
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(listing.ignored.items()))
    return [f"ignored {count} {'file that is not an image' if count == 1 else 'files that are not images'}: {kinds}"]
