"""Decodes image files into the form that every data set has: 8-bit grey or RGB."""

import io

import numpy as np
from PIL import Image


class BadImage(Exception):
    """An image that cannot be used; the message says why and what would be right."""


def decode_image(content: bytes) -> tuple[np.ndarray, bool]:
    """Pixels of an image file, uint8, (1 or 3, height, width), and whether the file is a JPEG.

    Raises :class:`BadImage` for what cannot be decoded, and for what 8-bit grey or RGB cannot hold without loss.
    """
    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            return pixels_of(file), file.format in ("JPEG", "MPO")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (
            "is not an image that can be decoded"
            if isinstance(error, Image.UnidentifiedImageError)
            else f"is damaged ({error})"
        )
        raise BadImage(f"{reason}; it should be a whole PNG or JPEG") from error


def pixels_of(image: Image.Image) -> np.ndarray:
    """Pixels of an image, uint8, (1 or 3, height, width).

    Raises :class:`BadImage` for what 8-bit grey or RGB cannot hold without loss.
    """
    mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
    if mode not in ("L", "RGB") or "transparency" in image.info:
        kind = "with transparency" if "transparency" in image.info else f"of mode {image.mode}"
        raise BadImage(f"is an image {kind}; it should be 8-bit grey or RGB")
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return np.ascontiguousarray(pixels.reshape(image.height, image.width, -1).transpose(2, 0, 1))


def shape_in_words(shape: tuple[int, ...]) -> str:
    """``48 x 48 grey`` for (1, 48, 48)."""
    channels, height, width = shape
    return f"{width} x {height} {'grey' if channels == 1 else 'RGB'}"
