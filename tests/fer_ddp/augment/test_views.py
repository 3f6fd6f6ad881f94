"""The views of an image at evaluation, and the mean of their probabilities."""

import numpy as np
import torch
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from fer_ddp.augment.views import ViewsConfig, views
from fer_ddp.evaluation.evaluator import Evaluator

IMAGES = torch.arange(1, 10).view(1, 1, 3, 3)


def test_without_views_there_is_the_image_alone() -> None:
    (only,) = views(IMAGES, ViewsConfig())
    assert torch.equal(only, IMAGES)


def test_the_mirror_image_is_a_view() -> None:
    _, mirrored = views(IMAGES, ViewsConfig(flip=True))
    assert mirrored[0, 0, 0].tolist() == [3, 2, 1]


def test_shifts_move_black_in_from_each_side() -> None:
    _, right, left, down, up = (view[0, 0].tolist() for view in views(IMAGES, ViewsConfig(shift_pixels=1)))
    assert right == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]
    assert left == [[2, 3, 0], [5, 6, 0], [8, 9, 0]]
    assert down == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert up == [[4, 5, 6], [7, 8, 9], [0, 0, 0]]


def test_rotated_views_are_turned_both_ways_about_the_centre() -> None:
    _, left, right = (view[0, 0] for view in views(IMAGES, ViewsConfig(rotation_degrees=90)))
    torch.testing.assert_close(left, torch.rot90(IMAGES[0, 0], 1).float())
    torch.testing.assert_close(right, torch.rot90(IMAGES[0, 0], -1).float())


def test_a_scaled_and_moved_view_is_what_torchvision_computes() -> None:
    images = torch.randint(0, 256, (3, 1, 24, 24), dtype=torch.uint8)
    view = list(views(images, ViewsConfig(scales=(1.25,), rotation_degrees=8, shift_pixels=2)))[6]
    expected = affine(images.float(), -8, [2, 0], 1.25, [0.0, 0.0], InterpolationMode.BILINEAR)
    torch.testing.assert_close(view, expected, atol=0.01, rtol=1e-4)


def test_the_number_of_views_is_counted() -> None:
    every = ViewsConfig(flip=True, shift_pixels=2, rotation_degrees=8, scales=(1.0, 1.1))
    assert every.count == 60
    for config in (ViewsConfig(), ViewsConfig(flip=True), ViewsConfig(flip=True, shift_pixels=2), every):
        assert len(list(views(IMAGES, config))) == config.count


class FirstColumn(nn.Module):
    """Logits (0, brightness of the first column)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        column = images[..., 0].sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(column), column], dim=1)


def test_an_evaluator_averages_the_probabilities_of_the_views() -> None:
    evaluator = Evaluator(
        device=torch.device("cpu"),
        precision="float64",
        memory_format="contiguous",
        mean=torch.zeros(1, 1, 1, dtype=torch.float64),
        std=torch.ones(1, 1, 1, dtype=torch.float64),
        views=ViewsConfig(flip=True),
    )
    images = torch.tensor([[[[255, 0], [255, 0]]]], dtype=torch.uint8)
    probabilities = evaluator.probabilities(FirstColumn(), images)
    sigmoid = 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(probabilities, [[1 - (sigmoid + 0.5) / 2, (sigmoid + 0.5) / 2]], rtol=1e-12)
