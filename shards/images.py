"""Decodes image files into the form that every data set has: 8-bit grey or RGB."""

import io
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation, and what shows an image of it as the camera saw it; 1 and whatever is not here needs nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """The form that a data set's images are to have."""

    size: int | None = None
    """Width and height in pixels; None: as they are, which must be equal."""
    channels: Literal[1, 3] | None = None
    """1 grey, 3 RGB; None: as they are, which must be equal."""
    fit: Literal["refuse", "crop", "pad"] = "refuse"
    """What becomes of an image that is not square."""


class BadImage(Exception):
    """An image that cannot be used; the message says why and what would be right."""


def decode_image(content: bytes) -> tuple[np.ndarray, bool]:
    """Pixels of an image file, upright, uint8, (1 or 3, height, width), and whether it is a JPEG stored upright.

    A JPEG that its EXIF orientation turns is not: readers that ignore EXIF would show it lying on its side.
    Raises :class:`BadImage` for what cannot be decoded, and for what 8-bit grey or RGB cannot hold without loss.
    """
    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            is_turned = _orientation(file) in _TO_UPRIGHT
            return pixels_of(file), file.format in ("JPEG", "MPO") and not is_turned
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (
            "is not an image that can be decoded"
            if isinstance(error, Image.UnidentifiedImageError)
            else f"is damaged ({error})"
        )
        raise BadImage(f"{reason}; it should be a whole PNG or JPEG") from error


def pixels_of(image: Image.Image) -> np.ndarray:
    """Pixels of an image, turned upright by its EXIF orientation, uint8, (1 or 3, height, width).

    Raises :class:`BadImage` for what 8-bit grey or RGB cannot hold without loss.
    """
    image.load()  # Pillow turns a TIFF itself here, and removes its orientation
    if 0 in image.size:
        raise BadImage(f"is an image of {image.width} x {image.height} pixels; it should have some")
    mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    if mode not in ("L", "RGB") or "transparency" in image.info:
        kind = "with transparency" if "transparency" in image.info else f"of mode {image.mode}"
        raise BadImage(f"is an image {kind}; it should be 8-bit grey or RGB")
    turn = _TO_UPRIGHT.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    pixels = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    return np.ascontiguousarray(pixels.reshape(upright.height, upright.width, -1).transpose(2, 0, 1))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where there is none, or the EXIF data are damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error):
        return 1


def shape_in_words(shape: tuple[int, ...]) -> str:
    """``48 x 48 grey`` for (1, 48, 48)."""
    channels, height, width = shape
    return f"{width} x {height} {'grey' if channels == 1 else 'RGB'}"
