"""Training on smaller images first: a step on images of 32 x 32 pixels takes half the time of one on 48 x 48."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSizeConfig:
    """The size of the training images, which may grow (progressive learning, Tan and Le 2021, EfficientNetV2)."""

    sides: tuple[Annotated[int, Field(ge=8)], ...] = ()
    """Sides in pixels to which training images are resized, in this order, each for an equal share of the steps before
    `until` (Tan and Le 2021, arXiv 2104.00298); empty is off."""
    until: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Fraction of the steps after which training images have their own size; used with `sides`."""


def training_side(config: ImageSizeConfig, step: int, total_steps: int) -> int | None:
    """The side of the images of ``step``, which counts from 0; None where they have their own size."""
    stage = int(step / (total_steps * config.until) * len(config.sides)) if config.sides else 0
    return config.sides[stage] if stage < len(config.sides) else None
