"""Mixup and CutMix of neighbouring samples."""

import torch
from torch import Tensor

from fer_ddp.augment.parameters import AugmentConfig, UniformDraws
from fer_ddp.augment.pixels import inside_box

_QUANTILES = 4096


class PairMixing:
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of position p with position p XOR 1."""

    def __init__(self, config: AugmentConfig, device: torch.device) -> None:
        # Kept as long as a graph that reads them.
        self._mixup, self._cutmix = (
            _beta_quantiles(alpha).to(device) if alpha > 0 else None
            for alpha in (config.mixup_alpha, config.cutmix_alpha)
        )

    def __call__(self, images: Tensor, targets: Tensor, uniform: UniformDraws) -> tuple[Tensor, Tensor]:
        """Mix images (batch, channels, height, width) and targets, class probabilities (batch, classes).

        The batch is of an even size and starts at an even position, so a sample's partner is always in it. Both have
        one weight.
        """
        other_images = images.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        other_targets = targets.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        share = images.new_ones(len(images))
        blended = images
        if self._mixup is not None:
            share = _beta(self._mixup, uniform.unit("mixup"))
            weight = share[:, None, None, None]
            blended = weight * images + (1 - weight) * other_images
        if self._cutmix is not None:
            height, width = images.shape[-2:]
            side = (1 - _beta(self._cutmix, uniform.unit("cutmix"))).sqrt()
            x, y = uniform.unit("cutmix/x") * width, uniform.unit("cutmix/y") * height
            top, bottom = (y - side * height / 2).round().clamp(0), (y + side * height / 2).round().clamp(max=height)
            left, right = (x - side * width / 2).round().clamp(0), (x + side * width / 2).round().clamp(max=width)
            cut = torch.where(
                inside_box(images, torch.stack([top, left]), torch.stack([bottom, right])), other_images, images
            )
            cut_share = 1 - (bottom - top) * (right - left) / (height * width)
            cuts = uniform.unit("cutmix/choice") < (1.0 if self._mixup is None else 0.5)
            blended = torch.where(cuts[:, None, None, None], cut, blended)
            share = torch.where(cuts, cut_share, share)
        share = share[:, None].to(targets.dtype)
        return blended, share * targets + (1 - share) * other_targets


def _beta(quantiles: Tensor, unit: Tensor) -> Tensor:
    """Beta(alpha, alpha) from uniform numbers, by a table of quantiles."""
    return quantiles[(unit * _QUANTILES).long()].to(unit.dtype)


def _beta_quantiles(alpha: float) -> Tensor:
    """float64 (_QUANTILES,)."""
    from scipy.special import betaincinv  # 0.15 s to import, and only mixing needs it

    middles = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, middles.numpy()))
