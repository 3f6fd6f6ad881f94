"""Dropout whose mask follows the sample: a function of the seed, the layer and the sample's place in the sequence.

The same sample drops the same units whatever rank or batch it is in. `replace_dropout` puts it in place of a
network's ``nn.Dropout`` modules, so the networks themselves are plain torch.
"""

import torch
from torch import Tensor, nn

from fer_ddp import randomness
from fer_ddp.errors import JobError


class CurrentPlaces:
    """The places in the training sequence of the batch that is going through the network."""

    def __init__(self) -> None:
        self.places = torch.empty(0, dtype=torch.int64)
        self.forwards = 0

    def set(self, places: Tensor) -> None:
        """places: int64 (batch,), on the network's device. To be called before each training forward."""
        self.places = places
        self.forwards += 1


class PlaceDropout(nn.Module):
    """Zeroes units (``unit`` "element"), whole channels ("channel") or whole samples ("sample") with probability p."""

    def __init__(self, p: float, unit: str, seed: int, name: str, current: CurrentPlaces) -> None:
        super().__init__()
        self.unit, self.seed, self.name, self.current = unit, seed, name, current
        self.p = p
        self.keep = randomness.realised_probability(1 - p)
        self._forward, self._calls = -1, 0

    def extra_repr(self) -> str:
        """What print(network) shows."""
        return f"p={self.p}, unit={self.unit}"

    def forward(self, input: Tensor) -> Tensor:
        """input: (batch, ...) to the same shape, dtype and memory format; kept units are divided by the keep rate."""
        if not self.training or self.keep == 1:
            return input
        if len(input) != len(self.current.places):
            raise JobError(
                f"model: the dropout layer {self.name} sees {len(input)} rows for {len(self.current.places)} images, "
                f"so its masks can't follow the images; set its probability to 0"
            )
        # A module used twice in one forward draws twice.
        self._calls = self._calls + 1 if self._forward == self.current.forwards else 0
        self._forward = self.current.forwards
        keys = randomness.sample_keys(self.seed, f"dropout/{self.name}/{self._calls}", self.current.places)
        if self.keep == 0:
            return input * 0
        output: Tensor = _Masked.apply(input, self._mask(keys, input), 1 / self.keep)
        return output

    def _mask(self, keys: Tensor, input: Tensor) -> Tensor:
        if self.unit == "element":
            mask = randomness.bernoulli(keys, input[0].numel(), self.keep)
            if input.dim() != 4:
                return mask.view(input.shape)
            # Units are counted (h, w, c), whatever the memory format, so that channels_last needs no copy.
            batch, channels, height, width = input.shape
            mask = mask.view(batch, height, width, channels).permute(0, 3, 1, 2)
            return mask.contiguous() if input.is_contiguous() else mask
        count = input.shape[1] if self.unit == "channel" else 1
        mask = randomness.bernoulli(keys, count, self.keep)
        return mask.view(len(input), count, *([1] * (input.dim() - 2)))


class _Masked(torch.autograd.Function):
    """input * mask * scale, remembering one byte a unit."""

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
    # By way of uint8, which torch converts several times faster than bool, and with one new tensor.
    return torch.empty_like(values).copy_(mask.view(torch.uint8)).mul_(values).mul_(scale)


_UNITS = {
    "Dropout": "element",
    "Dropout1d": "channel",
    "Dropout2d": "channel",
    "Dropout3d": "channel",
    "StochasticDepth": "sample",
}


def replace_dropout(network: nn.Module, seed: int, current: CurrentPlaces) -> nn.Module:
    """Put `PlaceDropout` in place of every nn.Dropout, Dropout1d/2d/3d and torchvision StochasticDepth.

    A layer's masks are named by its path in the network. Raises JobError for stochastic depth in "batch" mode.
    """
    # With duplicates: a module that stands at two paths is replaced at both.
    for path, module in list(network.named_modules(remove_duplicate=False)):
        unit = _UNITS.get(type(module).__name__)
        if unit is None:
            continue
        if getattr(module, "mode", "row") != "row":
            raise JobError(f"model: {path} drops whole batches, which depends on the ranks; use mode 'row'")
        parent = network.get_submodule(path.rpartition(".")[0])
        setattr(parent, path.rpartition(".")[2], PlaceDropout(float(module.p), unit, seed, path, current))
    return network
