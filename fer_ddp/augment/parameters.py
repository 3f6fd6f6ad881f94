"""The magnitudes of the random transforms, and a batch's uniform random numbers."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fer_ddp import randomness
from fer_ddp.constraints import Fraction

_GEOMETRY = ("flip", "rotation", "shift/x", "shift/y", "scale", "shear")
_LOOK = ("brightness", "contrast", "blur", "blur/sigma")
_ERASING = ("erasing", "erasing/area", "erasing/aspect", "erasing/top", "erasing/left")
_MIXING = ("mixup", "cutmix", "cutmix/x", "cutmix/y", "cutmix/choice")
_ROWS = {name: row for row, name in enumerate(_GEOMETRY + _LOOK + _ERASING + _MIXING)}
_STREAMS = tuple(f"augment/{name}" for name in _ROWS)

# Beyond these ranges a transform leaves nothing of a face, or its formula has no meaning.
Turn = Annotated[float, Field(ge=0, le=180)]
_Shear = Annotated[float, Field(ge=0, le=60)]
Zoom = Annotated[float, Field(ge=0.1, le=10)]
_Sigma = Annotated[float, Field(gt=0, le=10)]
_Aspect = Annotated[float, Field(ge=0.01, le=100)]
_Alpha = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Magnitudes of the random transforms; the defaults change nothing."""

    flip: Fraction = 0.0
    """Probability of a left-right flip."""
    rotation_degrees: Turn = 0.0
    """Rotation, uniform in plus or minus this, degrees."""
    shift: Fraction = 0.0
    """Shift along each axis, uniform in plus or minus this fraction of the side."""
    scale: tuple[Zoom, Zoom] = (1.0, 1.0)
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
    randaugment_ops: Annotated[int, Field(ge=0, le=8)] = 0
    """Transforms that each image gets first, drawn from RandAugment's list (Cubuk et al. 2020, arXiv 1909.13719), such
    as 2; 0 is off."""
    randaugment_magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0
    """Their strength, 30 being the strongest."""
    mixup_alpha: _Alpha = 0.0
    """Mixup weights are drawn from Beta(alpha, alpha); 0 is off."""
    cutmix_alpha: _Alpha = 0.0
    """CutMix areas are drawn from Beta(alpha, alpha); 0 is off. With both on, each pair flips a coin."""
    mixing_until: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Fraction of the steps after which samples are no longer mixed (He et al. 2019, arXiv 1909.09148)."""

    def __post_init__(self) -> None:
        for name in ("scale", "blur_sigma", "erasing_area", "erasing_aspect"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: [{low}, {high}] is the wrong way round; write the smaller number first")

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed in pairs."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0


class UniformDraws:
    """Uniform random numbers of one batch, by stream; all streams are hashed at once, in the time of one alone."""

    def __init__(self, seed: int, positions: Tensor, dtype: torch.dtype) -> None:
        self._units = randomness.uniform_by_stream(seed, _STREAMS, positions).to(dtype)

    def unit(self, stream: str) -> Tensor:
        """(batch,) in [0, 1)."""
        return self._units[_ROWS[stream]]

    def between(self, stream: str, low: float, high: float) -> Tensor:
        """(batch,) in [low, high)."""
        return low + (high - low) * self.unit(stream)

    def happens(self, stream: str, probability: float) -> Tensor:
        """bool (batch,)."""
        return self.unit(stream) < probability
