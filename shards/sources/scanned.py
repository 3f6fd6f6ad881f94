"""What a source hands to the packer: a table of its usable samples, and a way to get at each one's image."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shards.png import encode_png

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """A row or a file that cannot be used."""

    place: str
    """``row 17`` (counted from 1, without the header) or a file's path inside the source."""
    reason: str
    """What is wrong with it and what would be right."""


class Images(Protocol):
    """The images of a source, as files to put into a tar. Sent to worker processes, so small when pickled."""

    def files(self, places: list[int]) -> list[tuple[str, bytes]]:
        """(extension, content) of the images at ``places``."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """A source, read once."""

    table: "pandas.DataFrame"
    """A row for each usable sample, in the source's order. Columns: ``key``; ``split`` (train, val, test); ``label``;
    ``place`` (what :class:`Images` calls it); ``digest`` (of its pixels, hex)."""
    sums: np.ndarray
    """int64, (samples, channels): each sample's sum of pixels."""
    square_sums: np.ndarray
    """int64, (samples, channels): each sample's sum of squared pixels."""
    images: Images
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    rejects: list[Reject]
    source_format: str
    source_sha256: str
    votes: list[bytes | None] | None = None
    """FER+ votes of each sample as JSON; None for a sample without, or where no votes were given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelFile:
    """Images that stand decoded in a file: uint8, (rows, channels, height, width)."""

    path: Path
    rows: int
    shape: tuple[int, int, int]

    def create(self) -> None:
        """Make the file, empty, at its full length."""
        with open(self.path, "wb") as file:
            file.truncate(max(1, self.rows * self.shape[0] * self.shape[1] * self.shape[2]))

    def open(self, mode: str = "r") -> np.ndarray:
        """The images, mapped from the file."""
        return np.memmap(self.path, np.uint8, mode=mode, shape=(self.rows, *self.shape))  # type: ignore[call-overload,no-any-return]

    def files(self, places: list[int]) -> list[tuple[str, bytes]]:
        """The images at ``places`` as PNGs."""
        images = self.open()
        return [("png", encode_png(images[place])) for place in places]
