"""Predictions of an ONNX model for a data set, by onnxruntime (the extra ``onnx``)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fer_ddp.errors import JobError, RunError
from fer_ddp.report.imported_classes import ClassesOfFile, ClassNames, FoundPredictions
from fer_ddp.text import plural
from shards.files import read_regular
from shards.manifest import Manifest
from shards.parallel import usable_cpus
from shards.reading.reader import read_split

_BATCH = 256
_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
Layout = Literal["NCHW", "NHWC"]
Color = Literal["grey", "rgb", "bgr"]


@dataclass(frozen=True, kw_only=True, slots=True)
class InputDescription:
    """What a model takes, as far as its file does not say; None: from the file."""

    size: int | None = None
    """Height and width in pixels."""
    color: Color | None = None
    layout: Layout | None = None
    scale: float | None = None
    """Pixels of 0 to 255 are divided by it, then ``mean`` is subtracted, then they are divided by ``std``."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Input:
    """What a model takes."""

    size: tuple[int, int]
    """(height, width); of the data's own images where it takes any."""
    color: Color
    layout: Layout
    dtype: type[np.generic]
    scale: float
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def batch(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """uint8 (n, 1 or 3, height, width) as the model takes them."""
        pixels: NDArray[Any] = np.stack([self._resized(image) for image in images])
        if self.dtype != np.uint8:
            pixels = ((pixels.astype(np.float32) / np.float32(self.scale) - self.mean) / self.std).astype(self.dtype)
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if self.layout == "NCHW" else pixels

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, channels)."""
        picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        picture = picture.convert("L" if self.color == "grey" else "RGB")
        height, width = self.size
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture).reshape(height, width, -1)
        return pixels[..., ::-1] if self.color == "bgr" else pixels

    def text(self) -> str:
        """For a terminal."""
        height, width = self.size
        prepared = f"uint8 {self.color} images of {width} x {height}, {self.layout}"
        if self.dtype == np.uint8:
            return f"the model is given {prepared}"
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"the model is given {prepared}, as (pixel / {self.scale:g} - {mean}) / {std} in {self.dtype.__name__}"


def run_onnx(
    path: Path,
    data: Path,
    manifest: Manifest,
    splits: Sequence[str],
    options: ClassesOfFile,
    logits: bool,
    given: InputDescription,
) -> FoundPredictions:
    """The predictions of the model in ``path`` for ``splits`` of the data set in ``data``.

    A ``model.onnx`` of ``fer-ddp export`` describes itself; of others, ``given`` and ``options.order`` say what the
    file does not. Raises JobError if something remains open, RunError if the model can't be run or its output is not a
    number for each class.
    """
    try:
        import onnxruntime
    except ImportError:
        raise JobError(f"{path}: running it needs onnxruntime: pip install 'fer-ddp[onnx]'") from None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            read_regular(path, at_most=1 << 31), settings, providers=["CPUExecutionProvider"]
        )
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # noqa: BLE001  onnxruntime has a class for each code
        raise RunError(f"{path}: onnxruntime can't load it ({_first_line(error)})") from None
    described = session.get_modelmeta().custom_metadata_map.get("class_names")
    order = options.order or _names(path, described)
    inputs = _input(path, session.get_inputs(), described is not None, manifest.image_shape, given)
    output = session.get_outputs()[0].name
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
    size = shape[0] if isinstance(shape[0], int) else _BATCH
    classes = ClassNames(of_data=manifest.class_names, options=options, source=str(path))
    probabilities = {}
    for split in splits:
        decoded = read_split(data, split, workers=usable_cpus(), manifest=manifest)
        parts = []
        for start in range(0, len(decoded.images), size):
            images = decoded.images[start : start + size]
            filler = np.repeat(images[:1], size - len(images) if isinstance(shape[0], int) else 0, axis=0)
            given_images = inputs.batch(np.concatenate([images, filler]))
            try:
                found = session.run([output], {name: given_images})[0]
            except Exception as error:  # noqa: BLE001  onnxruntime has a class for each code
                raise RunError(f"{path}: onnxruntime can't run it ({_first_line(error)})") from None
            if (
                not isinstance(found, np.ndarray)
                or found.dtype.kind not in "fiu"
                or found.shape[:1] != (len(given_images),)
            ):
                raise RunError(
                    f"{path}: its output {output} is not a row of numbers for each image; remove what comes after the "
                    f"probabilities, such as ZipMap"
                )
            found = found.astype(np.float64).reshape(len(found), -1)[: len(images)]
            if found.shape[1] != len(order):
                raise RunError(
                    f"{path}: its output {output} has {plural(found.shape[1], 'number')} an image, for the "
                    f"{len(order)} classes {', '.join(order)}; name its classes with --classes"
                )
            parts.append(found)
        places = [f"the output for {key} of {split}" for key in decoded.keys]
        probabilities[split] = classes.in_order_of_data(np.concatenate(parts), order, places, logits=logits)
    outputs = f"its output {output} is taken as {'logits' if logits else 'probabilities'} of {', '.join(order)}"
    resizing = "; images are resized by Pillow's bilinear filter" if inputs.size != manifest.image_shape[1:] else ""
    return FoundPredictions(
        probabilities=probabilities, labels_only=False, assumptions=(inputs.text() + resizing, outputs)
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _names(path: Path, described: str | None) -> tuple[str, ...]:
    """The classes of a model's outputs, from its metadata."""
    try:
        names = json.loads(described) if described is not None else None
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise JobError(f"{path}: does not name its classes; add --classes NAME,NAME,... in the order of its outputs")
    return tuple(names)


def _input(
    path: Path, inputs: Sequence[Any], is_ours: bool, image_shape: Sequence[int], given: InputDescription
) -> _Input:
    """What the model takes. Raises JobError where neither the file nor ``given`` says it."""
    shape = list(inputs[0].shape) if inputs else []
    if len(inputs) != 1 or len(shape) != 4 or 0 in shape:
        raise JobError(
            f"{path}: takes {plural(len(inputs), 'input')} of shape {shape}; one input of images is supported"
        )
    dtype = _DTYPES.get(inputs[0].type)
    if dtype is None:
        raise JobError(f"{path}: takes {inputs[0].type}; floating point numbers or uint8 are supported")
    layout, last_is_channels = given.layout, shape[3] in (1, 3)
    if is_ours and dtype == np.uint8:
        layout = "NHWC"
    elif layout is None and last_is_channels != (shape[1] in (1, 3)):
        layout = "NHWC" if last_is_channels else "NCHW"
    if layout is None:
        raise JobError(f"{path}: its input has the shape {shape}; add --layout NCHW or NHWC")
    channels, sides = (shape[1], shape[2:]) if layout == "NCHW" else (shape[3], shape[1:3])
    color = given.color
    if color is None and is_ours and not isinstance(channels, int):
        color = "grey" if image_shape[0] == 1 else "rgb"
    if color is None and isinstance(channels, int):
        color = "grey" if channels == 1 else "rgb"
    if color is None:
        raise JobError(f"{path}: takes images of any number of channels; add --color grey, rgb or bgr")
    if isinstance(channels, int) and channels != (1 if color == "grey" else 3):
        raise JobError(f"--color {color}: {path} takes {plural(channels, 'channel')}")
    height, width = (side if isinstance(side, int) else given.size for side in sides)
    if height is None or width is None:
        if not is_ours:
            raise JobError(f"{path}: takes images of any size; add --size PIXELS, that of those it was trained on")
        height, width = image_shape[1:]
    if given.size is not None and (height, width) != (given.size, given.size):
        raise JobError(f"--size {given.size}: {path} takes images of {width} x {height}")
    if dtype == np.uint8 and given.scale is not None:
        raise JobError(f"--scale {given.scale:g}: {path} takes uint8, pixels as they are")
    if dtype != np.uint8 and given.scale is None:
        raise JobError(
            f"{path}: takes floating point numbers; add --scale 255 if pixels are 0 to 1 for it, --scale 1 if they are "
            "0 to 255; --mean and --std follow"
        )
    count = 1 if color == "grey" else 3
    for option, values in (("--mean", given.mean), ("--std", given.std)):
        if len(values) not in (1, count):
            raise JobError(f"{option}: has {len(values)} numbers; the model takes {plural(count, 'channel')}")
    if 0 in given.std or given.scale == 0:
        raise JobError("--std and --scale: are divisors; they must not be 0")
    return _Input(
        size=(height, width),
        color=color,
        layout=layout,
        dtype=dtype,
        scale=given.scale or 1.0,
        mean=np.array(given.mean, np.float32),
        std=np.array(given.std, np.float32),
    )
