"""A trained model on images: the probability of each expression, from a run folder or an exported folder alone."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fer_ddp.deploy.pictures import Box, Fit, ImageLike, Picture, read_picture, read_pictures, single_images
from fer_ddp.deploy.video import Camera, is_video, video_frames
from fer_ddp.errors import RunError
from shards.files import atomic_write_text
from shards.labels import DISPLAY_NAMES, class_meaning
from shards.parallel import ordered_map, usable_cpus

_TOGETHER, _TOGETHER_DRAWN = 256, 8
"""Pictures that are classified together; those that are drawn are in memory whole."""

FaceFinder = Callable[[Image.Image], Sequence[Box]]
"""The parts of an image, 8-bit grey or RGB, that are its faces, such as a `fer_ddp.deploy.faces.FaceDetector`."""
Draw = Callable[[Picture, Sequence[Box], NDArray[np.floating[Any]]], None]
"""Draws a picture with the boxes in it and the probabilities (boxes, classes)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """What a model predicts for some images."""

    images: tuple[str, ...]
    """The path of each image, or ``image 0`` for one that is not a file; several times where it has several faces."""
    class_names: tuple[str, ...]
    probabilities: NDArray[np.floating[Any]]
    """(images, classes), each row summing to 1."""
    boxes: tuple[Box, ...] | None = None
    """The part of the image that was classified, where faces were searched for: left, top, right, bottom in pixels."""
    seconds: tuple[float | None, ...] | None = None
    """When a video shows the image; None for an image that is not of a video."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each image's most probable class."""
        return tuple(self.class_names[int(index)] for index in self.probabilities.argmax(axis=1))

    def text(self, language: str = "en") -> str:
        """A line for each image: the most probable class and its probability, then the others, most probable first.

        language: of the names of the expressions, ``en`` or one of :data:`shards.labels.DISPLAY_NAMES`.
        """
        names = display_names(self.class_names, language)
        lines = []
        for index, (image, row) in enumerate(zip(self.images, self.probabilities, strict=True)):
            ranked = [f"{names[index]} {100 * row[index]:.1f} %" for index in np.argsort(-row, kind="stable")]
            seconds = None if self.seconds is None else self.seconds[index]
            time = "" if seconds is None else f" at {seconds:.2f} s"
            box = "" if self.boxes is None else " face {}, {} to {}, {}".format(*self.boxes[index])
            lines.append(f"{image}{time}{box}: {', '.join(ranked)}")
        return "\n".join(lines)

    def to_json(self) -> list[dict[str, Any]]:
        """For each image its path, the class, every class's probability, and the box and the seconds if it has them."""
        rows = []
        for index, (image, name, row) in enumerate(zip(self.images, self.classes, self.probabilities, strict=True)):
            more: dict[str, Any] = {} if self.seconds is None else {"seconds": self.seconds[index]}
            if self.boxes is not None:
                more["box"] = list(self.boxes[index])
            probabilities = dict(zip(self.class_names, map(float, row), strict=True))
            rows.append({"image": image, **more, "class": name, "probabilities": probabilities})
        return rows

    def to_csv(self) -> str:
        """The same as a table: path, label and a column for each class; seconds and box if it has them."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        header = ["path"]
        header += [] if self.seconds is None else ["seconds"]
        header += [] if self.boxes is None else ["left", "top", "right", "bottom"]
        header.append("label")
        writer.writerow([*header, *_columns_of_classes(self.class_names, header)])
        for index, (image, name, row) in enumerate(zip(self.images, self.classes, self.probabilities, strict=True)):
            more: list[Any] = [] if self.seconds is None else [self.seconds[index]]
            more += [] if self.boxes is None else self.boxes[index]
            writer.writerow([image, *more, name, *(f"{probability:.6f}" for probability in row)])
        return text.getvalue()

    def write_csv(self, path: Path) -> None:
        """Write :meth:`to_csv`. Raises RunError where it cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, self.to_csv())
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def _columns_of_classes(class_names: Sequence[str], others: Sequence[str]) -> list[str]:
    """A column for each class, called as it is; as ``p_NAME`` if there is such a column already."""
    columns = list(class_names)
    for index, name in enumerate(columns):
        while name in (*others, *class_names[:index], *class_names[index + 1 :]):
            columns[index] = name = f"p_{name}"
    return columns


def display_names(class_names: Sequence[str], language: str) -> list[str]:
    """The names of the expressions in ``language``; a class that has none there keeps its own."""
    return [DISPLAY_NAMES.get(language, {}).get(class_meaning(name), name) for name in class_names]


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictor:
    """A trained model that takes images as they are."""

    class_names: tuple[str, ...]
    """Of the classes that it was trained on."""
    image_shape: tuple[int, int, int]
    """The shape it was trained on: channels, height, width. Other images are resized to it."""
    probabilities: Callable[[Tensor], NDArray[np.floating[Any]]]
    """Of uint8 (images, *image_shape), on the CPU: float (images, classes)."""

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        fit: Fit = "crop",
        find_faces: FaceFinder | None = None,
    ) -> Predictions:
        """Class probabilities of one image or several.

        images: a path, a PIL image, a uint8 array (H, W), (H, W, 3), (N, H, W) or (N, H, W, 3), a uint8 tensor
        (C, H, W) or (N, C, H, W), or any mixture of single images in a list. Each is taken as a face that fills the
        image, as FER2013's do: it is converted to grey or RGB, made square and resized. fit: ``crop`` keeps the largest
        square in the centre of an image that is not square, ``pad`` puts the whole on a black square. find_faces: such
        as `fer_ddp.deploy.faces.FaceDetector`; then each face that it finds is classified, and an image without one has
        no prediction. Raises RunError for what is not such an image.
        """
        given = single_images(images)
        if not given:
            raise RunError("there are no images to classify; give one or more")
        preparation = Preparation(image_shape=self.image_shape, fit=fit, find_faces=find_faces)
        return predict_prepared(self, map(preparation.of, read_pictures(given)), preparation).predictions


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a model predicts for pictures, of which some may be of no use."""

    predictions: Predictions
    notes: tuple[str, ...]
    """How pictures were made square, and where no face was found."""
    errors: tuple[str, ...]
    """Of pictures that cannot be read: what each is, and what to do."""
    pictures: int
    """How many there were, frames of videos and those that cannot be read included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What is classified of a picture."""

    name: str
    seconds: float | None
    place: str
    """As `Picture.place` has it."""
    is_square: bool
    boxes: tuple[Box, ...] | None
    """Of its faces; None where faces were not searched for."""
    pixels: tuple[NDArray[np.uint8], ...]
    """As the model takes them, one for each box."""
    picture: Picture | None
    """The picture itself, if it is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """How pictures become what a model takes."""

    image_shape: tuple[int, int, int]
    """The model's: channels, height, width."""
    fit: Fit = "crop"
    find_faces: FaceFinder | None = None
    is_drawn: bool = False

    def of(self, picture: Picture) -> Prepared:
        """Its faces, or the whole of it."""
        boxes = None if self.find_faces is None else tuple(self.find_faces(picture.image))
        parts: Sequence[Box | None] = [None] if boxes is None else boxes
        return Prepared(
            name=picture.name,
            seconds=picture.seconds,
            place=picture.place,
            is_square=picture.image.width == picture.image.height,
            boxes=boxes,
            pixels=tuple(picture.pixels(self.image_shape, self.fit, part) for part in parts),
            picture=picture if self.is_drawn else None,
        )


def predict_files(
    model: Predictor,
    paths: Iterable[Path | Camera],
    *,
    fit: Fit = "crop",
    find_faces: FaceFinder | None = None,
    draw: Draw | None = None,
    every: int = 1,
) -> Result:
    """The predictions for files, read in parallel; one that cannot be read costs only its own.

    every: of a video or a camera, every ``every``-th frame is predicted.
    """
    preparation = Preparation(image_shape=model.image_shape, fit=fit, find_faces=find_faces, is_drawn=draw is not None)

    def prepare(path: Path | Camera) -> Prepared | RunError:
        try:
            return preparation.of(read_picture(path, str(path)))
        except RunError as error:
            return error

    def prepared() -> Iterator[Prepared | RunError]:
        for are_videos, group in groupby(paths, is_video):
            if not are_videos:
                yield from ordered_map(prepare, group, threads=usable_cpus())
                continue
            for path in group:
                try:
                    yield from ordered_map(preparation.of, video_frames(path, every), threads=usable_cpus())
                except RunError as error:
                    yield error

    return predict_prepared(model, prepared(), preparation, draw)


def predict_prepared(
    model: Predictor, pictures: Iterable[Prepared | RunError], preparation: Preparation, draw: Draw | None = None
) -> Result:
    """The predictions for ``pictures``, of which a few at a time are in memory; a RunError is one without predictions.

    draw: called with each picture in which something was classified.
    """
    names, boxes, seconds = list[str](), list[Box](), list[float | None]()
    parts = list[NDArray[np.floating[Any]]]()
    notes, errors, count, not_square = list[str](), list[str](), 0, list[str]()
    for batch in _batches(pictures, _TOGETHER_DRAWN if draw else _TOGETHER):
        count += len(batch)
        errors += [str(each) for each in batch if isinstance(each, RunError)]
        good = [each for each in batch if not isinstance(each, RunError)]
        pixels = [part for each in good for part in each.pixels]
        probabilities: NDArray[np.floating[Any]] = np.empty((0, len(model.class_names)))
        if pixels:
            probabilities = model.probabilities(torch.from_numpy(np.stack(pixels)))
            parts.append(probabilities)
        for each in good:
            own, probabilities = probabilities[: len(each.pixels)], probabilities[len(each.pixels) :]
            names += [each.name] * len(own)
            boxes += each.boxes or ()
            seconds += [each.seconds] * len(own)
            if not each.pixels:
                notes.append(f"{each.place}: no face found")
            elif draw and each.picture:
                draw(each.picture, each.boxes or (), own)
            if each.boxes is None and not each.is_square:
                not_square.append(each.name)
    if not_square:
        notes.append(_not_square(not_square, count, preparation.fit))
    predictions = Predictions(
        images=tuple(names),
        class_names=model.class_names,
        probabilities=np.concatenate(parts) if parts else np.empty((0, len(model.class_names))),
        boxes=tuple(boxes) if preparation.find_faces else None,
        seconds=tuple(seconds) if any(second is not None for second in seconds) else None,
    )
    return Result(predictions=predictions, notes=tuple(notes), errors=tuple(errors), pictures=count)


def _not_square(names: Sequence[str], count: int, fit: Fit) -> str:
    done = "the largest square in the centre was used" if fit == "crop" else "put on a black square"
    if count == 1:
        return f"{names[0]} is not square: {done}"
    return f"{len(names)} of {count:,} images {'is' if len(names) == 1 else 'are'} not square: {done}"


def _batches(pictures: Iterable[Prepared | RunError], size: int) -> Iterator[list[Prepared | RunError]]:
    iterator = iter(pictures)
    return iter(lambda: list(islice(iterator, size)), [])
