"""Smaller training images first: at which steps, and that they show the whole image."""

import torch
from torch.nn import functional

from fer_ddp.augment.geometry import resample
from fer_ddp.augment.image_size import ImageSizeConfig, training_side
from fer_ddp.augment.parameters import AugmentConfig, UniformDraws
from fer_ddp.augment.pipeline import augment

IDENTITY = torch.tensor([[1.0, 0, 0], [0, 1, 0]])[:, :, None]


def test_sides_share_the_steps_before_until_evenly() -> None:
    config = ImageSizeConfig(sides=(32, 40), until=0.5)
    assert [training_side(config, step, 8) for step in range(8)] == [32, 32, 40, 40, None, None, None, None]


def test_without_sides_images_keep_their_size() -> None:
    assert training_side(ImageSizeConfig(), 0, 8) is None


def test_a_smaller_image_is_torchs_bilinear_resizing_of_the_whole_image() -> None:
    images = torch.rand(1, 1, 48, 48, generator=torch.manual_seed(0))
    expected = functional.interpolate(images, size=(40, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resample(images, IDENTITY, 40), expected, rtol=0, atol=1e-5)
    assert torch.equal(resample(images, IDENTITY, 48), resample(images, IDENTITY))


def test_images_are_made_smaller_even_where_no_transform_moves_them() -> None:
    images, config = torch.full((2, 1, 48, 48), 255, dtype=torch.uint8), AugmentConfig()
    draws = UniformDraws.of(config, 0, torch.arange(2), torch.float32)
    mean, std = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    small = augment(images, draws, config, mean, std, side=32)
    torch.testing.assert_close(small, torch.ones(2, 1, 32, 32))
