"""Random transforms of a whole batch at once, each sample with parameters of its own, on the training device.

A sample's parameters are a function of the seed and its position in the training sequence (`fer_ddp.randomness`), so
they are the same on any number of ranks. All geometric transforms are one affine map and one bilinear resampling,
except RandAugment's.
"""

import torch
from torch import Tensor

from fer_ddp.augment.geometry import transform_geometry
from fer_ddp.augment.parameters import AugmentConfig, UniformDraws
from fer_ddp.augment.pixels import (
    gaussian_blur,
    jitter_brightness_contrast,
    normalize,
    random_erasing,
    to_unit_range,
)
from fer_ddp.augment.randaugment import rand_augment


def augment(
    images: Tensor,
    positions: Tensor,
    config: AugmentConfig,
    seed: int,
    mean: Tensor,
    std: Tensor,
    dtype: torch.dtype,
    side: int | None = None,
) -> Tensor:
    """Transform and normalize a batch.

    images: uint8 (batch, channels, height, width); positions: int64 (batch,), each sample's in the training
    sequence; mean, std: (channels, 1, 1); side: of the images returned, None keeps theirs. Returns ``dtype`` (float32
    or float64), otherwise shaped like ``images``.
    """
    uniform = UniformDraws(seed, positions, dtype)
    output = to_unit_range(images, dtype)
    if config.randaugment_ops > 0:
        output = rand_augment(output, positions, seed, config.randaugment_ops, config.randaugment_magnitude)
    output = transform_geometry(output, config, uniform, side)
    output = jitter_brightness_contrast(output, config, uniform)
    if config.blur_probability > 0:
        output = gaussian_blur(output, config, uniform)
    output = normalize(output, mean, std)
    if config.erasing_probability > 0:
        output = random_erasing(output, config, uniform)
    return output
