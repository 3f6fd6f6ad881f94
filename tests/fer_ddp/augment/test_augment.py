"""Batched augmentation against torchvision's transforms one image at a time, and in its distributions."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from distributions import IMPLAUSIBLE, assert_distributed
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision_functional

from fer_ddp.augment.geometry import inverse_affine, resample
from fer_ddp.augment.parameters import AugmentConfig, UniformDraws
from fer_ddp.augment.pipeline import augment
from fer_ddp.augment.pixels import gaussian_blur, normalize, to_unit_range

NOTHING = AugmentConfig()
EVERYTHING = AugmentConfig(
    flip=0.5,
    rotation_degrees=15,
    shift=0.1,
    scale=(0.9, 1.2),
    shear_degrees=5,
    brightness=0.2,
    contrast=0.2,
    blur_probability=0.5,
    erasing_probability=0.5,
)
# Normalization that leaves values as they are, and one under which no pixel becomes 0.
PLAIN = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
ABOVE_ZERO = -torch.ones(1, 1, 1), torch.ones(1, 1, 1)

EACH_SHAPE = pytest.mark.parametrize("shape", [(1, 48, 48), (3, 48, 48), (1, 40, 56), (3, 56, 40)], ids=str)


def images(count: int, shape: tuple[int, int, int] = (1, 48, 48)) -> Tensor:
    """uint8 images without symmetry: a smooth pattern with noise on it."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None, :]
    phase = 6 * torch.rand(count, channels, 1, 1, generator=generator)
    smooth = 120 + 60 * torch.sin(5 * rows + 3 * columns**2 + phase) + 40 * rows
    return (smooth + 20 * torch.rand(count, *shape, generator=generator)).to(torch.uint8)


def augmented(
    batch: Tensor,
    config: AugmentConfig,
    *,
    positions: Tensor | None = None,
    seed: int = 0,
    normalization: tuple[Tensor, Tensor] = PLAIN,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    mean, std = (statistic.to(dtype) for statistic in normalization)
    positions = torch.arange(len(batch)) if positions is None else positions
    return augment(batch, UniformDraws.of(config, seed, positions, dtype), config, mean, std)


def uniform_draws(count: int = 4096, seed: int = 0, config: AugmentConfig = NOTHING) -> UniformDraws:
    return UniformDraws.of(config, seed, torch.arange(count), torch.float64)


# Against torchvision, with fixed parameters. Its `affine` fills with 0 where fill is None; with fill=0 it multiplies
# the pixels at the border by their part inside twice.


@EACH_SHAPE
@pytest.mark.parametrize(
    "move",
    [
        {"angle": 10.0},
        {"angle": -33.0},
        {"translate": [5.0, -3.0]},
        {"scale": 0.8},
        {"scale": 1.3},
        {"shear": [12.0, 0.0]},
        {"angle": 20.0, "translate": [-4.0, 2.5], "scale": 0.9, "shear": [-8.0, 0.0]},
    ],
    ids=str,
)
def test_the_affine_map_is_torchvisions(move: dict[str, Any], shape: tuple[int, int, int]) -> None:
    move = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]} | move
    batch = to_unit_range(images(3, shape), torch.float32)
    numbers = torch.tensor([move["angle"], *move["translate"], move["scale"], move["shear"][0]])
    angle, shift_x, shift_y, scale, shear = numbers[:, None].expand(5, 3)
    matrix = inverse_affine(angle, -torch.stack([shift_x, shift_y]), scale, shear)
    expected = torchvision_functional.affine(batch, **move, interpolation=InterpolationMode.BILINEAR, fill=None)
    torch.testing.assert_close(resample(batch, matrix), expected, atol=1e-4, rtol=0)


@EACH_SHAPE
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_the_blur_is_torchvisions(sigma: float, shape: tuple[int, int, int]) -> None:
    batch = to_unit_range(images(3, shape), torch.float64)
    config = AugmentConfig(blur_probability=1.0, blur_sigma=(sigma, sigma))
    expected = torchvision_functional.gaussian_blur(batch, kernel_size=[5, 5], sigma=[sigma, sigma])
    torch.testing.assert_close(gaussian_blur(batch, uniform_draws(3, config=config)), expected, atol=1e-7, rtol=0)


def test_a_sample_that_is_not_blurred_is_left_as_it_was() -> None:
    batch = images(200)
    output = augmented(batch, AugmentConfig(blur_probability=0.3, blur_sigma=(0.5, 2.0)))
    left = (output == to_unit_range(batch, torch.float64)).all(dim=(1, 2, 3))
    assert torch.equal(~left, uniform_draws(200).unit("blur") < 0.3)


def test_brightness_and_contrast_are_torchvisions() -> None:
    batch = images(50)
    config = AugmentConfig(brightness=0.5, contrast=0.5)
    uniform = uniform_draws(50)
    brightness, contrast = uniform.between("brightness", 0.5, 1.5), uniform.between("contrast", 0.5, 1.5)
    expected = []
    for image, brighter, more in zip(to_unit_range(batch, torch.float64), brightness, contrast, strict=True):
        brightened = torchvision_functional.adjust_brightness(image, float(brighter))
        expected.append(torchvision_functional.adjust_contrast(brightened, float(more)))
    torch.testing.assert_close(augmented(batch, config), torch.stack(expected), atol=1e-12, rtol=0)


@EACH_SHAPE
def test_without_transforms_images_are_only_normalized(shape: tuple[int, int, int]) -> None:
    batch = images(4, shape)
    mean, std = torch.tensor([0.4, 0.5, 0.6])[: shape[0]], torch.tensor([0.2, 0.3, 0.25])[: shape[0]]
    output = augmented(batch, NOTHING, normalization=(mean[:, None, None], std[:, None, None]), dtype=torch.float32)
    expected = torchvision_functional.normalize(batch.float() / 255, mean.tolist(), std.tolist())
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


def test_the_magnitudes_reach_torchvisions_parameters() -> None:
    # The whole of `augment` at each sample's own parameters: flip, rotate, shift, scale and shear in torchvision.
    config = AugmentConfig(flip=0.5, rotation_degrees=30, shift=0.2, scale=(0.7, 1.3), shear_degrees=10)
    shape = (1, 40, 56)
    batch, uniform = images(20, shape), uniform_draws(20)
    expected = []
    for i, image in enumerate(to_unit_range(batch, torch.float32)):
        expected.append(
            torchvision_functional.affine(
                image.flip(-1) if uniform.unit("flip")[i] < 0.5 else image,
                angle=float(uniform.between("rotation", -30, 30)[i]),
                translate=[
                    float(uniform.between("shift/x", -11.2, 11.2)[i]),
                    float(uniform.between("shift/y", -8, 8)[i]),
                ],
                scale=float(uniform.between("scale", 0.7, 1.3)[i]),
                shear=[float(uniform.between("shear", -10, 10)[i]), 0.0],
                interpolation=InterpolationMode.BILINEAR,
                fill=None,
            )
        )
    torch.testing.assert_close(augmented(batch, config), torch.stack(expected).double(), atol=1e-4, rtol=0)


# Flips


def flipped_samples(batch: Tensor, output: Tensor) -> Tensor:
    """bool (batch,): which samples came out as their mirror image; the others must have come out as they were."""
    plain = to_unit_range(batch, output.dtype)
    flipped = (output == plain.flip(-1)).all(dim=(1, 2, 3))
    assert torch.equal(~flipped, (output == plain).all(dim=(1, 2, 3)))
    return flipped


@pytest.mark.parametrize("probability", [0.5, 0.2])
def test_flips_are_as_frequent_as_they_should_be(probability: float) -> None:
    batch = images(2000, (1, 6, 6))
    flips = flipped_samples(batch, augmented(batch, AugmentConfig(flip=probability)))
    assert stats.binomtest(int(flips.sum()), 2000, probability).pvalue > IMPLAUSIBLE


# Distributions


def assert_uniform(numbers: Tensor, low: float, high: float) -> None:
    assert_distributed(numbers, stats.uniform(low, high - low))


PURPOSES = ["rotation", "shift/x", "shift/y", "scale", "shear", "brightness", "contrast", "blur/sigma"]


@pytest.mark.parametrize("stream", PURPOSES)
def test_parameters_are_uniform(stream: str) -> None:
    assert_uniform(uniform_draws().between(stream, -15, 10), -15, 10)


def test_parameters_are_uncorrelated() -> None:
    streams = [*PURPOSES, "flip", "erasing", "erasing/area", "erasing/aspect", "erasing/top", "erasing/left", "blur"]
    correlations = np.corrcoef(np.stack([uniform_draws().unit(stream).numpy() for stream in streams]))
    worst = np.abs(np.triu(correlations, 1)).max() * 4096**0.5
    pairs = len(streams) * (len(streams) - 1) / 2
    assert 2 * stats.norm.sf(worst) * pairs > IMPLAUSIBLE


def test_flip_blur_and_erasing_happen_independently() -> None:
    batch = images(1000, (1, 8, 8))
    blurred = augmented(batch, AugmentConfig(blur_probability=0.5, blur_sigma=(1.0, 2.0)))
    happened = {
        "flip": flipped_samples(batch, augmented(batch, AugmentConfig(flip=0.5))),
        "blur": (blurred != to_unit_range(batch, torch.float64)).any(dim=(1, 2, 3)),
        "erasing": erased(1000, AugmentConfig(erasing_probability=0.5), (1, 8, 8)).any(dim=(1, 2)),
    }
    combinations = 4 * happened["flip"] + 2 * happened["blur"] + happened["erasing"]
    assert stats.chisquare(combinations.bincount(minlength=8).numpy()).pvalue > IMPLAUSIBLE


# Erasing


def erased(count: int, config: AugmentConfig, shape: tuple[int, int, int] = (1, 48, 48)) -> Tensor:
    """bool (count, height, width): which pixels were erased."""
    output = augmented(images(count, shape), config, normalization=ABOVE_ZERO, dtype=torch.float32)
    gone = output == 0
    assert torch.equal(gone, gone[:, :1].expand_as(gone)), "a pixel is erased in all channels or in none"
    return gone[:, 0]


@EACH_SHAPE
def test_erasing_zeroes_one_rectangle_after_normalization(shape: tuple[int, int, int]) -> None:
    config = AugmentConfig(erasing_probability=1.0)
    batch = images(100, shape)
    gone = erased(100, config, shape)[:, None]
    # The pixels that are left are only normalized.
    output = augmented(batch, config, normalization=ABOVE_ZERO)
    plain = normalize(to_unit_range(batch, torch.float64), *ABOVE_ZERO)
    assert torch.equal(output, plain.masked_fill(gone, 0))
    # A rectangle is the product of its rows and its columns.
    assert torch.equal(gone, gone.any(dim=2, keepdim=True) & gone.any(dim=3, keepdim=True))
    assert gone.any(dim=(1, 2, 3)).all()


def test_erasing_is_as_frequent_as_it_should_be() -> None:
    happened = erased(2000, AugmentConfig(erasing_probability=0.3)).any(dim=(1, 2))
    assert stats.binomtest(int(happened.sum()), 2000, 0.3).pvalue > IMPLAUSIBLE


def test_the_erased_area_is_uniform() -> None:
    # The aspect is such that no rectangle is cut to the image; sides are whole pixels, hence no test finer than this.
    config = AugmentConfig(erasing_probability=1.0, erasing_area=(0.1, 0.4), erasing_aspect=(0.5, 2.0))
    areas = erased(2000, config).double().mean(dim=(1, 2))
    assert_uniform(areas, 0.1, 0.4)


def test_the_erased_aspect_is_uniform_in_its_logarithm() -> None:
    config = AugmentConfig(erasing_probability=1.0, erasing_area=(0.2, 0.25), erasing_aspect=(0.4, 2.0))
    gone = erased(2000, config, (1, 96, 96))
    height, width = gone.any(dim=2).sum(dim=1), gone.any(dim=1).sum(dim=1)
    assert_uniform((height / width).double().log(), math.log(0.4), math.log(2.0))


def test_the_erased_rectangle_may_be_anywhere() -> None:
    config = AugmentConfig(erasing_probability=1.0, erasing_area=(0.25, 0.25), erasing_aspect=(1.0, 1.0))
    gone = erased(2000, config)
    top, left = (gone.any(dim=axis).float().argmax(dim=1) for axis in (2, 1))
    # 24 pixels of 48: 25 positions along each axis.
    assert stats.chisquare(top.bincount(minlength=25).numpy()).pvalue > IMPLAUSIBLE
    assert stats.chisquare(left.bincount(minlength=25).numpy()).pvalue > IMPLAUSIBLE
    assert (len(top.unique()), len(left.unique())) == (25, 25)


def test_a_rectangle_larger_than_the_image_is_cut_to_it() -> None:
    config = AugmentConfig(erasing_probability=1.0, erasing_area=(1.0, 1.0), erasing_aspect=(4.0, 4.0))
    gone = erased(10, config)
    assert gone.any(dim=2).all()
    assert gone.any(dim=1).sum(dim=1).tolist() == [24] * 10


# What follows the sample


@pytest.mark.parametrize("parts", [[8, 8, 8], [1] * 24, [5, 19]], ids=["ranks", "single samples", "uneven"])
@pytest.mark.parametrize("shape", [(1, 48, 48), (3, 40, 56)], ids=str)
def test_a_sample_is_augmented_alike_in_every_batch(shape: tuple[int, int, int], parts: list[int]) -> None:
    batch, positions = images(24, shape), torch.arange(960, 984)
    whole = augmented(batch, EVERYTHING, positions=positions)
    split = zip(batch.split(parts), positions.split(parts), strict=True)
    pieces = torch.cat([augmented(part, EVERYTHING, positions=where) for part, where in split])
    torch.testing.assert_close(pieces, whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("seed", "first"), [(1, 0), (0, 24)], ids=["seed", "position"])
def test_another_seed_or_position_augments_otherwise(seed: int, first: int) -> None:
    batch = images(24)
    other = augmented(batch, EVERYTHING, seed=seed, positions=torch.arange(first, first + 24))
    assert ((other - augmented(batch, EVERYTHING)).abs().amax(dim=(1, 2, 3)) > 0.01).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@EACH_SHAPE
def test_shape_and_dtype_are_those_asked_for(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    output = augmented(images(4, shape), EVERYTHING, dtype=dtype)
    assert (output.shape, output.dtype) == ((4, *shape), dtype)
    assert output.isfinite().all()


def test_the_channels_of_an_image_move_together() -> None:
    grey = images(12)
    colour = augmented(grey.expand(12, 3, 48, 48), EVERYTHING)
    torch.testing.assert_close(colour, augmented(grey, EVERYTHING).expand(12, 3, 48, 48), atol=1e-12, rtol=0)


ALONE = {
    "flip": {"flip": 0.5},
    "rotation": {"rotation_degrees": 15.0},
    "shift": {"shift": 0.1},
    "scale": {"scale": (0.9, 1.2)},
    "shear": {"shear_degrees": 5.0},
    "brightness": {"brightness": 0.2},
    "contrast": {"contrast": 0.2},
    "blur": {"blur_probability": 0.5},
    "mixing": {"mixup_alpha": 0.2, "cutmix_alpha": 1.0},
}


@pytest.mark.parametrize("other", ALONE.values(), ids=ALONE.keys())
def test_another_transform_does_not_move_what_is_erased(other: dict[str, Any]) -> None:
    erasing = AugmentConfig(erasing_probability=0.5)
    assert torch.equal(erased(60, replace(erasing, **other)), erased(60, erasing))


@pytest.mark.parametrize(
    "other", [{"erasing_probability": 0.5}, {"blur_probability": 0.5}, {"mixup_alpha": 0.2}], ids=str
)
def test_another_transform_does_not_move_what_is_flipped(other: dict[str, Any]) -> None:
    # Bright at the right edge only; none of the others reaches across to the left one.
    batch = torch.zeros(100, 1, 48, 48, dtype=torch.uint8)
    batch[..., 40:] = 255
    output = augmented(batch, replace(AugmentConfig(flip=0.5), **other), normalization=ABOVE_ZERO)
    left_is_brighter = output[..., :8].amax(dim=(1, 2, 3)) > output[..., 40:].amax(dim=(1, 2, 3))
    assert torch.equal(left_is_brighter, uniform_draws(100).unit("flip") < 0.5)


# What is refused


@pytest.mark.parametrize("name", ["scale", "blur_sigma", "erasing_area", "erasing_aspect"])
def test_a_range_the_wrong_way_round_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="wrong way round") as refusal:
        AugmentConfig(**{name: (0.9, 0.5)})  # type: ignore[arg-type]
    assert str(refusal.value) == f"{name}: [0.9, 0.5] is the wrong way round; write the smaller number first"


def test_samples_are_mixed_only_when_asked() -> None:
    assert [
        config.mixes
        for config in (NOTHING, EVERYTHING, AugmentConfig(mixup_alpha=0.4), AugmentConfig(cutmix_alpha=1.0))
    ] == [False, False, True, True]
