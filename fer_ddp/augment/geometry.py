"""Flip, rotation, shift, scale and shear: one affine map and one bilinear resampling."""

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp.augment.parameters import AugmentConfig, UniformDraws


def transform_geometry(images: Tensor, config: AugmentConfig, uniform: UniformDraws, side: int | None = None) -> Tensor:
    """Flip, rotate, shift, scale and shear images (batch, channels, height, width), each with its own parameters.

    side: of the images returned; None keeps theirs.
    """
    flipped = uniform.happens("flip", config.flip) if config.flip > 0 else None
    moves = config.rotation_degrees or config.shift or config.shear_degrees or config.scale != (1.0, 1.0)
    if not moves and side is None:
        return images if flipped is None else torch.where(flipped[:, None, None, None], images.flip(-1), images)
    height, width = images.shape[-2:]
    matrix = inverse_affine(
        angle_degrees=uniform.between("rotation", -config.rotation_degrees, config.rotation_degrees),
        shift_x=uniform.between("shift/x", -config.shift, config.shift) * width,
        shift_y=uniform.between("shift/y", -config.shift, config.shift) * height,
        scale=uniform.between("scale", *config.scale),
        shear_degrees=uniform.between("shear", -config.shear_degrees, config.shear_degrees),
    )
    if flipped is not None:
        # The flip comes first, so it is the last step from output back to input.
        matrix[:, 0] = torch.where(flipped[:, None], -matrix[:, 0], matrix[:, 0])
    return resample(images, matrix, side)


def inverse_affine(
    angle_degrees: Tensor, shift_x: Tensor, shift_y: Tensor, scale: Tensor, shear_degrees: Tensor
) -> Tensor:
    """The map from output to input positions, in pixels from the centre: (batch,) each to (batch, 2, 3).

    The parameters are those of torchvision's ``affine``: shear, rotate, scale about the centre, shift.
    """
    angle, shear = torch.deg2rad(angle_degrees), torch.deg2rad(shear_degrees)
    sine, cosine, slope = angle.sin(), angle.cos(), shear.tan()
    a, b = (cosine - sine * slope) / scale, (sine + cosine * slope) / scale
    c, d = -sine / scale, cosine / scale
    x, y = -(a * shift_x + b * shift_y), -(c * shift_x + d * shift_y)
    return torch.stack([torch.stack([a, b, x], dim=1), torch.stack([c, d, y], dim=1)], dim=1)


def resample(images: Tensor, matrix: Tensor, side: int | None = None) -> Tensor:
    """Bilinear resampling by ``matrix`` (batch, 2, 3), output to input pixels from the centre; 0 outside.

    With ``side``, the whole image in ``side`` x ``side`` pixels.
    """
    height, width = images.shape[-2:]
    x, y = (_pixel_centres(length, side or length, matrix) for length in (width, height))
    # What affine_grid computes, by broadcasting in a third of the time. grid_sample's unit is half a side.
    (a, b, shift_x), (c, d, shift_y) = (row.unbind(dim=1) for row in matrix.unbind(dim=1))
    grid = matrix.new_empty(images.shape[0], len(y), len(x), 2)  # len() would fix an exported batch
    for axis, (along_x, along_y, shift, length) in enumerate(((a, b, shift_x, width), (c, d, shift_y, height))):
        columns = (along_x * (2 / length))[:, None, None] * x
        rows = torch.addcmul(shift[:, None], along_y[:, None], y) * (2 / length)
        torch.add(columns, rows[:, :, None], out=grid[..., axis])
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _pixel_centres(length: int, pixels: int, like: Tensor) -> Tensor:
    """(pixels,): the centres of ``pixels`` equal parts of an image ``length`` pixels long, from its centre."""
    centres = torch.arange(pixels, dtype=like.dtype, device=like.device) - (pixels - 1) / 2
    return centres if pixels == length else centres * (length / pixels)
