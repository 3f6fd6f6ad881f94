"""What a user wants to have classified: files, folders, patterns and images in memory, as pixels that a model takes."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fer_ddp.errors import RunError
from fer_ddp.text import plural
from shards.files import read_regular, user_path
from shards.images import BadImage, ImageOptions, fitted_pixels, is_image_name, upright_image

ImageLike = str | Path | Image.Image | NDArray[np.uint8] | Tensor
"""A file, a PIL image, an array (height, width) or (height, width, 1 or 3), or a tensor as a data set has it,
(channels, height, width); arrays and tensors are uint8."""
Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels of the upright image; right and bottom are outside."""
Fit = Literal["crop", "pad"]
"""What becomes of an image that is not square: the largest square in its centre, or the whole on a black square; as
`shards.images.ImageOptions` has it, so that a face packed and the same face predicted are equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image, or a frame of a video, that was read."""

    name: str
    """The path of its file, or ``image 0`` for one that is not a file."""
    image: Image.Image
    """Upright, 8-bit grey or RGB."""
    seconds: float | None = None
    """When a video shows it."""

    @property
    def place(self) -> str:
        """The name, and of a frame the time."""
        return self.name if self.seconds is None else f"{self.name} at {self.seconds:.2f} s"

    def pixels(self, shape: tuple[int, int, int], fit: Fit, box: Box | None = None) -> NDArray[np.uint8]:
        """The picture, or the part ``box`` of it, as uint8 of ``shape``: (1 or 3, side, side)."""
        channels, side, _ = shape
        options = ImageOptions(size=side, channels=1 if channels == 1 else 3, fit=fit)
        return fitted_pixels(self.image, options, box)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The files that a user named."""

    files: tuple[Path, ...]
    """In the order given; those of a folder or a pattern by name."""
    notes: tuple[str, ...]
    """What was left out."""
    errors: tuple[str, ...]
    """Of arguments that name nothing."""


def find_files(arguments: Sequence[Path]) -> Found:
    """The files that ``arguments`` name: files, folders (all images below them) and patterns such as ``faces/*.png``.

    In a folder, what has not the name of an image is left out and counted; hidden files and folders are left out. A
    file that is named, or matched, is taken whatever it is called.
    """
    files, notes, errors = list[Path](), list[str](), list[str]()
    for argument in arguments:
        if os.path.lexists(argument):
            matches = [argument]
        elif any(character in str(argument) for character in "*?["):
            matches = sorted(map(Path, glob.glob(str(user_path(str(argument))), recursive=True)))
            if not matches:
                errors.append(f"{argument}: no file matches this pattern")
        else:
            matches = [argument]  # reading it tells what is wrong
        for match in matches:
            if not match.is_dir():
                files.append(match)
                continue
            images, others = _images_below(match)
            files += images
            left_out = f"{plural(others, 'other file')} left out"
            if not images:
                errors.append(f"{match}: is a folder without images" + (f" ({left_out})" if others else ""))
            elif others:
                notes.append(f"{match}: {plural(len(images), 'image')}, {left_out}")
    return Found(files=tuple(dict.fromkeys(files)), notes=tuple(notes), errors=tuple(errors))


def _images_below(folder: Path) -> tuple[list[Path], int]:
    """The images in ``folder`` and the folders in it, by name, and how many other files there are."""
    images, others = list[Path](), 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = sorted(name for name in names if not name.startswith("."))
        images += [Path(root, name) for name in visible if is_image_name(name)]
        others += sum(not is_image_name(name) for name in visible)
    return images, others


def single_images(images: Any) -> list[Any]:
    """The single images of what `Predictor.predict` is given."""
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, Tensor):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, np.ndarray):
        is_batch = images.ndim == 4 or (images.ndim == 3 and images.shape[-1] > 4)  # 2 and 4: with alpha
        return list(images) if is_batch else [images]
    if isinstance(images, Iterable):
        return list(images)
    return [images]


def read_pictures(images: Sequence[Any]) -> Iterator[Picture]:
    """Each single image. Raises RunError for one that cannot be used."""
    for index, image in enumerate(images):
        yield read_picture(image, str(image) if isinstance(image, str | Path) else f"image {index}")


def read_picture(image: Any, name: str) -> Picture:
    """One image, called ``name``. Raises RunError if it cannot be used."""
    try:
        return Picture(name=name, image=_upright(image))
    except BadImage as error:
        raise RunError(f"{name}: {error}") from None
    except OSError as error:
        raise RunError(f"{name}: {error.strerror or error}; give image files, PNG or JPEG") from None


def _upright(image: Any) -> Image.Image:
    """One image as 8-bit grey or RGB, upright. Raises BadImage, or OSError for a file."""
    if isinstance(image, str | Path):
        return upright_image(read_regular(Path(image)))
    if isinstance(image, Image.Image):
        return upright_image(image)
    if isinstance(image, Tensor):
        pixels, kind, right = image.numpy(force=True), "a tensor", "(1 or 3, height, width)"
    elif isinstance(image, np.ndarray):
        pixels = image[..., None] if image.ndim == 2 else image
        pixels, kind, right = np.moveaxis(pixels, -1, 0), "an array", "(height, width) or (height, width, 3)"
    else:
        raise BadImage(f"is of type {type(image).__name__}; it should be a path, a PIL image, an array or a tensor")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or 0 in pixels.shape:
        raise BadImage(
            f"is {kind} of {pixels.dtype} {tuple(image.shape)}; it should be uint8, 0 to 255, of shape {right}"
        )
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
