"""Random transforms of a whole batch at once, each sample with parameters of its own, on the training device.

A sample's parameters are a function of the seed and its place in the training sequence (`fer_ddp.randomness`), so
they are the same on any number of ranks. All geometric transforms are one affine map and one bilinear resampling.
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


def augment(
    images: Tensor, positions: Tensor, config: AugmentConfig, seed: int, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> Tensor:
    """Transform and normalize a batch.

    images: uint8 (batch, channels, height, width); positions: int64 (batch,), where each sample stands in the training
    sequence; mean, std: (channels, 1, 1). Returns ``dtype`` (float32 or float64), shaped like ``images``.
    """
    draws = UniformDraws(seed, positions, dtype)
    output = to_unit_range(images, dtype)
    output = transform_geometry(output, config, draws)
    output = jitter_brightness_contrast(output, config, draws)
    if config.blur_probability > 0:
        output = gaussian_blur(output, config, draws)
    output = normalize(output, mean, std)
    if config.erasing_probability > 0:
        output = random_erasing(output, config, draws)
    return output
