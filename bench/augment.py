"""Model 4's random transforms: from shards to augmented batches, and alone."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from bench.data import Data, recipe
from bench.read import SHUFFLE_BUFFER, WORKERS, exhaust, peer_loader, read_cold
from bench.sizes import Sizes
from bench.table import Result, compare
from bench.timing import in_turns, seconds_of
from fer_ddp.augment.parameters import STREAMS, AugmentConfig, DrawTable, UniformDraws
from fer_ddp.augment.pipeline import augment
from fer_ddp.config.job import Job
from fer_ddp.data.dataset import FERDataset, normalization
from fer_ddp.data.sampler import StepPlan
from fer_ddp.randomness import Streams
from fer_ddp.training.setup import build_loader

CPU = torch.device("cpu")


def augment_results(data: Data, sizes: Sizes) -> list[Result]:
    job = recipe(data, sizes)
    return [*_from_shards(data, sizes, job), *_alone(data, sizes, job)]


def _from_shards(data: Data, sizes: Sizes, job: Job) -> list[Result]:
    loader = peer_loader(data, per_sample_transforms(job), job.global_batch_size, shuffle=SHUFFLE_BUFFER)
    cached = FERDataset(data.folder, "train")
    sides = [
        lambda: seconds_of(lambda: all_batches(job, cached)),
        lambda: seconds_of(lambda: all_batches(job, read_cold(data))),
        lambda: seconds_of(lambda: exhaust(loader)),
    ]
    warm, cold, peer = in_turns(sides, sizes.repeats)
    against = f"webdataset + torchvision v2 a sample, {WORKERS} workers"
    return [
        compare("cached shards to augmented batches", against, data.images, warm, peer, 8),
        compare("cold shards, verified, to augmented batches", against, data.images, cold, peer, 5),
    ]


def all_batches(job: Job, dataset: FERDataset) -> None:
    """An epoch's batches, the last one partly of the next epoch."""
    steps = StepPlan(samples=len(dataset), global_batch_size=job.global_batch_size)
    batches = build_loader(job, dataset, steps, CPU)
    for step in range(-(-len(dataset) // job.global_batch_size)):
        _ = batches[step]


def per_sample_transforms(job: Job) -> Callable[[Any], Tensor]:
    """The job's transforms with torchvision, from a grey Pillow image, on which geometry is fastest."""
    config = job.augment
    _refuse_more_than_model4(config)
    blur = v2.GaussianBlur(5, config.blur_sigma)
    transforms: Callable[[Any], Tensor] = v2.Compose(
        [
            v2.RandomHorizontalFlip(config.flip),
            v2.RandomAffine(
                config.rotation_degrees,
                translate=(config.shift, config.shift),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.ToImage(),
            v2.RandomApply([blur], config.blur_probability),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(job.data.mean, job.data.std),
            v2.RandomErasing(config.erasing_probability, scale=config.erasing_area, ratio=config.erasing_aspect),
        ]
    )
    return transforms


def _refuse_more_than_model4(config: AugmentConfig) -> None:
    """The peers here have Model 4's transforms only."""
    none = AugmentConfig()
    others = ("scale", "shear_degrees", "brightness", "contrast", "mixup_alpha", "cutmix_alpha")
    assert all(getattr(config, name) == getattr(none, name) for name in others)


def _alone(data: Data, sizes: Sizes, job: Job) -> list[Result]:
    if importlib.util.find_spec("kornia") is None:
        return ["augmentation alone: left out, kornia is not installed (make bench installs it)"]
    dataset = FERDataset(data.folder, "train")
    mean, std = normalization(job.data, CPU, torch.float32)
    transforms = _kornia_transforms(job, mean.flatten(), std.flatten())
    positions = [
        torch.arange(start, start + job.global_batch_size)
        for start in range(0, sizes.augmented_batches * job.global_batch_size, job.global_batch_size)
    ]
    batches = [dataset.images[some % len(dataset)] for some in positions]

    streams, table = Streams(job.seed, STREAMS, CPU), DrawTable(job.augment, CPU, torch.float32)

    def ours() -> None:
        for some, batch in zip(positions, batches, strict=True):
            uniform = UniformDraws(streams.keys(some), table)
            augment(batch, uniform, job.augment, mean, std)

    @torch.no_grad()
    def peer() -> None:
        for batch in batches:
            transforms(batch.float() / 255)

    our_seconds, peer_seconds = in_turns([lambda: seconds_of(ours), lambda: seconds_of(peer)], sizes.repeats)
    images = sizes.augmented_batches * job.global_batch_size
    against = f"kornia, batches of {job.global_batch_size}"
    return [compare("augmentation alone", against, images, our_seconds, peer_seconds, 1.3)]


def _kornia_transforms(job: Job, mean: Tensor, std: Tensor) -> nn.Module:
    import kornia.augmentation as kornia

    config = job.augment
    return nn.Sequential(
        kornia.RandomHorizontalFlip(p=config.flip),
        kornia.RandomAffine(config.rotation_degrees, translate=(config.shift, config.shift), p=1.0),
        kornia.RandomGaussianBlur((5, 5), config.blur_sigma, p=config.blur_probability),
        kornia.Normalize(mean, std),
        kornia.RandomErasing(scale=config.erasing_area, ratio=config.erasing_aspect, p=config.erasing_probability),
    )
