"""``fer-ddp inspect --job``: a batch as the training step sees it, a row an image, a column a draw."""

import dataclasses
from pathlib import Path

import torch

from fer_ddp.config.job import Job
from fer_ddp.data.dataset import normalization, open_split, with_statistics
from fer_ddp.data.loader import Batch, RawBatch
from fer_ddp.data.sampler import StepPlan
from fer_ddp.data.synthetic import drawn_if_missing
from fer_ddp.data.targets import vote_targets
from fer_ddp.figures.image_grid import Cell, Row, plot_image_grid
from fer_ddp.figures.style import save_figure
from fer_ddp.text import shortened
from fer_ddp.training.checks import check_job
from fer_ddp.training.setup import build_loader
from shards.reading.scan import load_or_scan_manifest

_IMAGES, _DRAWS = 8, 8
_CHANGED = 0.995
"""Of a mixed image's target, its own class has less."""


def draw_augmented_batch(job: Job, folder: Path) -> Path:
    """Draw the first images of the job's first step, each under eight draws of augmentation, as a PNG in ``folder``.

    The draws are those of the first epochs' positions in the training sequence, mixup and cutmix included. Raises
    JobError if the job does not fit its data, DataError if these can't be read, RunError if the file can't be written.
    """
    job = dataclasses.replace(job, data=drawn_if_missing(job.data), precision="float32", memory_format="contiguous")
    device, manifest = torch.device("cpu"), load_or_scan_manifest(Path(job.data.path))
    check_job(job, manifest, 1)
    dataset = open_split(job.data, "train", device, manifest)
    votes = None
    if job.data.targets != "label":
        votes = vote_targets(job.data.targets, job.data.path, dataset, torch.float32)
    samples = len(dataset) if votes is None else len(votes.used)
    loader = build_loader(
        job, dataset, StepPlan(samples=samples, global_batch_size=job.global_batch_size, world_size=1), device, votes
    )
    raw = loader.raw_batch(0)
    shown = min(_IMAGES, len(raw.labels))
    rows = slice(0, shown)
    draws = [
        loader.augmented(
            RawBatch(
                pixels=raw.pixels[rows],
                labels=raw.labels[rows],
                indices=raw.indices[rows],
                positions=raw.positions[rows] + draw * samples,
                side=raw.side,
                mixed=raw.mixed,
            )
        )
        for draw in range(_DRAWS)
    ]
    mean, std = normalization(with_statistics(job.data, manifest), device, torch.float32)
    names = manifest.class_names
    grid = [
        Row(
            label=names[int(raw.labels[row])],
            cells=[
                Cell(image=raw.pixels[row].numpy(), caption="as packed"),
                *(_cell(draw, row, names, mean, std) for draw in draws),
            ],
        )
        for row in range(shown)
    ]
    side = "" if raw.side is None else f" Images are {raw.side} x {raw.side} at first."
    figure = plot_image_grid(
        grid,
        "a batch as the training step sees it",
        f"The first images of step 1, seed {job.seed}, and draws of their augmentation; below mixed ones their target "
        f"in per cent.{side}",
        subject=job.name,
    )
    path = folder / f"{job.name}-augmented.png"
    save_figure(figure, path)
    return path


def _cell(batch: Batch, row: int, names: tuple[str, ...], mean: torch.Tensor, std: torch.Tensor) -> Cell:
    pixels = ((batch.images[row] * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    target = batch.targets[row]
    caption = ""
    if target.max() < _CHANGED:
        largest = target.topk(2)
        parts = zip(largest.values.tolist(), largest.indices.tolist(), strict=True)
        caption = "\n".join(f"{shortened(names[index], 9)} {100 * share:.0f}" for share, index in parts)
    return Cell(image=pixels.numpy(), caption=caption)
