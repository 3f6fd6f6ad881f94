"""``fer-ddp predict``: its arguments, and what it prints and writes."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fer_ddp.errors import JobError, RunError
from shards.files import user_path
from shards.text import plural

if TYPE_CHECKING:
    from fer_ddp.deploy.predict import FaceFinder, Predictions

DESCRIPTION = (
    "Prints the probability of each class, the mean over the views that the job names. An image is taken as a face "
    "that fills it: of one that is not square the largest square in the centre is used, resized to the size the model "
    "was trained on. Several models are averaged."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``predict``."""
    parser.add_argument(
        "model",
        type=user_path,
        metavar="MODEL",
        help="a run folder, such as runs/smoke-seed0, an ensemble's or an exported one, or hf:USER/NAME on the Hugging "
        "Face Hub; further models may follow, whose probabilities are averaged",
    )
    parser.add_argument(
        "images",
        type=user_path,
        nargs="*",
        metavar="IMAGE",
        help="an image of one face, a folder of such, a quoted pattern, such as 'faces/*.png', or a video",
    )
    parser.add_argument("--pad", action="store_true", help="put images that are not square on a black square instead")
    parser.add_argument(
        "--faces",
        action="store_true",
        help="find the faces in each image and classify each of them (needs the extra faces)",
    )
    parser.add_argument(
        "--face-scale",
        type=_positive(float),
        default=1.0,
        metavar="F",
        help="side of what is cut out for a face; 1 is as tight as FER2013's images are",
    )
    parser.add_argument(
        "--every",
        type=_positive(int),
        default=10,
        metavar="N",
        help="of a video or a camera, classify every N-th frame; default 10 (needs the extra video)",
    )
    parser.add_argument("--webcam", type=int, metavar="NUMBER", help="classify what this camera shows; 0 is the first")
    parser.add_argument("--frames", type=_positive(int), default=10, metavar="N", help="of the camera; default 10")
    parser.add_argument("--json", action="store_true", help="print JSON, with the names of the data set")
    parser.add_argument("--csv", type=user_path, metavar="FILE", help="write a table: path, label, a column a class")
    parser.add_argument(
        "--draw", type=user_path, metavar="DIR", help="draw each image with its probabilities into this folder"
    )
    parser.add_argument("--language", default="en", choices=("en", "ka"), help="of the names printed: ka is Georgian")


def predict(options: argparse.Namespace) -> None:
    """Run the command. Raises RunError at the end if an image could not be read; the others are predicted."""
    from fer_ddp import distributed
    from fer_ddp.deploy.draw import PictureFolder
    from fer_ddp.deploy.load import average
    from fer_ddp.deploy.pictures import find_files
    from fer_ddp.deploy.predict import display_names, predict_files
    from fer_ddp.deploy.video import Camera

    models, images = _models_and_images(options.model, options.images, needs_images=options.webcam is None)
    found = find_files(images)
    find_faces = _face_detector(options.face_scale) if options.faces else None
    with distributed.world() as device:
        model = average(models, device)
        draw = (
            None
            if options.draw is None
            else PictureFolder(options.draw, display_names(model.class_names, options.language))
        )
        cameras = [] if options.webcam is None else [Camera(options.webcam, options.frames)]
        result = predict_files(
            model,
            [*found.files, *cameras],
            fit="pad" if options.pad else "crop",
            find_faces=find_faces,
            draw=draw,
            every=options.every,
        )
    for note in (*found.notes, *result.notes):
        print(f"note: {note}", file=sys.stderr)
    _print(result.predictions, options)
    errors = (*found.errors, *result.errors)
    if len(errors) == 1 and result.pictures <= 1:
        raise RunError(errors[0])
    if errors:
        for error in errors:
            print(f"error: {error}", file=sys.stderr)
        unread = len(result.errors)
        raise RunError(
            f"{unread} of {plural(result.pictures, 'image')} could not be classified"
            if unread
            else f"{plural(len(found.errors), 'argument')} named no image"
        )


def _models_and_images(model: Path, others: list[Path], *, needs_images: bool) -> tuple[list[Path], list[Path]]:
    """The models, which come first, and what is to be classified. Raises JobError if there is nothing of that."""
    from fer_ddp.deploy.load import is_model

    count = next((index for index, path in enumerate(others) if not is_model(path)), len(others))
    if needs_images and count == len(others):
        raise JobError("there are no images to classify; give files, folders or a quoted pattern after the model")
    return [model, *others[:count]], others[count:]


def _face_detector(scale: float) -> "FaceFinder":
    from fer_ddp.deploy.faces import FaceDetector

    return FaceDetector(scale)


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A number above 0, for argparse."""

    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value

    number.__name__ = "number above 0"
    return number


def _print(predictions: "Predictions", options: argparse.Namespace) -> None:
    if options.csv is not None:
        predictions.write_csv(options.csv)
    if options.json:
        print(json.dumps(predictions.to_json(), indent=1, ensure_ascii=False))
    elif predictions.images and options.csv is None:
        print(predictions.text(options.language))
    written = [str(path) for path in (options.csv, options.draw) if path is not None]
    if written and predictions.images:
        print(f"look at {' and '.join(written)}", file=sys.stderr if options.json else sys.stdout)
