"""The magnitudes of the random transforms, and a batch's uniform random numbers."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fer_ddp import randomness
from fer_ddp.constraints import Fraction

MAX_RANDAUGMENT_OPS = 8

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
    randaugment_ops: Annotated[int, Field(ge=0, le=MAX_RANDAUGMENT_OPS)] = 0
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


_UNIT = (0.0, 1.0)


def draws_of(config: AugmentConfig) -> dict[str, float | tuple[float, float]]:
    """What is drawn for a sample, by stream: whether something happens, by its probability, or a number between two."""
    log_aspect = (math.log(config.erasing_aspect[0]), math.log(config.erasing_aspect[1]))
    return {
        "flip": config.flip,
        "rotation": (-config.rotation_degrees, config.rotation_degrees),
        "shift/x": (-config.shift, config.shift),
        "shift/y": (-config.shift, config.shift),
        "scale": config.scale,
        "shear": (-config.shear_degrees, config.shear_degrees),
        "brightness": (1 - config.brightness, 1 + config.brightness),
        "contrast": (1 - config.contrast, 1 + config.contrast),
        "blur": config.blur_probability,
        "blur/sigma": config.blur_sigma,
        "erasing": config.erasing_probability,
        "erasing/area": config.erasing_area,
        "erasing/aspect": log_aspect,
        "erasing/top": _UNIT,
        "erasing/left": _UNIT,
        **dict.fromkeys(_MIXING, _UNIT),
        **dict.fromkeys(_RANDAUGMENT, _UNIT),
    }


_MIXING = ("mixup", "cutmix", "cutmix/x", "cutmix/y", "cutmix/choice")
_RANDAUGMENT = tuple(f"randaugment/{number}{part}" for number in range(MAX_RANDAUGMENT_OPS) for part in ("", "/sign"))
_ROWS = {name: row for row, name in enumerate(draws_of(AugmentConfig()))}
STREAMS = tuple(f"augment/{name}" for name in _ROWS)
PAIR_STREAMS = frozenset(f"augment/{name}" for name in _MIXING)
"""Those whose numbers the two samples of a pair share."""


class DrawTable:
    """`draws_of` as tensors; they are constants of a graph that draws, so keep it as long as the graph."""

    def __init__(self, config: AugmentConfig, device: torch.device, dtype: torch.dtype) -> None:
        draws = [draw if isinstance(draw, tuple) else (draw, draw) for draw in draws_of(config).values()]
        low_and_span = torch.tensor([(low, high - low) for low, high in draws], dtype=torch.float64)
        self.low, self.span = low_and_span.to(device, dtype).T[:, :, None].contiguous()


class UniformDraws:
    """The random numbers of one batch, by stream; those of all streams are computed at once."""

    def __init__(self, keys: Tensor, table: DrawTable) -> None:
        """keys: int32 (streams, batch), those of `STREAMS`, from `randomness.Streams`."""
        units = randomness.first_uniform(keys).to(table.low.dtype)
        self._units, self._numbers, self._happens = units, table.low + table.span * units, units < table.low

    @staticmethod
    def of(config: AugmentConfig, seed: int, positions: Tensor, dtype: torch.dtype) -> "UniformDraws":
        """The numbers of samples at int64 (batch,) positions in the training sequence."""
        streams = randomness.Streams(seed, STREAMS, positions.device, PAIR_STREAMS)
        return UniformDraws(streams.keys(positions), DrawTable(config, positions.device, dtype))

    def unit(self, stream: str) -> Tensor:
        """(batch,) in [0, 1)."""
        return self._units[_ROWS[stream]]

    def number(self, stream: str, last: str | None = None) -> Tensor:
        """(batch,) in the range of the stream; up to the stream ``last``, in the order of `draws_of`, (streams, batch).

        It may be the range's upper end only by rounding.
        """
        row = _ROWS[stream]
        numbers: Tensor = self._numbers[row] if last is None else self._numbers[row : _ROWS[last] + 1]
        return numbers

    def happens(self, stream: str) -> Tensor:
        """bool (batch,), with the probability of the stream."""
        happens: Tensor = self._happens[_ROWS[stream]]
        return happens

    def between(self, stream: str, low: float, high: float) -> Tensor:
        """(batch,) in [low, high)."""
        return low + (high - low) * self.unit(stream)
