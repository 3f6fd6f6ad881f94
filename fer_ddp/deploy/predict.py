"""A trained model on images: the probability of each expression, from a run folder or an exported folder alone."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fer_ddp.config.load import load_job
from fer_ddp.deploy.export import CARD, MODEL, load_exported
from fer_ddp.errors import RunError
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.runs.files import check_run_folder
from fer_ddp.runs.folder import RunFolder
from shards.files import read_regular
from shards.images import BadImage, decode_image, pixels_of
from shards.labels import DISPLAY_NAMES, class_meaning

ImageLike = str | Path | Image.Image | NDArray[np.uint8] | Tensor
"""A file, a PIL image, an array (height, width) or (height, width, 1 or 3), or a tensor as a data set has it,
(channels, height, width); arrays and tensors are uint8."""

_MAX_ASPECT_RATIO = 1.4
"""Of a portrait that one face may still fill; passport photographs have 1.3, video frames 1.8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """What a model predicts for some images."""

    images: tuple[str, ...]
    """The path of each image, or ``image 0`` for one that is not a file."""
    class_names: tuple[str, ...]
    probabilities: NDArray[np.floating[Any]]
    """(images, classes), each row summing to 1."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each image's most probable class."""
        return tuple(self.class_names[int(index)] for index in self.probabilities.argmax(axis=1))

    def text(self, language: str = "en") -> str:
        """A line for each image: the most probable class and its probability, then the others, most probable first.

        language: of the names of the expressions, ``en`` or one of :data:`shards.labels.DISPLAY_NAMES`.
        """
        names = [DISPLAY_NAMES.get(language, {}).get(class_meaning(name), name) for name in self.class_names]
        lines = []
        for image, row in zip(self.images, self.probabilities, strict=True):
            ranked = [f"{names[index]} {100 * row[index]:.1f} %" for index in np.argsort(-row, kind="stable")]
            lines.append(f"{image}: {', '.join(ranked)}")
        return "\n".join(lines)

    def to_json(self) -> list[dict[str, Any]]:
        """For each image its path, the class, and every class's probability."""
        return [
            {"image": image, "class": name, "probabilities": dict(zip(self.class_names, map(float, row), strict=True))}
            for image, name, row in zip(self.images, self.classes, self.probabilities, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictor:
    """A trained model that takes images as they are."""

    class_names: tuple[str, ...]
    """Of the classes that it was trained on."""
    image_shape: tuple[int, int, int]
    """The shape it was trained on: channels, height, width. Other images are resized to it."""
    probabilities: Callable[[Tensor], NDArray[np.floating[Any]]]
    """Of uint8 (images, *image_shape), on the CPU: float (images, classes)."""

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> Predictions:
        """Class probabilities of one image or several.

        images: a path, a PIL image, a uint8 array (H, W), (H, W, 3), (N, H, W) or (N, H, W, 3), a uint8 tensor
        (C, H, W) or (N, C, H, W), or any mixture of single images in a list. Each is taken as a face that fills the
        image, as FER2013's do: it is converted to grey or RGB and resized, not searched for faces. Raises RunError for
        what is not such an image.
        """
        given = _single_images(images)
        if not given:
            raise RunError("there are no images to classify; give one or more")
        names = tuple(
            str(image) if isinstance(image, str | Path) else f"image {index}" for index, image in enumerate(given)
        )
        pixels = [_resized(_decode(image, name), self.image_shape) for image, name in zip(given, names, strict=True)]
        probabilities = self.probabilities(torch.from_numpy(np.stack(pixels)))
        return Predictions(images=names, class_names=self.class_names, probabilities=probabilities)


def load(folder: Path, device: torch.device) -> Predictor:
    """The model that a run selected, or an exported one, ready for images; the folder alone is needed.

    Raises JobError if ``folder`` is neither, RunError if its files are damaged or don't fit each other.
    """
    if (folder / CARD).is_file() and (folder / MODEL).is_file():
        model, card = load_exported(folder, device)
        _, channels, height, width = card["input"]["shape"]
        return _predictor(card["class_names"], card.get("untrained_classes", ()), (channels, height, width), model)
    check_run_folder(folder)
    job = load_job(folder / "config.yaml", [])
    trained = load_trained_model(RunFolder(folder), job, device)
    evaluator = Evaluator.of(job.data, job.precision, job.memory_format, device, job.views)
    return _predictor(
        trained.class_names,
        trained.untrained_classes,
        trained.image_shape,
        lambda images: evaluator.probabilities(trained.model, images),
    )


def _predictor(
    class_names: Sequence[str],
    untrained: Collection[str],
    image_shape: tuple[int, int, int],
    probabilities: Callable[[Tensor], NDArray[np.floating[Any]]],
) -> Predictor:
    """The model without the classes that it was trained without: it has never learned what they look like."""
    trained = [index for index, name in enumerate(class_names) if name not in untrained]
    names = tuple(class_names[index] for index in trained)
    if len(names) == len(class_names):
        return Predictor(class_names=names, image_shape=image_shape, probabilities=probabilities)

    def of_trained_classes(images: Tensor) -> NDArray[np.floating[Any]]:
        found: NDArray[np.floating[Any]] = probabilities(images)[:, trained]
        found /= found.sum(axis=1, keepdims=True)
        return found

    return Predictor(class_names=names, image_shape=image_shape, probabilities=of_trained_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePredictions:
    """What a model predicts for some image files."""

    predictions: Predictions | None
    """Of the files that can be read; None if there is none."""
    warnings: tuple[str, ...]
    """Of files that are probably not what the model was trained on."""
    errors: tuple[str, ...]
    """Of files that cannot be read: what each is, and what to do."""


def predict_files(folder: Path, paths: Iterable[Path], device: torch.device) -> FilePredictions:
    """The predictions of the model in ``folder``; a file that cannot be read costs only its own. Raises as `load`."""
    model = load(folder, device)
    good: list[Path] = []
    pixels: list[NDArray[np.uint8]] = []
    warnings, errors = list[str](), list[str]()
    for path in paths:
        try:
            decoded = _decode(path, str(path))
        except RunError as error:
            errors.append(str(error))
            continue
        height, width = decoded.shape[1:]
        if max(height, width) > _MAX_ASPECT_RATIO * min(height, width):
            warnings.append(
                f"{path}: is {width} x {height} and is squeezed into a square: one face should fill an image; "
                f"crop each face first"
            )
        good.append(path)
        pixels.append(_resized(decoded, model.image_shape))
    predictions = None
    if good:
        predictions = Predictions(
            images=tuple(map(str, good)),
            class_names=model.class_names,
            probabilities=model.probabilities(torch.from_numpy(np.stack(pixels))),
        )
    return FilePredictions(predictions=predictions, warnings=tuple(warnings), errors=tuple(errors))


def _single_images(images: Any) -> list[Any]:
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


def _decode(image: Any, name: str) -> NDArray[np.uint8]:
    """Pixels of one image, called ``name``, as `_decoded` returns them. Raises RunError."""
    try:
        return _decoded(image)
    except BadImage as error:
        raise RunError(f"{name}: {error}") from None
    except OSError as error:
        raise RunError(f"{name}: {error.strerror or error}; give image files, PNG or JPEG") from None


def _decoded(image: Any) -> NDArray[np.uint8]:
    """Pixels of one image as uint8 (1 or 3, height, width). Raises BadImage, or OSError for a file."""
    if isinstance(image, str | Path):
        return decode_image(read_regular(Path(image)))[0]
    if isinstance(image, Image.Image):
        return pixels_of(image)
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
    return pixels


def _resized(pixels: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """``pixels`` (1 or 3, height, width) as grey or RGB of ``shape`` (channels, height, width)."""
    if pixels.shape == shape:
        return pixels
    channels, height, width = shape
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)
