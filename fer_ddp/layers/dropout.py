"""Dropout whose mask is a function of the seed, the layer and the sample's position in the training sequence.

The same sample drops the same units whatever rank or batch it is in. `replace_dropout` substitutes it for a model's
``nn.Dropout`` modules, so the models themselves are plain torch. Stochastic depth (Huang et al. 2016, arXiv 1603.09382)
drops whole samples from a residual branch and is replaced in the same way.
"""

import torch
from torch import Tensor, nn

from fer_ddp import randomness
from fer_ddp.errors import JobError


class SamplePositions:
    """The positions, in the training sequence, of the batch a model is processing; shared by its dropout layers."""

    def __init__(self) -> None:
        self.positions = torch.empty(0, dtype=torch.int64)
        self.forwards = 0

    @staticmethod
    def of(model: nn.Module) -> "SamplePositions":
        """The object that the dropout layers of ``model`` share; an unused one if it has no such layer."""
        layers = (module for module in model.modules() if isinstance(module, PositionDropout))
        return next((layer.current for layer in layers), SamplePositions())

    def set(self, positions: Tensor) -> None:
        """positions: int64 (batch,), on the model's device. Call it before each forward pass in training."""
        self.positions = positions
        self.forwards += 1


class PositionDropout(nn.Module):
    """Zeroes elements, whole channels or whole samples (``unit`` "element", "channel", "sample") with probability p.

    Kept units are divided by the keep rate if ``scaled``.
    """

    def __init__(
        self, p: float, unit: str, seed: int, name: str, current: SamplePositions, scaled: bool = True
    ) -> None:
        super().__init__()
        self.unit, self.seed, self.name, self.current = unit, seed, name, current
        self.p = p
        self.keep = randomness.realised_probability(1 - p)
        self.scale = 1 / self.keep if scaled and self.keep else 1.0
        self._forward, self._calls = -1, 0

    def extra_repr(self) -> str:
        """What print(model) shows."""
        return f"p={self.p}, unit={self.unit}"

    def forward(self, input: Tensor) -> Tensor:
        """input: (batch, ...) to the same shape, dtype and memory format."""
        if not self.training or self.keep == 1:
            return input
        if len(input) != len(self.current.positions):
            raise JobError(
                f"model: the dropout layer {self.name} sees {len(input)} rows for "
                f"{len(self.current.positions)} images, so it has no mask for each image; set its probability to 0"
            )
        # A module called twice in one forward pass gets two masks.
        self._calls = self._calls + 1 if self._forward == self.current.forwards else 0
        self._forward = self.current.forwards
        keys = randomness.sample_keys(self.seed, f"dropout/{self.name}/{self._calls}", self.current.positions)
        if self.keep == 0:
            return input * 0
        output: Tensor = _Masked.apply(input, self._mask(keys, input), self.scale)
        return output

    def _mask(self, keys: Tensor, input: Tensor) -> Tensor:
        if self.unit == "element":
            mask = randomness.bernoulli(keys, input[0].numel(), self.keep)
            if input.dim() != 4:
                return mask.view(input.shape)
            # Units are counted in (h, w, c) order, whatever the memory format, so that channels_last needs no copy.
            batch, channels, height, width = input.shape
            mask = mask.view(batch, height, width, channels).permute(0, 3, 1, 2)
            return mask.contiguous() if input.is_contiguous() else mask
        count = input.shape[1] if self.unit == "channel" else 1
        mask = randomness.bernoulli(keys, count, self.keep)
        return mask.view(len(input), count, *([1] * (input.dim() - 2)))


class _Masked(torch.autograd.Function):
    """input * mask * scale, saving one byte a unit for the backward pass."""

    @staticmethod
    def forward(ctx, input: Tensor, mask: Tensor, scale: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return _masked(input, mask, scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (mask,) = ctx.saved_tensors
        return _masked(gradient, mask, ctx.scale), None, None


def _masked(values: Tensor, mask: Tensor, scale: float) -> Tensor:
    # As uint8, which torch converts several times faster than bool, and with one new tensor.
    return torch.empty_like(values).copy_(mask.view(torch.uint8)).mul_(values).mul_(scale)


_UNITS = {
    "Dropout": "element",
    "Dropout1d": "channel",
    "Dropout2d": "channel",
    "Dropout3d": "channel",
    "StochasticDepth": "sample",
    "DropPath": "sample",
}
"""By the names of classes, since stochastic depth is torchvision's, timm's, or a copy in the model's own code."""


def replace_dropout(model: nn.Module, seed: int) -> nn.Module:
    """Replace every nn.Dropout, Dropout1d/2d/3d, torchvision StochasticDepth and timm DropPath by `PositionDropout`.

    A layer's path in the model names the stream of its masks. Raises JobError for stochastic depth in "batch" mode.
    """
    current = SamplePositions()
    # With duplicates: a module registered under two paths is replaced at both.
    for path, module in list(model.named_modules(remove_duplicate=False)):
        unit, p = _UNITS.get(type(module).__name__), getattr(module, "drop_prob", getattr(module, "p", None))
        if unit is None or p is None:
            continue
        if getattr(module, "mode", "row") != "row":
            raise JobError(f"model: {path} drops whole batches, which depends on the ranks; use mode 'row'")
        parent = model.get_submodule(path.rpartition(".")[0])
        scaled = getattr(module, "scale_by_keep", True)
        setattr(parent, path.rpartition(".")[2], PositionDropout(float(p), unit, seed, path, current, scaled))
    return model
