"""Decodes image files into the form that every data set has: 8-bit grey or RGB, upright.

The rules, wherever an image is read:

- EXIF's orientation is applied; of several frames or pages the first is read.
- Transparency is laid on white, as browsers show it. A palette and CMYK become RGB, 1-bit black and white grey; a GIF,
  which always has a palette, is grey if all its pixels are.
- 16 bits become 8 by linear scaling, rounded: ``(value + 128) // 257``, as the PNG specification has it (13.12);
  Pillow itself keeps the upper byte of RGB with 16 bits a channel, which differs by 1 at most. 32-bit integers are
  taken for 16-bit values, since Pillow reads grey with 16 bits as such. Floats are 0 (black) to 1 (white), or 0 to 255
  if any is greater than 1.
- ``--grey`` weights RGB as ITU-R 601 does (Pillow's mode L). ``--size`` resizes with Pillow's bilinear filter, whose
  support grows with the factor, so that it is antialiased: the default of torchvision's ``Resize``, and what
  `fer-ddp predict` uses for an image of another size, so that a face packed and the same face predicted are equal.
"""

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

from shards.file_kind import other_than_data

# Of damaged files, which are refused by name or are whole all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".avif", ".tif", ".tiff", ".gif"),
    *(".pgm", ".ppm", ".pnm", ".pbm"),
)
"""Of image files, in lower case; each may have any case."""


def is_image_name(path: str) -> bool:
    """Whether a path ends as that of an image file does."""
    return os.path.splitext(path.strip())[1].lower() in EXTENSIONS


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

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions:
    """The form that a data set's images are to have."""

    size: int | None = None
    """Width and height in pixels; None: as they are, which must be equal."""
    channels: Literal[1, 3] | None = None
    """1 grey, 3 RGB; None: as they are, which must be equal."""
    fit: Literal["refuse", "crop", "pad"] = "refuse"
    """What becomes of an image that is not square: crop keeps the largest square in its centre, pad puts it into the
    centre of a black square. Where a pixel is left over, it is at the right or bottom."""


AS_THEY_ARE = ImageOptions()


class BadImage(Exception):
    """An image that cannot be used; the message says why and what would be right."""


def decode_image(
    content: bytes, options: ImageOptions = AS_THEY_ARE, box: tuple[int, int, int, int] | None = None
) -> tuple[np.ndarray, bool]:
    """Pixels of an image file, uint8, (1 or 3, height, width), and whether it is a JPEG that has just these pixels.

    ``box`` (left, top, right, bottom, in pixels of the upright image) is cut out first, the part of it that is inside;
    then ``options`` are applied. A JPEG that its EXIF orientation turns does not count: readers that ignore EXIF would
    show it lying on its side. An image that is not square keeps its size with ``fit="refuse"``. Raises
    :class:`BadImage` for what cannot be decoded, or has no form in 8-bit grey or RGB.
    """
    with _decoding(content) as file:
        image = _fitted(_upright(file), options, box)
        return _array(image), image is file and file.format in ("JPEG", "MPO")


def upright_image(image: bytes | Image.Image) -> Image.Image:
    """An image, or the content of an image file, by the rules above: 8-bit grey or RGB, upright, all of it.

    Raises :class:`BadImage` as :func:`decode_image` does.
    """
    if isinstance(image, Image.Image):
        image.load()  # Pillow turns a TIFF itself here, and removes its orientation
        return _upright(image)
    with _decoding(image) as file:
        return _upright(file)


def fitted_pixels(
    image: Image.Image, options: ImageOptions, box: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """Pixels of the part ``box`` of an :func:`upright_image` in the form ``options``, as :func:`decode_image` does."""
    return _array(_fitted(image, options, box))


@contextmanager
def _decoding(content: bytes) -> Iterator[Image.Image]:
    """A loaded image file. Raises BadImage for what is not one, also while it is worked on."""
    other = other_file(content[:64])
    if other:
        raise BadImage(other)
    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            yield file
    except Image.UnidentifiedImageError as error:
        raise BadImage("is not an image that can be decoded; it should be a whole PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise BadImage("has too many pixels to be decoded; make it smaller") from error
    except (OSError, ValueError, SyntaxError, RuntimeError) as error:  # the last of AVIF
        raise BadImage(f"is damaged ({error}); it should be a whole PNG or JPEG") from error


def other_file(head: bytes) -> str:
    """What a file is that begins with ``head`` and is known not to be an image, and what to do; else empty."""
    if not head:
        return "is empty; copy or download it again"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "is a HEIC photograph, which cannot be read; save it as JPEG or PNG"
    if (head[4:8] == b"ftyp" and not head[8:12].startswith(b"avi")) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "is a video; save its frames as PNG or JPEG"
    if head.startswith(b"PK\3\4"):
        return "is a zip archive; unpack it"
    if head.startswith(b"<svg"):
        return "is an SVG drawing; save it as PNG"
    return other_than_data(head) or ""


def _array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _upright(image: Image.Image) -> Image.Image:
    """A loaded image as 8-bit grey or RGB, upright; ``image`` itself if it is that already."""
    if 0 in image.size:
        raise BadImage(f"is an image of {image.width} x {image.height} pixels; it should have some")
    turn = _TO_UPRIGHT.get(_orientation(image))
    converted = _converted(image)
    if image.format == "GIF" and converted.mode == "RGB":
        red, green, blue = (band.tobytes() for band in converted.split())
        converted = converted.getchannel("R") if red == green == blue else converted
    return converted if turn is None else converted.transpose(turn)


def _converted(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit grey or RGB, itself if it is that already."""
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        values, transparent = np.asarray(image), image.info.get("transparency")  # of a PNG: the one value that is
        return Image.fromarray(
            _scaled(values if transparent is None else np.where(values == transparent, 65535, values))
        )
    if image.has_transparency_data:
        layer = image.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA")
        white = Image.new(layer.mode[:-1], layer.size, "white")
        white.paste(layer.convert(white.mode), mask=layer.getchannel("A"))
        return white
    if mode in ("L", "RGB"):
        return image
    if mode not in ("1", "P", "CMYK", "YCbCr", "HSV", "RGBX"):
        raise BadImage(f"is an image of mode {mode}; save it as 8-bit grey or RGB")
    return image.convert("L" if mode == "1" else "RGB")


def _scaled(values: np.ndarray) -> np.ndarray:
    """Grey of more than 8 bits as uint8, by the rule above."""
    if values.dtype.kind == "f":
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 255):  # also where one is not a number
            raise BadImage(f"has values from {low:g} to {high:g}; floats should be 0 to 1, or 0 to 255")
        return (values * (255 if high <= 1 else 1) + 0.5).astype(np.uint8)
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise BadImage(f"has values from {wide.min()} to {wide.max()}; 16-bit values are 0 to 65535")
    return ((wide + 128) // 257).astype(np.uint8)


def _fitted(image: Image.Image, options: ImageOptions, box: tuple[int, int, int, int] | None) -> Image.Image:
    """The part ``box`` of an 8-bit image, in the form ``options``; ``image`` itself if it has that form already."""
    if box is not None:
        inside = (max(0, box[0]), max(0, box[1]), min(image.width, box[2]), min(image.height, box[3]))
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            where = f"{box[0]}, {box[1]} to {box[2]}, {box[3]}"
            raise BadImage(f"has nothing in its box {where}; the image has {image.width} x {image.height} pixels")
        if inside != (0, 0, *image.size):
            image = image.crop(inside)
    if options.channels is not None and len(image.getbands()) != options.channels:
        image = image.convert("L" if options.channels == 1 else "RGB")
    width, height = image.size
    if width != height and options.fit != "refuse":
        side = min(width, height) if options.fit == "crop" else max(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        if options.fit == "crop":
            image = image.crop((left, top, left + side, top + side))
        else:
            square = Image.new(image.mode, (side, side))
            square.paste(image, ((side - width) // 2, (side - height) // 2))
            image = square
    if options.size is not None and image.width == image.height != options.size:
        image = image.resize((options.size, options.size), Image.Resampling.BILINEAR)
    return image


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
