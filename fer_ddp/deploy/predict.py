"""A run's model on image files: the probability of each expression."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fer_ddp.config.load import load_job
from fer_ddp.errors import RunError
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.runs.files import check_run_folder
from fer_ddp.runs.folder import RunFolder
from shards.images import BadImage, decode_image


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a model says to some images."""

    paths: tuple[Path, ...]
    class_names: tuple[str, ...]
    probabilities: NDArray[np.floating[Any]]
    """(images, classes), each row summing to 1."""

    def text(self) -> str:
        """A line for each image: the most probable class and its probability, then the others, most probable first."""
        lines = []
        for path, row in zip(self.paths, self.probabilities, strict=True):
            ranked = [
                f"{self.class_names[index]} {100 * row[index]:.1f} %" for index in np.argsort(-row, kind="stable")
            ]
            lines.append(f"{path}: {', '.join(ranked)}")
        return "\n".join(lines)

    def to_json(self) -> list[dict[str, Any]]:
        """For each image its path, the class, and every class's probability."""
        return [
            {
                "image": str(path),
                "class": self.class_names[int(row.argmax())],
                "probabilities": dict(zip(self.class_names, map(float, row), strict=True)),
            }
            for path, row in zip(self.paths, self.probabilities, strict=True)
        ]


def predict(run: Path, paths: Sequence[Path], device: torch.device) -> Answers:
    """Put image files before the model that ``run`` chose.

    An image is taken as a face that fills it, as FER2013's do: it is made grey or RGB and resized to the size the model
    was trained on, not searched for faces. The run folder is all that is needed. Raises JobError if ``run`` is no run
    folder, RunError for an image that can't be read or a run folder that was edited.
    """
    check_run_folder(run)
    job = load_job(run / "config.yaml", [])
    chosen = load_trained_model(RunFolder(run), job, device)
    images = torch.from_numpy(np.stack([_read(path, chosen.image_shape) for path in paths]))
    probabilities = Evaluator.of(job.data, job.precision, job.memory_format, device).probabilities(chosen.model, images)
    return Answers(paths=tuple(paths), class_names=chosen.class_names, probabilities=probabilities)


def _read(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Pixels of an image file as uint8 of ``shape`` (channels, height, width)."""
    try:
        pixels, _ = decode_image(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; give image files, PNG or JPEG") from None
    except BadImage as error:
        raise RunError(f"{path}: {error}") from None
    channels, height, width = shape
    if pixels.shape == shape:
        return pixels
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    image = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)
