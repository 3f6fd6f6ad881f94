"""A run's model as one file that torch alone can load: pixels in, probabilities out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from fer_ddp.augment.pixels import normalize, to_unit_range
from fer_ddp.augment.views import ViewsConfig, mean_over_views
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import normalization
from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.evaluator import BATCH_SIZE
from fer_ddp.evaluation.trained_model import TrainedModel, load_trained_model
from fer_ddp.runs.files import check_run_folder, read_json
from fer_ddp.runs.folder import RunFolder
from shards.files import write_json

MODEL, CARD = "model.pt2", "model.json"
_CHECKED_WITH = 8
"""Random images on which the exported file must give the model's output."""


class FromPixels(nn.Module):
    """A model with all that goes before and after it: uint8 (batch, channels, height, width) to probabilities."""

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor, views: ViewsConfig) -> None:
        super().__init__()
        self.model, self.views = model, views
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 (batch, channels, height, width). Returns float32 (batch, classes), each row summing to 1."""
        return mean_over_views(self._probabilities, images, self.views)

    def _probabilities(self, images: Tensor) -> Tensor:
        pixels = normalize(to_unit_range(images, torch.float32), self.get_buffer("mean"), self.get_buffer("std"))
        probabilities: Tensor = self.model(pixels).softmax(dim=1)
        return probabilities


def export(run: Path, folder: Path) -> list[Path]:
    """Write the model that ``run`` selected into ``folder``, which is new or empty; returns the files.

    ``model.pt2`` is a program of torch.export, float32, for a batch of any size; ``model.json`` describes its
    input, output and accuracy. The file is read back and its output compared with the model's. Raises JobError
    if ``run`` is not a run folder or ``folder`` is not empty, RunError if the outputs differ.
    """
    check_run_folder(run)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise JobError(f"{folder}: is not an empty folder; choose another --out")
    job = load_job(run / "config.yaml", [])
    device = torch.device("cpu")
    trained = load_trained_model(RunFolder(run), job, device)
    mean, std = normalization(job.data, device, torch.float32)
    model = FromPixels(trained.model.float().to(memory_format=torch.contiguous_format), mean, std, job.views).eval()
    images = torch.randint(0, 256, (_CHECKED_WITH, *trained.image_shape), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(images)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, folder / MODEL)
    found = torch.export.load(folder / MODEL).module()(images)
    if not torch.allclose(found, expected, atol=1e-5):
        (folder / MODEL).unlink()
        raise RunError(
            f"{folder / MODEL}: its output differs from that of the model ({job.model.name}), so it was removed"
        )
    write_json(folder / CARD, _card(run, trained, job.views.count, job.to_dict()))
    return [folder / MODEL, folder / CARD]


def load_exported(
    folder: Path, device: torch.device
) -> tuple[Callable[[Tensor], NDArray[np.floating[Any]]], dict[str, Any]]:
    """What `export` wrote: (uint8 images (n, channels, height, width) to probabilities (n, classes), ``model.json``).

    Raises RunError if a file is damaged.
    """
    card = read_json(folder / CARD)
    try:
        if not is_zipfile(folder / MODEL):  # torch would log a traceback of its own
            raise ValueError("not a whole file of torch.export")
        program = move_to_device_pass(torch.export.load(folder / MODEL), device)
        card["class_names"], card["input"]["shape"]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: {MODEL} or {CARD} is damaged ({error}); export the run again") from None
    model = program.module()

    def probabilities(images: Tensor) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            return torch.cat([model(batch.to(device)).cpu() for batch in images.split(BATCH_SIZE)]).numpy()

    return probabilities, card


def _card(run: Path, trained: TrainedModel, views: int, job: dict[str, Any]) -> dict[str, Any]:
    summary = read_json(run / "summary.json")
    figures = ("n", "accuracy", "accuracy_ci95", "macro_f1", "balanced_accuracy")
    return {
        "input": {"dtype": "uint8", "shape": ["batch", *trained.image_shape]},
        "output": {"dtype": "float32", "shape": ["batch", len(trained.class_names)], "meaning": "probabilities"},
        "class_names": list(trained.class_names),
        "step": trained.step,
        "views": views,
        **{split: {key: summary[split][key] for key in figures} for split in ("val", "test") if split in summary},
        "job": job,
    }
