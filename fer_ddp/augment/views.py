"""Several views of an image, whose probabilities are averaged (test-time augmentation, Krizhevsky et al. 2012)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import NonNegativeInt
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewsConfig:
    """The views that evaluate, predict and export average; validation during training takes the image alone."""

    flip: bool = False
    """Average the probabilities of the image and its mirror image in evaluate, predict and export (Krizhevsky et al.
    2012); validation during training takes the image alone."""
    shift_pixels: NonNegativeInt = 0
    """Average also over the image moved by so many pixels to each of the four sides, ten views with `flip`; 0 is
    off."""

    @property
    def count(self) -> int:
        """The number of views of an image."""
        return (5 if self.shift_pixels else 1) * (2 if self.flip else 1)


def views(images: Tensor, config: ViewsConfig) -> Iterator[Tensor]:
    """Each view of images (batch, channels, height, width), the images themselves first; what moves in is black (0)."""
    by = config.shift_pixels
    height, width = images.shape[-2:]
    padded = functional.pad(images, (by, by, by, by))
    for right, down in ((0, 0), (by, 0), (-by, 0), (0, by), (0, -by)) if by else ((0, 0),):
        moved = padded[..., by - down : by - down + height, by - right : by - right + width]
        yield moved
        if config.flip:
            yield moved.flip(-1)


def mean_over_views(probabilities: Callable[[Tensor], Tensor], images: Tensor, config: ViewsConfig) -> Tensor:
    """The mean of ``probabilities``, (batch, classes), over the views of images (batch, channels, height, width)."""
    parts = [probabilities(view) for view in views(images, config)]
    return sum(parts[1:], parts[0]) / len(parts)
