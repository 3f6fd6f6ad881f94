"""RandAugment (Cubuk et al. 2020, arXiv 1909.13719): transforms drawn for each image from one list, at one strength.

The list and the strengths are those of torchvision, with two differences: geometric transforms are about the image's
centre and bilinear, and a grey image is not offered the transform of its colours.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp.augment.geometry import resample
from fer_ddp.augment.parameters import UniformDraws

STRONGEST = 30
"""The magnitude at which each transform is at its strongest."""

_Operation = Callable[[Tensor, Tensor], Tensor]
"""From images in [0, 1] (batch, channels, height, width) and strengths (batch,) in [-1, 1], all of one absolute value;
transforms that have no direction use that."""


def operations(channels: int) -> tuple[str, ...]:
    """The transforms among which each is drawn, all with the same probability."""
    return tuple(name for name in _OPERATIONS if channels > 1 or name != "color")


def rand_augment(images: Tensor, uniform: UniformDraws, count: int, magnitude: float) -> Tensor:
    """Apply ``count`` transforms to each image, one after another, drawn by its position in the training sequence.

    images: in [0, 1] (batch, channels, height, width); magnitude: 0 to 30. Returns the same shape and dtype.
    """
    names = operations(images.shape[1])
    for number in range(count):
        chosen = (uniform.unit(f"randaugment/{number}") * len(names)).long()
        is_positive = uniform.unit(f"randaugment/{number}/sign") >= 0.5
        strength = (2 * is_positive.to(images.dtype) - 1) * (magnitude / STRONGEST)
        for index, name in enumerate(names):
            images = _where(chosen == index, _OPERATIONS[name], images, strength)
    return images


def _where(rows: Tensor, operation: _Operation, images: Tensor, strength: Tensor) -> Tensor:
    """``operation`` on the images of ``rows``, bool (batch,).

    A GPU transforms all and chooses, since it would have to wait to learn how many there are.
    """
    if images.device.type != "cpu":
        return torch.where(rows[:, None, None, None], operation(images, strength), images)
    index = rows.nonzero()[:, 0]
    return images.index_copy(0, index, operation(images[index], strength[index])) if len(index) else images


def _moved(matrix: list[list[Tensor | float]], images: Tensor) -> Tensor:
    """`resample` by a matrix whose entries are numbers or (batch,)."""
    rows = [torch.stack([images.new_zeros(len(images)) + entry for entry in row]) for row in matrix]
    return resample(images, torch.stack(rows))


def _rotated(images: Tensor, strength: Tensor) -> Tensor:
    angle = strength * math.radians(30)
    return _moved([[angle.cos(), angle.sin(), 0.0], [-angle.sin(), angle.cos(), 0.0]], images)


def _blended(images: Tensor, with_images: Tensor | float, strength: Tensor) -> Tensor:
    """Images moved away from others, or towards them by a negative strength."""
    factor = 1 + 0.9 * strength[:, None, None, None]
    return (with_images + factor * (images - with_images)).clamp(0, 1)


def _grey(images: Tensor) -> Tensor:
    """(batch, 1, height, width): the luminance."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    luminance: Tensor = 0.2989 * red + 0.587 * green + 0.114 * blue
    return luminance


def _smooth(images: Tensor) -> Tensor:
    """Each pixel averaged with its eight neighbours, itself with weight five; the border as it is."""
    inner = images[..., 1:-1, 1:-1]
    mean = (functional.avg_pool2d(images, 3, stride=1) * 9 + 4 * inner) / 13
    output = images.clone()
    output[..., 1:-1, 1:-1] = mean
    return output


def _levels(images: Tensor) -> Tensor:
    """int64, 0 to 255."""
    return (images * 255).round().long()


def _posterized(images: Tensor, strength: Tensor) -> Tensor:
    step = (2.0 ** (4 * strength.abs()).round()).long()[:, None, None, None]
    return (_levels(images) // step * step).to(images.dtype) / 255


def _solarized(images: Tensor, strength: Tensor) -> Tensor:
    return torch.where(images >= 1 - strength.abs()[:, None, None, None], 1 - images, images)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    low, high = (limit(images, dim=(2, 3), keepdim=True) for limit in (torch.amin, torch.amax))
    stretched = (images - low) / (high - low).clamp(min=torch.finfo(images.dtype).tiny)
    return torch.where(high > low, stretched.clamp(0, 1), images)


def _equalized(images: Tensor, strength: Tensor) -> Tensor:
    """Each channel's levels equally frequent, by Pillow's rule."""
    levels = _levels(images).flatten(0, 1).flatten(1)
    counts = torch.zeros(len(levels), 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    last = counts.gather(1, levels.amax(dim=1, keepdim=True))
    step = (levels.shape[1] - last) // 255
    before = counts.cumsum(dim=1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    equalized = torch.where(step > 0, table.gather(1, levels), levels)
    return (equalized.to(images.dtype) / 255).view_as(images)


_OPERATIONS: dict[str, _Operation] = {
    "identity": lambda images, strength: images,
    "shear_x": lambda images, strength: _moved([[1.0, 0.3 * strength, 0.0], [0.0, 1.0, 0.0]], images),
    "shear_y": lambda images, strength: _moved([[1.0, 0.0, 0.0], [0.3 * strength, 1.0, 0.0]], images),
    "translate_x": lambda images, strength: _moved(
        [[1.0, 0.0, -150 / 331 * images.shape[3] * strength], [0.0, 1.0, 0.0]], images
    ),
    "translate_y": lambda images, strength: _moved(
        [[1.0, 0.0, 0.0], [0.0, 1.0, -150 / 331 * images.shape[2] * strength]], images
    ),
    "rotate": _rotated,
    "brightness": lambda images, strength: _blended(images, 0.0, strength),
    "color": lambda images, strength: _blended(images, _grey(images), strength),
    "contrast": lambda images, strength: _blended(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), strength),
    "sharpness": lambda images, strength: _blended(images, _smooth(images), strength),
    "posterize": _posterized,
    "solarize": _solarized,
    "autocontrast": _autocontrast,
    "equalize": _equalized,
}
