"""Random transforms of a whole batch at once, each sample with parameters of its own, on the training device.

A sample's parameters are a function of the seed and its place in the training sequence (`fer_ddp.randomness`), so
they are the same on any number of ranks. All geometric transforms are one affine map and one bilinear resampling.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fer_ddp import randomness
from fer_ddp.fields import Fraction

_BLUR_RADIUS = 2
_QUANTILES = 4096

_GEOMETRY = ("flip", "rotation", "shift/x", "shift/y", "scale", "shear")
_LOOK = ("brightness", "contrast", "blur", "blur/sigma")
_ERASING = ("erasing", "erasing/area", "erasing/aspect", "erasing/top", "erasing/left")
_MIXING = ("mixup", "cutmix", "cutmix/x", "cutmix/y", "cutmix/choice")
_ROWS = {name: row for row, name in enumerate(_GEOMETRY + _LOOK + _ERASING + _MIXING)}
_PURPOSES = tuple(f"augment/{name}" for name in _ROWS)

# Ranges beyond which a transform leaves nothing of a face, or its formula means nothing.
_Turn = Annotated[float, Field(ge=0, le=180)]
_Shear = Annotated[float, Field(ge=0, le=60)]
_Zoom = Annotated[float, Field(ge=0.1, le=10)]
_Sigma = Annotated[float, Field(gt=0, le=10)]
_Aspect = Annotated[float, Field(ge=0.01, le=100)]
_Alpha = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Magnitudes of the random transforms; the defaults change nothing."""

    flip: Fraction = 0.0
    """Probability of a left-right flip."""
    rotation_degrees: _Turn = 0.0
    """Rotation, uniform in plus or minus this, degrees."""
    shift: Fraction = 0.0
    """Shift along each axis, uniform in plus or minus this fraction of the side."""
    scale: tuple[_Zoom, _Zoom] = (1.0, 1.0)
    """Zoom factor, uniform between these."""
    shear_degrees: _Shear = 0.0
    """Horizontal shear, uniform in plus or minus this, degrees."""
    brightness: Fraction = 0.0
    """Brightness factor, uniform in 1 plus or minus this."""
    contrast: Fraction = 0.0
    """Contrast factor about the image's mean, uniform in 1 plus or minus this."""
    blur_probability: Fraction = 0.0
    """Probability of a Gaussian blur (5 x 5 kernel, reflected borders)."""
    blur_sigma: tuple[_Sigma, _Sigma] = (0.1, 2.0)
    """The blur's standard deviation, uniform between these, pixels."""
    erasing_probability: Fraction = 0.0
    """Probability that one rectangle is erased (set to 0 after normalization)."""
    erasing_area: tuple[Fraction, Fraction] = (0.02, 0.33)
    """The rectangle's area, uniform between these fractions of the image."""
    erasing_aspect: tuple[_Aspect, _Aspect] = (0.3, 3.3)
    """The rectangle's height over width, log-uniform between these."""
    mixup_alpha: _Alpha = 0.0
    """Mixup weights are drawn from Beta(alpha, alpha); 0 is off."""
    cutmix_alpha: _Alpha = 0.0
    """CutMix areas are drawn from Beta(alpha, alpha); 0 is off. With both on, each pair flips a coin."""

    def __post_init__(self) -> None:
        for name in ("scale", "blur_sigma", "erasing_area", "erasing_aspect"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: [{low}, {high}] is the wrong way round; write the smaller number first")

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed with their pair."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0


def to_unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images uint8 (batch, channels, height, width) as ``dtype`` in [0, 1]."""
    return images.to(dtype) / 255


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images - mean) / std for images in [0, 1], with one mean and std a channel, each (channels, 1, 1)."""
    return (images - mean) / std


def augment(
    images: Tensor, places: Tensor, config: AugmentConfig, seed: int, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> Tensor:
    """Transform and normalize a batch.

    images: uint8 (batch, channels, height, width); places: int64 (batch,), where each sample stands in the training
    sequence; mean, std: (channels, 1, 1). Returns ``dtype`` (float32 or float64), shaped like ``images``.
    """
    draw = _Draw(seed, places, dtype)
    output = to_unit_range(images, dtype)
    output = _geometry(output, config, draw)
    output = _colour(output, config, draw)
    if config.blur_probability > 0:
        output = _blur(output, config, draw)
    output = normalize(output, mean, std)
    if config.erasing_probability > 0:
        output = _erase(output, config, draw)
    return output


class _Draw:
    """Uniform numbers of one batch, by purpose; one hash makes them all, which takes as long as one purpose alone."""

    def __init__(self, seed: int, places: Tensor, dtype: torch.dtype) -> None:
        self._units = randomness.uniform_by_purpose(seed, _PURPOSES, places).to(dtype)

    def unit(self, purpose: str) -> Tensor:
        """(batch,) in [0, 1)."""
        return self._units[_ROWS[purpose]]

    def between(self, purpose: str, low: float, high: float) -> Tensor:
        """(batch,) in [low, high)."""
        return low + (high - low) * self.unit(purpose)

    def happens(self, purpose: str, probability: float) -> Tensor:
        """bool (batch,)."""
        return self.unit(purpose) < probability


def _geometry(images: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    flipped = draw.happens("flip", config.flip) if config.flip > 0 else None
    moves = config.rotation_degrees or config.shift or config.shear_degrees or config.scale != (1.0, 1.0)
    if not moves:
        return images if flipped is None else torch.where(flipped[:, None, None, None], images.flip(-1), images)
    height, width = images.shape[-2:]
    matrix = inverse_affine(
        angle_degrees=draw.between("rotation", -config.rotation_degrees, config.rotation_degrees),
        shift_x=draw.between("shift/x", -config.shift, config.shift) * width,
        shift_y=draw.between("shift/y", -config.shift, config.shift) * height,
        scale=draw.between("scale", *config.scale),
        shear_degrees=draw.between("shear", -config.shear_degrees, config.shear_degrees),
    )
    if flipped is not None:
        # The flip comes first, so it is the last step of the way back from output to input.
        matrix[:, 0] = torch.where(flipped[:, None], -matrix[:, 0], matrix[:, 0])
    return resample(images, matrix)


def inverse_affine(
    angle_degrees: Tensor, shift_x: Tensor, shift_y: Tensor, scale: Tensor, shear_degrees: Tensor
) -> Tensor:
    """The map from output to input positions, in pixels from the centre: (batch,) each to (batch, 2, 3).

    The same parameters mean what they mean in torchvision's ``affine``: shear, rotate, scale about the centre, shift.
    """
    angle, shear = torch.deg2rad(angle_degrees), torch.deg2rad(shear_degrees)
    sine, cosine, slope = angle.sin(), angle.cos(), shear.tan()
    a, b = (cosine - sine * slope) / scale, (sine + cosine * slope) / scale
    c, d = -sine / scale, cosine / scale
    x, y = -(a * shift_x + b * shift_y), -(c * shift_x + d * shift_y)
    return torch.stack([torch.stack([a, b, x], dim=1), torch.stack([c, d, y], dim=1)], dim=1)


def resample(images: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear resampling by ``matrix`` (batch, 2, 3), output to input pixels from the centre; 0 outside."""
    height, width = images.shape[-2:]
    x, y = (torch.arange(side, dtype=matrix.dtype, device=matrix.device) - (side - 1) / 2 for side in (width, height))
    # affine_grid's matrix product, by broadcasting in a third of its time. grid_sample's unit is half a side.
    (a, b, shift_x), (c, d, shift_y) = (row.unbind(dim=1) for row in matrix.unbind(dim=1))
    grid = matrix.new_empty(len(images), height, width, 2)
    for axis, (along_x, along_y, shift, side) in enumerate(((a, b, shift_x, width), (c, d, shift_y, height))):
        columns = (along_x * (2 / side))[:, None, None] * x
        rows = torch.addcmul(shift[:, None], along_y[:, None], y) * (2 / side)
        torch.add(columns, rows[:, :, None], out=grid[..., axis])
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _colour(images: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    if config.brightness > 0:
        factor = draw.between("brightness", 1 - config.brightness, 1 + config.brightness)
        images = (images * factor[:, None, None, None]).clamp(0, 1)
    if config.contrast > 0:
        factor = draw.between("contrast", 1 - config.contrast, 1 + config.contrast)[:, None, None, None]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (mean + (images - mean) * factor).clamp(0, 1)
    return images


def _blur(images: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    sigma = draw.between("blur/sigma", *config.blur_sigma)
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    happens = draw.happens("blur", config.blur_probability)
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


def _erase(images: Tensor, config: AugmentConfig, draw: _Draw) -> Tensor:
    height, width = images.shape[-2:]
    area = draw.between("erasing/area", *config.erasing_area) * (height * width)
    low, high = (math.log(aspect) for aspect in config.erasing_aspect)
    aspect = draw.between("erasing/aspect", low, high).exp()
    box_height = (area * aspect).sqrt().round().clamp(1, height)
    box_width = (area / aspect).sqrt().round().clamp(1, width)
    top = (draw.unit("erasing/top") * (height - box_height + 1)).floor()
    left = (draw.unit("erasing/left") * (width - box_width + 1)).floor()
    inside = _inside(images, top, left, top + box_height, left + box_width)
    happens = draw.happens("erasing", config.erasing_probability)[:, None, None, None]
    return images.masked_fill(inside & happens, 0)


def _inside(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """bool (batch, 1, height, width): which pixels lie in each sample's box."""
    rows = torch.arange(images.shape[-2], device=images.device)[None, :, None]
    columns = torch.arange(images.shape[-1], device=images.device)[None, None, :]
    top, left, bottom, right = (edge[:, None, None] for edge in (top, left, bottom, right))
    return ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))[:, None]


def mix_pairs(
    images: Tensor, targets: Tensor, places: Tensor, config: AugmentConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of place p with place p XOR 1.

    images: (batch, channels, height, width); targets: class probabilities (batch, classes); places: int64 (batch,),
    an even count that starts at an even place, so a partner is always here. Both of a pair have one weight.
    """
    draw = _Draw(seed, places // 2, images.dtype)
    other_images = images.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    other_targets = targets.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    share = images.new_ones(len(images))
    blended = images
    if config.mixup_alpha > 0:
        share = _beta(config.mixup_alpha, draw.unit("mixup"))
        weight = share[:, None, None, None]
        blended = weight * images + (1 - weight) * other_images
    if config.cutmix_alpha > 0:
        height, width = images.shape[-2:]
        side = (1 - _beta(config.cutmix_alpha, draw.unit("cutmix"))).sqrt()
        x, y = draw.unit("cutmix/x") * width, draw.unit("cutmix/y") * height
        top, bottom = (y - side * height / 2).round().clamp(0), (y + side * height / 2).round().clamp(max=height)
        left, right = (x - side * width / 2).round().clamp(0), (x + side * width / 2).round().clamp(max=width)
        cut = torch.where(_inside(images, top, left, bottom, right), other_images, images)
        cut_share = 1 - (bottom - top) * (right - left) / (height * width)
        cuts = draw.happens("cutmix/choice", 0.5 if config.mixup_alpha > 0 else 1.0)
        blended = torch.where(cuts[:, None, None, None], cut, blended)
        share = torch.where(cuts, cut_share, share)
    share = share[:, None].to(targets.dtype)
    return blended, share * targets + (1 - share) * other_targets


def _beta(alpha: float, unit: Tensor) -> Tensor:
    """Beta(alpha, alpha) from uniform numbers, by a table of quantiles that scipy makes."""
    return _beta_quantiles(alpha, unit.device, unit.dtype)[(unit * _QUANTILES).long()]


@lru_cache(maxsize=8)
def _beta_quantiles(alpha: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    from scipy.special import betaincinv  # 0.15 s to import, and only mixing needs it

    middles = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, middles.numpy())).to(device, dtype)
