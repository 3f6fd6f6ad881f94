"""Transforms of pixel values: brightness, contrast, blur, normalization, erasing."""

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp.augment.parameters import AugmentConfig, UniformDraws

_BLUR_RADIUS = 2
_NO_BLUR = 1e-3
"""A standard deviation whose kernel is 1 in its middle and exactly 0 elsewhere."""


def to_unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images uint8 (batch, channels, height, width) as ``dtype`` in [0, 1]."""
    return images.to(dtype) / 255


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images - mean) / std for images in [0, 1], with one mean and std a channel, each (channels, 1, 1)."""
    return (images - mean) / std


def jitter_brightness_contrast(images: Tensor, config: AugmentConfig, uniform: UniformDraws) -> Tensor:
    """Brightness, then contrast about the image's mean; images in [0, 1] (batch, channels, height, width)."""
    if config.brightness > 0:
        images = (images * uniform.number("brightness")[:, None, None, None]).clamp(0, 1)
    if config.contrast > 0:
        factor = uniform.number("contrast")[:, None, None, None]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (mean + (images - mean) * factor).clamp(0, 1)
    return images


def gaussian_blur(images: Tensor, uniform: UniformDraws) -> Tensor:
    """Blur some of the images (batch, channels, height, width), each with its own sigma."""
    sigma = (uniform.number("blur/sigma") * uniform.happens("blur")).clamp(min=_NO_BLUR)
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    padded = functional.pad(images, (_BLUR_RADIUS,) * 4, mode="reflect")
    return _filter(_filter(padded, kernel, -1), kernel, -2)


def _filter(padded: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Correlate along one axis with each sample's own kernel (batch, 2 * radius + 1); drops ``radius`` at both ends."""
    size = padded.shape[axis] - 2 * _BLUR_RADIUS
    taps = kernel[:, :, None, None, None]
    output = padded.narrow(axis, 0, size) * taps[:, 0]
    for tap in range(1, 2 * _BLUR_RADIUS + 1):
        output = torch.addcmul(output, padded.narrow(axis, tap, size), taps[:, tap])
    return output


def random_erasing(images: Tensor, uniform: UniformDraws) -> Tensor:
    """Set one rectangle of some normalized images to 0 (Zhong et al. 2020, arXiv 1708.04896)."""
    height, width = images.shape[-2:]
    area, aspect = uniform.number("erasing/area") * (height * width), uniform.number("erasing/aspect").exp()
    side = height if height == width else area.new_tensor([[height], [width]])
    box = torch.stack([area * aspect, area / aspect]).sqrt().round().clamp(min=1).clamp(max=side)
    start = (uniform.number("erasing/top", last="erasing/left") * (side + 1 - box)).floor()
    # A box that does not happen is empty.
    inside = inside_box(images, start, torch.addcmul(start, box, uniform.happens("erasing")))
    return images.masked_fill(inside, 0)


def inside_box(images: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """bool (batch, 1, height, width): which pixels lie in each sample's box.

    start, stop: (2, batch), its first row and column, and those after its last.
    """
    height, width = images.shape[-2:]
    places = torch.arange(max(height, width), device=images.device)
    inside = (places >= start[..., None]) & (places < stop[..., None])
    return inside[0, :, None, :height, None] & inside[1, :, None, None, :width]
