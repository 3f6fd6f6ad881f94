"""Transforms of pixel values: brightness, contrast, blur, normalization, erasing."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp.augment.parameters import AugmentConfig, UniformDraws

_BLUR_RADIUS = 2


def to_unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images uint8 (batch, channels, height, width) as ``dtype`` in [0, 1]."""
    return images.to(dtype) / 255


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images - mean) / std for images in [0, 1], with one mean and std a channel, each (channels, 1, 1)."""
    return (images - mean) / std


def jitter_brightness_contrast(images: Tensor, config: AugmentConfig, uniform: UniformDraws) -> Tensor:
    """Brightness, then contrast about the image's mean; images in [0, 1] (batch, channels, height, width)."""
    if config.brightness > 0:
        factor = uniform.between("brightness", 1 - config.brightness, 1 + config.brightness)
        images = (images * factor[:, None, None, None]).clamp(0, 1)
    if config.contrast > 0:
        factor = uniform.between("contrast", 1 - config.contrast, 1 + config.contrast)[:, None, None, None]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (mean + (images - mean) * factor).clamp(0, 1)
    return images


def gaussian_blur(images: Tensor, config: AugmentConfig, uniform: UniformDraws) -> Tensor:
    """Blur some of the images (batch, channels, height, width), each with its own sigma."""
    sigma = uniform.between("blur/sigma", *config.blur_sigma)
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    happens = uniform.happens("blur", config.blur_probability)
    kernel = torch.where(happens[:, None], kernel, (offsets == 0).to(images.dtype))
    for axis in (-1, -2):
        images = _filter(images, kernel, axis)
    return images


def _filter(images: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Correlate along one axis with each sample's own kernel (batch, 2 * radius + 1), borders reflected."""
    radius, size = _BLUR_RADIUS, images.shape[axis]
    padding = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
    padded = functional.pad(images, padding, mode="reflect")
    taps = kernel[:, :, None, None, None]
    output = padded.narrow(axis, 0, size) * taps[:, 0]
    for tap in range(1, 2 * radius + 1):
        output = torch.addcmul(output, padded.narrow(axis, tap, size), taps[:, tap])
    return output


def random_erasing(images: Tensor, config: AugmentConfig, uniform: UniformDraws) -> Tensor:
    """Set one rectangle of some normalized images to 0 (Zhong et al. 2020, arXiv 1708.04896)."""
    height, width = images.shape[-2:]
    area = uniform.between("erasing/area", *config.erasing_area) * (height * width)
    low, high = (math.log(aspect) for aspect in config.erasing_aspect)
    aspect = uniform.between("erasing/aspect", low, high).exp()
    box_height = (area * aspect).sqrt().round().clamp(1, height)
    box_width = (area / aspect).sqrt().round().clamp(1, width)
    top = (uniform.unit("erasing/top") * (height - box_height + 1)).floor()
    left = (uniform.unit("erasing/left") * (width - box_width + 1)).floor()
    inside = inside_box(images, top, left, top + box_height, left + box_width)
    happens = uniform.happens("erasing", config.erasing_probability)[:, None, None, None]
    return images.masked_fill(inside & happens, 0)


def inside_box(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """bool (batch, 1, height, width): which pixels lie in each sample's box."""
    rows = torch.arange(images.shape[-2], device=images.device)[None, :, None]
    columns = torch.arange(images.shape[-1], device=images.device)[None, None, :]
    top, left, bottom, right = (edge[:, None, None] for edge in (top, left, bottom, right))
    return ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))[:, None]
