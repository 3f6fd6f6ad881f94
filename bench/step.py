"""Model 4's training step: ours against the notebook way, plain eager PyTorch, and torch's own random numbers."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.augment import per_sample_transforms
from bench.data import Data, recipe
from bench.sizes import Sizes
from bench.table import Result, compare
from bench.timing import in_turns, seconds_of
from fer_ddp import randomness
from fer_ddp.config.job import Job
from fer_ddp.data.dataset import FERDataset, normalization
from fer_ddp.hardware import keep_freed_memory, request_huge_pages, use_repeatable_kernels
from fer_ddp.layers.dropout import PositionDropout
from fer_ddp.models.registry import create_model
from fer_ddp.precision import autocast, to_memory_format, torch_memory_format
from fer_ddp.training.setup import build_trainer, resolve_auto
from shards.parallel import usable_cpus

Train = Callable[[int], None]
"""Trains so many steps."""


def step_results(data: Data, sizes: Sizes, device: torch.device) -> list[Result]:
    job = resolve_auto(recipe(data, sizes), FERDataset(data.folder, "train").manifest, device)
    on_gpu = device.type == "cuda"
    chosen = f"{job.precision}, {job.memory_format}, batches of {job.global_batch_size}"
    steps = sizes.steps * (50 if on_gpu else 1)  # a GPU empties in a moment what the notebook's workers have ready
    images = steps * job.global_batch_size
    timed_steps = f"an epoch at the rate of {steps} steps ({images} images), ours in {chosen}"
    way = "Dataset + Pillow + DataLoader ({} workers) + torchvision v2 a sample, {}"
    way = way.format(notebook_workers(device), "bf16 autocast" if on_gpu else "float32")
    same = f"the same precision and layout ({chosen})"
    peers = {
        "notebook": ("epoch of model4", way, 10 if on_gpu else 2.2, timed_steps),
        "eager": ("epoch of model4, in memory", "eager PyTorch, no augmentation", 1, same),
    }
    if not on_gpu:  # there ours is one CUDA graph, and this would be single kernels
        peers["torch's randomness"] = ("step of model4", "the same with torch's random numbers", 1, same)
    with ExitStack() as stack:
        sides = [stack.enter_context(closing(Side(name, job, device))) for name in ("ours", *peers)]
        our_seconds, *their_seconds = in_turns([partial(side.seconds, steps) for side in sides], sizes.repeats)
    return [
        compare(stage, against, images, our_seconds, seconds, at_least, note)
        for (stage, against, at_least, note), seconds in zip(peers.values(), their_seconds, strict=True)
    ]


class Side:
    """A trainer in a process of its own, so that it has no other's threads, workers and memory settings."""

    def __init__(self, name: str, job: Job, device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, job, device))
        self._process.start()
        theirs.close()

    def seconds(self, steps: int) -> float:
        """How long it takes to train so many steps."""
        self._connection.send(steps)
        seconds: float = self._connection.recv()
        return seconds

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, name: str, job: Job, device: torch.device) -> None:
    if name in ("ours", "torch's randomness"):
        request_huge_pages()
        keep_freed_memory()
        use_repeatable_kernels()  # the peers have torch's defaults, which are faster on a GPU
    train = TRAINERS[name](job, FERDataset(job.data.path, "train"), device)
    while True:
        try:
            steps = connection.recv()
        except EOFError:
            return
        connection.send(seconds_of(partial(train, steps)))


def ours(job: Job, dataset: FERDataset, device: torch.device) -> Train:
    trainer = build_trainer(job, dataset, 1, device)

    def train(steps: int) -> None:
        for _ in range(steps):
            trainer.step(trainer.loader.raw_batch(trainer.state.step))

    return train


def ours_with_torch_randomness(job: Job, dataset: FERDataset, device: torch.device) -> Train:
    """The same step, with dropout masks by nn.Dropout, and the transforms' parameters by torch.rand."""
    trainer = build_trainer(job, dataset, 1, device)
    model = trainer.state.model
    for path, module in list(model.named_modules()):
        if isinstance(module, PositionDropout):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, nn.Dropout(module.p))
    trainer.positions.units.clear()  # no masks of ours

    def train(steps: int) -> None:
        with (
            mock.patch.object(randomness, "first_uniform", lambda keys: torch.rand(keys.shape, device=keys.device)),
            mock.patch.object(randomness.Streams, "keys", _no_keys),
        ):
            for _ in range(steps):
                trainer.step(trainer.loader.raw_batch(trainer.state.step))

    return train


def _no_keys(streams: randomness.Streams, positions: Tensor) -> Tensor:
    return torch.zeros(len(streams.names), len(positions), dtype=torch.int32, device=positions.device)


class _NotebookDataset(Dataset[tuple[Any, int]]):
    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Callable[[Any], Tensor]) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def notebook_workers(device: torch.device) -> int:
    return min(16, usable_cpus()) if device.type == "cuda" else 2


def notebook(job: Job, dataset: FERDataset, device: torch.device) -> Train:
    """As a notebook trains it: a Dataset of Pillow images, transforms a sample, float32 on a CPU, autocast on a GPU."""
    pixels, labels = dataset.images[:, 0].numpy().copy(), dataset.labels.numpy()
    loader = DataLoader(
        _NotebookDataset(pixels, labels, per_sample_transforms(job)),
        batch_size=job.global_batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=notebook_workers(device),
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    model = plain_model(job, dataset).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=job.loss.label_smoothing)
    optimizer, schedule = plain_optimizer(model, job, len(loader))
    batches = _endless(loader)

    def train(steps: int) -> None:
        running_loss, correct = 0.0, 0
        for _ in range(steps):
            images, targets = next(batches)
            images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(images)
                loss = criterion(logits, targets)
            loss.backward()
            optimizer.step()
            schedule.step()
            running_loss += loss.item()
            correct += (logits.argmax(1) == targets).sum().item()

    return train


def eager(job: Job, dataset: FERDataset, device: torch.device) -> Train:
    """Plain PyTorch on tensors that are ready: normalized, on the device, not augmented; our precision and layout."""
    mean, std = normalization(job.data, device, torch.float32)
    inputs = to_memory_format((dataset.images.to(device).float() / 255 - mean) / std, job.memory_format)
    labels = dataset.labels.to(device)
    model = plain_model(job, dataset).to(device).to(memory_format=torch_memory_format(job.memory_format))
    criterion = nn.CrossEntropyLoss(label_smoothing=job.loss.label_smoothing)
    optimizer, schedule = plain_optimizer(model, job, len(dataset) // job.global_batch_size)
    order = _endless_indices(len(dataset), job.global_batch_size, device)

    def train(steps: int) -> None:
        for _ in range(steps):
            index = next(order)
            optimizer.zero_grad()
            with autocast(device, job.precision):
                loss = criterion(model(inputs[index]), labels[index])
            loss.backward()
            optimizer.step()
            schedule.step()

    return train


def plain_model(job: Job, dataset: FERDataset) -> nn.Module:
    """The job's model with torch's own dropout, initialized by torch's generator."""
    channels, side, _ = dataset.manifest.image_shape
    classes = len(dataset.class_names)
    return create_model(
        job.model.name, job.model.arguments, in_channels=channels, image_size=side, num_classes=classes
    ).train()


def plain_optimizer(model: nn.Module, job: Job, epoch_steps: int) -> tuple[torch.optim.Optimizer, Any]:
    optimizer = torch.optim.AdamW(model.parameters(), job.optimizer.lr, weight_decay=job.optimizer.weight_decay)
    total = job.epochs * epoch_steps
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, job.optimizer.lr, total_steps=total)


def _endless(loader: "DataLoader[Any]") -> Iterator[Any]:
    while True:
        yield from loader


def _endless_indices(count: int, size: int, device: torch.device) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(count, device=device)
        yield from order[: count // size * size].split(size)


TRAINERS = {
    "ours": ours,
    "notebook": notebook,
    "eager": eager,
    "torch's randomness": ours_with_torch_randomness,
}
