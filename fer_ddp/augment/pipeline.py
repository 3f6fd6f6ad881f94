"""Random transforms of a whole batch at once, each sample with parameters of its own, on the training device.

A sample's parameters are a function of the seed and its position in the training sequence (`fer_ddp.randomness`), so
they are the same on any number of ranks. All geometric transforms are one affine map and one bilinear resampling,
except RandAugment's.
"""

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
    uniform: UniformDraws,
    config: AugmentConfig,
    mean: Tensor,
    std: Tensor,
    side: int | None = None,
) -> Tensor:
    """Transform and normalize a batch.

    images: uint8 (batch, channels, height, width); mean, std: float32 or float64 (channels, 1, 1), the dtype of what is
    returned, otherwise shaped like ``images``; side: of the images returned, None keeps theirs.
    """
    output = to_unit_range(images, mean.dtype)
    if config.randaugment_ops > 0:
        output = rand_augment(output, uniform, config.randaugment_ops, config.randaugment_magnitude)
    output = transform_geometry(output, config, uniform, side)
    output = jitter_brightness_contrast(output, config, uniform)
    if config.blur_probability > 0:
        output = gaussian_blur(output, uniform)
    output = normalize(output, mean, std)
    if config.erasing_probability > 0:
        output = random_erasing(output, uniform)
    return output
