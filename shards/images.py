"""Decodes image files into the one form that a data set has: 8-bit grey or RGB."""

import io

import numpy as np
from PIL import Image


class BadImage(Exception):
    """An image that cannot be used; the message says why, and what would be right."""


def decode_image(content: bytes) -> tuple[np.ndarray, bool]:
    """Pixels of an image file, uint8, (1 or 3, height, width), and whether the file is a JPEG.

    Raises :class:`BadImage` for what cannot be decoded, and for what 8-bit grey or RGB cannot hold without loss.
    """
    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            is_jpeg = file.format in ("JPEG", "MPO")
            mode = {"1": "L", "P": "RGB"}.get(file.mode, file.mode)
            if mode not in ("L", "RGB") or "transparency" in file.info:
                kind = "with transparency" if "transparency" in file.info else f"of mode {file.mode}"
                raise BadImage(f"is an image {kind}; it should be 8-bit grey or RGB")
            pixels = np.asarray(file if file.mode == mode else file.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (
            "is no image that can be decoded"
            if isinstance(error, Image.UnidentifiedImageError)
            else f"is damaged ({error})"
        )
        raise BadImage(f"{reason}; it should be a whole PNG or JPEG") from error
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(pixels.reshape(height, width, -1).transpose(2, 0, 1)), is_jpeg


def shape_in_words(shape: tuple[int, ...]) -> str:
    """``48 x 48 grey`` for (1, 48, 48)."""
    channels, height, width = shape
    return f"{width} x {height} {'grey' if channels == 1 else 'RGB'}"
