"""The augmented batch of any step: a function of the data, the configuration and the step, not of earlier steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp import distributed
from fer_ddp.augment.image_size import ImageSizeConfig, training_side
from fer_ddp.augment.mixing import PairMixing
from fer_ddp.augment.parameters import PAIR_STREAMS, STREAMS, AugmentConfig, DrawTable, UniformDraws
from fer_ddp.augment.pipeline import augment
from fer_ddp.data.dataset import FERDataset
from fer_ddp.data.sampler import Sampler, StepPlan
from fer_ddp.data.stream import StreamedImages, StreamedSplit, StreamedSteps
from fer_ddp.data.targets import TARGET_STREAM, VoteTargets
from fer_ddp.precision import to_memory_format
from fer_ddp.randomness import Streams
from shards.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class RawBatch:
    """One rank's part of a step, before augmentation."""

    pixels: Tensor
    """uint8 (batch, channels, height, width), on the device."""
    labels: Tensor
    """int64 (batch,)."""
    indices: Tensor
    """int64 (batch,), each sample's index in the split."""
    positions: Tensor
    """int64 (batch,), each sample's position in the training sequence."""
    side: int | None = None
    """The side to which the images are resized; None keeps theirs."""
    mixed: bool = True
    """Whether samples are mixed in pairs, where the job has mixup or cutmix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One rank's part of a step, ready for the model."""

    images: Tensor
    """Augmented and normalized, (batch, channels, height, width), float32 or float64, in the run's memory format."""
    targets: Tensor
    """Class probabilities after mixing, (batch, classes)."""
    teacher: Tensor | None
    """The teacher's probabilities after mixing, (batch, classes), where there is a teacher."""
    labels: Tensor
    """int64 (batch,), before mixing."""
    indices: Tensor
    """int64 (batch,), each sample's index in the split."""
    positions: Tensor
    """int64 (batch,), each sample's position in the training sequence."""
    keys: Tensor
    """int32 (streams, batch), the samples' random keys for the loader's ``model_streams``."""


_Read = Callable[[int], tuple[Tensor, Tensor, Tensor]]
"""A step's pixels, labels and indices, as in `RawBatch`."""


class BatchLoader:
    """``loader[step]`` is this rank's `Batch` of ``step``; the data stay on the device, or are read ahead."""

    def __init__(
        self,
        dataset: FERDataset | StreamedSplit,
        steps: StepPlan,
        sampler: Sampler,
        *,
        augment: AugmentConfig,
        image_size: ImageSizeConfig,
        total_steps: int,
        seed: int,
        mean: Tensor,
        std: Tensor,
        memory_format: str,
        device: torch.device,
        votes: VoteTargets | None = None,
        teacher: Tensor | None = None,
        model_streams: tuple[str, ...] = (),
    ) -> None:
        """mean, std: (channels, 1, 1) on ``device``; the images get their dtype, float32 or float64.

        votes: the targets, on ``device``; None takes the labels. teacher: probabilities of each sample (samples,
        classes), on ``device``. model_streams: the model's streams of random numbers, hashed along with the loader's
        own.
        """
        self._votes, self._teacher = votes, teacher
        self.steps, self._total_steps, self._image_size = steps, total_steps, image_size
        self._augment, self._mean, self._std = augment, mean, std
        self._streams = Streams(
            seed, (*STREAMS, TARGET_STREAM, *model_streams), device, PAIR_STREAMS if augment.mixes else ()
        )
        self._draws, self._mix_pairs = DrawTable(augment, device, mean.dtype), PairMixing(augment, device)
        self._memory_format, self._device, self._classes = memory_format, device, len(dataset.class_names)

        def indices_of(step: int) -> Tensor:
            return sampler(steps.positions(step, distributed.rank()))

        self._read: _Read
        if isinstance(dataset.images, Tensor):
            self._read = _resident(dataset.images.to(device), dataset.labels.to(device), indices_of)
        else:
            self._read = _streamed(dataset.images, dataset.labels, indices_of, steps.local_batch_size, device)

    def __getitem__(self, step: int) -> Batch:
        return self.augmented(self.raw_batch(step))

    def raw_batch(self, step: int) -> RawBatch:
        """This rank's part of ``step``, the input of `augmented`."""
        positions = self.steps.positions(step, distributed.rank())
        pixels, labels, indices = self._read(step)
        return RawBatch(
            pixels=pixels,
            labels=labels,
            indices=indices,
            positions=torch.arange(positions.start, positions.stop, device=self._device),
            side=training_side(self._image_size, step, self._total_steps),
            mixed=step < self._total_steps * self._augment.mixing_until,
        )

    def augmented(self, raw: RawBatch) -> Batch:
        """The batch for ``raw``: a function of it alone, computed on the device."""
        config, dtype, keys = self._augment, self._mean.dtype, self._streams.keys(raw.positions)
        draw_keys, target_keys, model_keys = keys.tensor_split((len(STREAMS), len(STREAMS) + 1))
        if self._votes is None:
            targets = functional.one_hot(raw.labels, self._classes).to(dtype)
        else:
            targets = self._votes.of(raw.indices, target_keys[0])
        teacher = None if self._teacher is None else self._teacher[raw.indices]
        uniform = UniformDraws(draw_keys, self._draws)
        images = augment(raw.pixels, uniform, config, self._mean, self._std, raw.side)
        if config.mixes and raw.mixed:
            both = targets if teacher is None else torch.cat([targets, teacher], dim=1)
            images, both = self._mix_pairs(images, both, uniform)
            targets, teacher = both[:, : self._classes], None if teacher is None else both[:, self._classes :]
        return Batch(
            images=to_memory_format(images, self._memory_format),
            targets=targets,
            teacher=teacher,
            labels=raw.labels,
            indices=raw.indices,
            positions=raw.positions,
            keys=model_keys,
        )


def _resident(images: Tensor, labels: Tensor, indices_of: Callable[[int], Tensor]) -> _Read:
    def read(step: int) -> tuple[Tensor, Tensor, Tensor]:
        indices = indices_of(step)
        return images[indices], labels[indices], indices

    return read


def _streamed(
    images: StreamedImages, labels: Tensor, indices_of: Callable[[int], Tensor], size: int, device: torch.device
) -> _Read:
    steps = StreamedSteps(images, indices_of, size, pin_memory=device.type == "cuda")

    def read(step: int) -> tuple[Tensor, Tensor, Tensor]:
        try:
            indices, pixels = steps[step]
        except DataError as error:
            distributed.print_from_rank(f"rank {distributed.rank()}: {error}")
            raise
        tensors = (labels[indices], indices)
        if device.type == "cuda":
            tensors = (tensors[0].pin_memory(), tensors[1].pin_memory())
        step_labels, step_indices = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return pixels.to(device, non_blocking=True), step_labels, step_indices

    return read
