"""RandAugment of a batch against torchvision's functions, image by image."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from fer_ddp.augment.parameters import AugmentConfig, UniformDraws
from fer_ddp.augment.pipeline import augment
from fer_ddp.augment.randaugment import operations, rand_augment

SEED, COUNT, SIDE = 5, 2, 20


def draws(positions: Tensor, config: AugmentConfig | None = None) -> UniformDraws:
    return UniformDraws.of(config or AugmentConfig(), SEED, positions, torch.float64)


def pictures(count: int, channels: int) -> Tensor:
    """uint8; one in four has few grey levels, and one channel of the first is flat."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    images[::4] = images[::4] // 100 * 20 + 40
    images[0, 0] = 77
    return images


def affine(image: Tensor, angle: float = 0, x: float = 0, y: float = 0, shear: tuple[float, float] = (0, 0)) -> Tensor:
    degrees = [math.degrees(math.atan(slope)) for slope in shear]
    moved: Tensor = tv.affine(image, angle, [x, y], 1.0, degrees, interpolation=InterpolationMode.BILINEAR)
    return moved


def reference(image: Tensor, name: str, strength: float) -> Tensor:
    """One transform of float64 (channels, height, width) at a strength in [-1, 1]."""
    in_bytes = (image * 255).round().to(torch.uint8)
    bits = 8 - round(4 * abs(strength))
    result: Tensor = {
        "identity": lambda: image,
        "shear_x": lambda: affine(image, shear=(0.3 * strength, 0)),
        "shear_y": lambda: affine(image, shear=(0, 0.3 * strength)),
        "translate_x": lambda: affine(image, x=150 / 331 * SIDE * strength),
        "translate_y": lambda: affine(image, y=150 / 331 * SIDE * strength),
        "rotate": lambda: affine(image, angle=30 * strength),
        "brightness": lambda: tv.adjust_brightness(image, 1 + 0.9 * strength),
        "color": lambda: tv.adjust_saturation(image, 1 + 0.9 * strength),
        "contrast": lambda: tv.adjust_contrast(image, 1 + 0.9 * strength),
        "sharpness": lambda: tv.adjust_sharpness(image, 1 + 0.9 * strength),
        "posterize": lambda: tv.posterize(in_bytes, bits) / 255.0,
        "solarize": lambda: tv.solarize(image, 1 - abs(strength)),
        "autocontrast": lambda: tv.autocontrast(image),
        "equalize": lambda: tv.equalize(in_bytes) / 255.0,
    }[name]()
    return result


@pytest.mark.parametrize(("channels", "choices"), [(1, 13), (3, 14)])
@pytest.mark.parametrize("magnitude", [9, 30])
def test_each_image_gets_the_transforms_of_its_position_as_torchvision_does_them(
    channels: int, choices: int, magnitude: float
) -> None:
    images, positions = pictures(80, channels).double() / 255, torch.arange(1000, 1080)
    found, names, seen = rand_augment(images, draws(positions), COUNT, magnitude), operations(channels), set()
    for image, output, position in zip(images, found, positions, strict=True):
        for number in range(COUNT):
            drawn = draws(position[None])
            which, sign = (drawn.unit(f"randaugment/{number}{part}").item() for part in ("", "/sign"))
            name, strength = names[int(which * choices)], magnitude / 30 * (1 if sign >= 0.5 else -1)
            image = reference(image, name, strength).double()
            seen.add(name)
        torch.testing.assert_close(output, image, rtol=0, atol=1e-6, msg=f"{position}: {name}")
    assert len(seen) == choices


def test_a_gpus_way_to_choose_gives_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images, positions = pictures(40, 3).double() / 255, torch.arange(40)
    found = rand_augment(images, draws(positions), COUNT, 9)
    monkeypatch.setattr(
        "fer_ddp.augment.randaugment._where",
        lambda rows, operation, images, strength: torch.where(
            rows[:, None, None, None], operation(images, strength), images
        ),
    )
    torch.testing.assert_close(rand_augment(images, draws(positions), COUNT, 9), found, rtol=0, atol=1e-12)


def test_it_comes_before_the_other_transforms() -> None:
    images, positions = pictures(12, 1), torch.arange(12)
    mean, std = (torch.full((1, 1, 1), value, dtype=torch.float64) for value in (0.5, 0.25))
    config = AugmentConfig(randaugment_ops=2, randaugment_magnitude=12.0)
    found = augment(images, draws(positions, config), config, mean, std)
    expected = (rand_augment(images.double() / 255, draws(positions), 2, 12.0) - 0.5) / 0.25
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
