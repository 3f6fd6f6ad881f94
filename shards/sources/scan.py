"""What a source gives to the packer: a table of its usable samples, and access to the image of each."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from shards.png import encode_pngs

if TYPE_CHECKING:
    import pandas

_PNGS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """A row or a file that cannot be used."""

    place: str
    """``row 17`` (counted from 1, without the header) or a file's path inside the source."""
    reason: str
    """What is wrong with it and what would be right."""


_ADVICE = "; --val-fraction 0.1 takes a tenth of it as val"


def all_train(source: object, reason: str = "has no splits, so all of it is train") -> str:
    """The note for a source that names no splits."""
    return f"{source}: {reason}{_ADVICE}"


def is_all_train(note: str) -> bool:
    """Whether a note is one of :func:`all_train`."""
    return note.endswith(_ADVICE)


class Images(Protocol):
    """The images of a source, as files to put into a tar. Sent to worker processes, so small when pickled."""

    def files(self, locations: list[Any]) -> Iterator[tuple[str, bytes]]:
        """(extension, content) of the image at each of ``locations``, the table's column."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceScan:
    """A source, read once."""

    table: "pandas.DataFrame"
    """A row for each usable sample, in the source's order. Columns: ``key``; ``split`` (train, val, test); ``label``;
    ``location`` (where :class:`Images` finds it); ``digest`` (of its pixels, hex); and ``subject`` (the person shown)
    where the source states it."""
    sums: np.ndarray
    """int64, (samples, channels): each sample's sum of pixels."""
    square_sums: np.ndarray
    """int64, (samples, channels): each sample's sum of squared pixels."""
    images: Images
    image_shape: tuple[int, int, int]
    """(channels, height, width)."""
    class_names: tuple[str, ...]
    rejects: list[Reject]
    source_format: str
    source_sha256: str
    votes: list[bytes | None] | None = None
    """FER+ votes of each sample as JSON; None for a sample without, or where no votes were given."""
    notes: tuple[str, ...] = ()
    """Sentences to print once the data set is packed."""
    options: dict[str, int | str] = field(default_factory=dict)
    """What the manifest's options record of how the source was read."""
    is_labelled_by_votes: bool = False
    """Whether the votes are to give the labels; see :mod:`shards.packing.vote_labels`."""

    def selected(self, mask: np.ndarray) -> "SourceScan":
        """Only the samples where ``mask``, bool (samples,), is true."""
        return replace(
            self,
            table=self.table[mask].reset_index(drop=True),
            sums=self.sums[mask],
            square_sums=self.square_sums[mask],
            votes=None if self.votes is None else list(compress(self.votes, mask)),
        )


Source = Callable[[Path, Executor, int], SourceScan]
"""Called with a folder for its own temporary files, a pool of worker processes and their number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelFile:
    """Decoded images in a file: uint8, (rows, channels, height, width)."""

    path: Path
    rows: int
    shape: tuple[int, int, int]
    """(channels, height, width)."""

    def create(self) -> None:
        """Make the file, empty, at its full length."""
        with open(self.path, "wb") as file:
            file.truncate(max(1, self.rows * self.shape[0] * self.shape[1] * self.shape[2]))

    def open(self, mode: Literal["r", "r+"] = "r") -> np.ndarray:
        """The images, mapped from the file."""
        return np.asarray(np.memmap(self.path, np.uint8, mode=mode, shape=(self.rows, *self.shape)))

    def files(self, locations: list[int]) -> Iterator[tuple[str, bytes]]:
        """The images of the rows ``locations`` as PNGs."""
        images = self.open()
        for start in range(0, len(locations), _PNGS_AT_ONCE):
            for content in encode_pngs(images[locations[start : start + _PNGS_AT_ONCE]]):
                yield "png", content
