"""What a source of image files states about its samples, before any image is read.

Every source but FER2013's CSV and the synthetic faces is a function from a path to a :class:`Listing`;
:func:`shards.sources.listed_images.scan_listing` reads the images and makes the :class:`SourceScan` of it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from shards.files import read_regular
from shards.images import ImageOptions
from shards.labels import LabelScheme
from shards.sources.scan import Reject


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions:
    """What the user says about a source."""

    scheme: LabelScheme | None = None
    """What its labels mean; None: as the source itself says."""
    allowed_classes: tuple[str, ...] = ()
    """Class folders that are kept although they look like a mistake."""
    images: ImageOptions = field(default_factory=ImageOptions)
    label_field: str | None = None
    """The field of a ``.json``, or the column of a Parquet file, that holds the label; None: the one that can be it."""
    work: Path | None = None
    """A folder for a source's own temporary files, removed once the data set is packed; set by the packer."""


class Container(Protocol):
    """Where the images are: a folder, tars, Parquet files. Sent to worker processes, so small when pickled."""

    def contents(self, locations: list[Any]) -> Iterator[bytes]:
        """The file, undecoded, at each of ``locations``. Raises ``OSError`` where it cannot be read."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """Images that are files below ``root``; a location is a path below it, with ``/``."""

    root: Path

    def contents(self, locations: list[str]) -> Iterator[bytes]:
        """The files at ``locations``."""
        root = str(self.root)  # joining strings takes a tenth of the time
        for location in locations:
            yield read_regular(os.path.join(root, location))


class Box(NamedTuple):
    """A face in an image, in pixels of the upright image; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """One sample as the source states it."""

    location: Any
    """Where :class:`Container` finds its image."""
    name: str
    """Its path or the like inside the source: orders the samples, and its key is made of it."""
    place: str
    """Where the source states it, for messages: ``row 17 of labels.csv`` or a path."""
    label: str
    """As the source writes it: ``3``, ``Happiness``, ``HA``."""
    split: str = ""
    """train, val or test; empty where the source does not say."""
    subject: str = ""
    """The person shown; empty where the source does not say."""
    box: Box | None = None
    """The part of the image to keep; None for all of it."""
    votes: dict[str, int] | None = None
    """FER+'s counts by category."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """A source of image files."""

    root: Path
    """For messages."""
    images: list[ListedImage]
    container: Container
    source_format: str
    scheme: LabelScheme | None = None
    """What its labels mean; None where only their names can tell (:func:`shards.labels.class_order`)."""
    rejects: list[Reject] = field(default_factory=list)
    """What is named or listed in a way that cannot be used."""
    ignored: dict[str, int] = field(default_factory=dict)
    """Files that are no samples, and were left alone, by what they are (``text files``)."""
    notes: list[str] = field(default_factory=list)
    """Sentences to print once the data set is packed, such as what was left out and which flag keeps it."""
