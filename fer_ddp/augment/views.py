"""Several views of an image, whose probabilities are averaged (test-time augmentation, Krizhevsky et al. 2012)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor
from torch.nn import functional

from fer_ddp.augment.geometry import inverse_affine, resample
from fer_ddp.augment.parameters import Turn, Zoom


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewsConfig:
    """The views that evaluate, predict and export average; validation during training takes the image alone.

    Every combination is a view: ``flip`` with three rotations, two scales and five shifts makes 60.
    """

    flip: bool = False
    """Average the probabilities of the image and its mirror image in evaluate, predict and export (Krizhevsky et al.
    2012); validation during training takes the image alone."""
    shift_pixels: NonNegativeInt = 0
    """Average also over the image moved by so many pixels to each of the four sides, ten views with `flip`; 0 is
    off."""
    rotation_degrees: Turn = 0.0
    """Average also over the image rotated by so many degrees to the left and to the right; 0 is off."""
    scales: Annotated[tuple[Zoom, ...], Field(min_length=1)] = (1.0,)
    """Average over the image zoomed by each of these factors, about its centre."""

    @property
    def count(self) -> int:
        """The number of views of an image."""
        return len(self._maps()) * (2 if self.flip else 1)

    def _maps(self) -> list[tuple[float, float, int, int]]:
        """(scale, degrees, pixels to the right, pixels down) of each view that is not a mirror image."""
        by, degrees = self.shift_pixels, self.rotation_degrees
        turns = (0.0, -degrees, degrees) if degrees else (0.0,)
        shifts = ((0, 0), (by, 0), (-by, 0), (0, by), (0, -by)) if by else ((0, 0),)
        return [(scale, turn, *shift) for scale, turn, shift in product(self.scales, turns, shifts)]


def views(images: Tensor, config: ViewsConfig) -> Iterator[Tensor]:
    """Each view of images (batch, channels, height, width), in 0 to 255; what moves in is black (0).

    Those that are rotated or scaled are float32, not rounded to whole numbers; the others keep their dtype.
    """
    for scale, degrees, right, down in config._maps():
        moved = _shifted(images, right, down)
        if scale != 1 or degrees:
            moved = _rotated_and_scaled(images, scale, degrees, right, down)
        yield moved
        if config.flip:
            yield moved.flip(-1)


def mean_over_views(probabilities: Callable[[Tensor], Tensor], images: Tensor, config: ViewsConfig) -> Tensor:
    """The mean of ``probabilities``, (batch, classes), over the views of images (batch, channels, height, width)."""
    parts = [probabilities(view) for view in views(images, config)]
    return sum(parts[1:], parts[0]) / len(parts)


def _shifted(images: Tensor, right: int, down: int) -> Tensor:
    """The images moved by whole pixels."""
    if not right and not down:
        return images
    by = max(abs(right), abs(down))
    height, width = images.shape[-2:]
    padded = functional.pad(images, (by, by, by, by))
    return padded[..., by - down : by - down + height, by - right : by - right + width]


def _rotated_and_scaled(images: Tensor, scale: float, degrees: float, right: int, down: int) -> Tensor:
    """The images rotated and scaled about their centre, then moved, in one bilinear resampling."""
    parameters = torch.tensor([degrees, -right, -down, scale], dtype=torch.float32, device=images.device)
    angle, shift_back, zoom = parameters.unsqueeze(1).split([1, 2, 1])
    matrix = inverse_affine(angle[0], shift_back, zoom[0])
    return resample(images.float(), matrix.expand(-1, -1, images.shape[0]))
