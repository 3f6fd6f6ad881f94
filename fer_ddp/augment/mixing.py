"""Mixup and CutMix of neighbouring samples."""

from functools import lru_cache

import torch
from torch import Tensor

from fer_ddp.augment.parameters import AugmentConfig, UniformDraws
from fer_ddp.augment.pixels import inside_box

_QUANTILES = 4096


def mix_pairs(
    images: Tensor, targets: Tensor, positions: Tensor, config: AugmentConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of position p with position p XOR 1.

    images: (batch, channels, height, width); targets: class probabilities (batch, classes); positions: int64 (batch,),
    an even count that starts at an even position, so a sample's partner is always in the batch. Both have one weight.
    """
    uniform = UniformDraws(seed, positions // 2, images.dtype)
    other_images = images.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    other_targets = targets.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    share = images.new_ones(len(images))
    blended = images
    if config.mixup_alpha > 0:
        share = _beta(config.mixup_alpha, uniform.unit("mixup"))
        weight = share[:, None, None, None]
        blended = weight * images + (1 - weight) * other_images
    if config.cutmix_alpha > 0:
        height, width = images.shape[-2:]
        side = (1 - _beta(config.cutmix_alpha, uniform.unit("cutmix"))).sqrt()
        x, y = uniform.unit("cutmix/x") * width, uniform.unit("cutmix/y") * height
        top, bottom = (y - side * height / 2).round().clamp(0), (y + side * height / 2).round().clamp(max=height)
        left, right = (x - side * width / 2).round().clamp(0), (x + side * width / 2).round().clamp(max=width)
        cut = torch.where(inside_box(images, top, left, bottom, right), other_images, images)
        cut_share = 1 - (bottom - top) * (right - left) / (height * width)
        cuts = uniform.happens("cutmix/choice", 0.5 if config.mixup_alpha > 0 else 1.0)
        blended = torch.where(cuts[:, None, None, None], cut, blended)
        share = torch.where(cuts, cut_share, share)
    share = share[:, None].to(targets.dtype)
    return blended, share * targets + (1 - share) * other_targets


def _beta(alpha: float, unit: Tensor) -> Tensor:
    """Beta(alpha, alpha) from uniform numbers, by a table of quantiles from scipy."""
    return _beta_quantiles(alpha, unit.device, unit.dtype)[(unit * _QUANTILES).long()]


@lru_cache(maxsize=8)
def _beta_quantiles(alpha: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    from scipy.special import betaincinv  # 0.15 s to import, and only mixing needs it

    middles = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, middles.numpy())).to(device, dtype)
