"""Flip, rotation, shift, scale and shear: one affine map and one bilinear resampling."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fer_ddp.augment.parameters import AugmentConfig, UniformDraws


def transform_geometry(images: Tensor, config: AugmentConfig, uniform: UniformDraws, side: int | None = None) -> Tensor:
    """Flip, rotate, shift, scale and shear images (batch, channels, height, width), each with its own parameters.

    side: of the images returned; None keeps theirs.
    """
    flipped = uniform.happens("flip") if config.flip > 0 else None
    moves = config.rotation_degrees or config.shift or config.shear_degrees or config.scale != (1.0, 1.0)
    if not moves and side is None:
        return images if flipped is None else torch.where(flipped[:, None, None, None], images.flip(-1), images)
    height, width = images.shape[-2:]
    shift = uniform.number("shift/x", last="shift/y")
    matrix = inverse_affine(
        angle_degrees=uniform.number("rotation"),
        shift_back=shift * _by_axis(-width, -height, shift),
        scale=uniform.number("scale") if config.scale != (1.0, 1.0) else None,
        shear_degrees=uniform.number("shear") if config.shear_degrees > 0 else None,
    )
    if flipped is not None:
        # The flip comes first, so it is the last step from output back to input.
        matrix[0] = torch.where(flipped, -matrix[0], matrix[0])
    return resample(images, matrix, side)


def inverse_affine(
    angle_degrees: Tensor, shift_back: Tensor, scale: Tensor | None = None, shear_degrees: Tensor | None = None
) -> Tensor:
    """The map from output to input positions, in pixels from the centre: (2, 3, batch).

    shift_back: (2, batch), what to shift by along x and y, negative; the others: (batch,). The parameters are those of
    torchvision's ``affine``: shear, rotate, scale about the centre, shift.
    """
    angle = torch.deg2rad(angle_degrees)
    sine, cosine = angle.sin(), angle.cos()
    first = (cosine, sine)
    if shear_degrees is not None:
        slope = torch.deg2rad(shear_degrees).tan()
        first = (cosine - sine * slope, sine + cosine * slope)
    linear = torch.stack([*first, -sine, cosine]).unflatten(0, (2, 2))
    if scale is not None:
        linear = linear / scale
    moved = linear * shift_back
    return torch.cat([linear, moved[:, :1] + moved[:, 1:]], dim=1)


def resample(images: Tensor, matrix: Tensor, side: int | None = None) -> Tensor:
    """Bilinear resampling by ``matrix`` (2, 3, batch), output to input pixels from the centre; 0 outside.

    With ``side``, the whole image in ``side`` x ``side`` pixels.
    """
    height, width = images.shape[-2:]
    x = _pixel_centres(width, side or width, matrix)
    y = x if height == width else _pixel_centres(height, side or height, matrix)
    # What affine_grid computes, by broadcasting in a third of the time. grid_sample's unit is half a side.
    along_x, along_y, shift = matrix.unbind(dim=1)
    scale = _by_axis(2 / width, 2 / height, matrix)
    columns = (along_x * scale)[:, :, None] * x
    rows = torch.addcmul(shift[:, :, None], along_y[:, :, None], y) * (scale if width == height else scale[..., None])
    grid = (columns[:, :, None, :] + rows[:, :, :, None]).permute(1, 2, 3, 0)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _by_axis(x: float, y: float, like: Tensor) -> Any:
    """What to multiply (2, batch) by: one number where ``x`` and ``y`` are the same, else (2, 1)."""
    return x if x == y else like.new_tensor([[x], [y]])


def _pixel_centres(length: int, pixels: int, like: Tensor) -> Tensor:
    """(pixels,): the centres of ``pixels`` equal parts of an image ``length`` pixels long, from its centre."""
    centres = torch.arange(pixels, dtype=like.dtype, device=like.device) - (pixels - 1) / 2
    return centres if pixels == length else centres * (length / pixels)
