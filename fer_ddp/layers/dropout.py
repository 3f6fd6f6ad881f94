"""Dropout whose mask is a function of the seed, the layer and the sample's position in the training sequence.

The same sample drops the same units whatever rank or batch it is in. `replace_dropout` substitutes it for a model's
``nn.Dropout`` modules, so the models themselves are plain torch. Stochastic depth (Huang et al. 2016, arXiv 1603.09382)
drops whole samples from a residual branch and is replaced in the same way.
"""

from itertools import groupby

import torch
from torch import Tensor, nn

from fer_ddp import randomness
from fer_ddp.errors import JobError
from fer_ddp.randomness import Streams


class SamplePositions:
    """The positions, in the training sequence, of the batch a model is processing; shared by its dropout layers.

    The first forward pass shows which masks the layers need. From then on `set` makes all of them at once: for a GPU
    that is less work than one after another, and it leaves the forward pass free of what a graph can't hold.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.positions = torch.empty(0, dtype=torch.int64)
        self.units: dict[str, tuple[int, float]] = {}
        """By stream, the units of a sample and the probability to keep one."""
        self._calls: dict[str, int] = {}
        self._masks: dict[str, Tensor] = {}
        # Constants of `set`, kept as long as a graph that reads them.
        self._streams = Streams(seed, (), self.positions.device)
        self._counters = randomness.counters(0, self.positions.device)

    @staticmethod
    def of(model: nn.Module) -> "SamplePositions":
        """The object that the dropout layers of ``model`` share; an unused one if it has no such layer."""
        layers = (module for module in model.modules() if isinstance(module, PositionDropout))
        return next((layer.current for layer in layers), SamplePositions())

    def set(self, positions: Tensor, keys: Tensor | None = None) -> None:
        """Call it before each forward pass in training.

        positions: int64 (batch,), on the model's device. keys: int32 (streams, batch), theirs for the first of the
        streams in ``units``, in their order; hashed here if there are none.
        """
        self.positions, self._calls, self._masks = positions, {}, {}
        if not self.units:
            return
        if keys is None:
            if self._streams.names != tuple(self.units) or self._streams.device != positions.device:
                self._streams = Streams(self.seed, tuple(self.units), positions.device)
            keys = self._streams.keys(positions)
        self._make_masks(keys)

    def _make_masks(self, keys: Tensor) -> None:
        known = list(self.units.items())[: len(keys)]
        words = [-(-count // randomness.flips_in_word(keep)) for _, (count, keep) in known]
        if max(words, default=0) > len(self._counters) or self._counters.device != keys.device:
            self._counters = randomness.counters(max(words), keys.device)
        bits = torch.empty(keys.shape[1], sum(words), dtype=torch.int32, device=keys.device)
        parts = bits.split(words, dim=1)
        for part, key, count in zip(parts, keys, words, strict=True):
            torch.bitwise_xor(key[:, None], self._counters[:count], out=part)
        randomness.mix_(bits)
        # Neighbours of one probability are compared at once.
        for keep, group in groupby(zip(known, words, strict=True), key=lambda each: each[0][1][1]):
            uses = list(group)
            part, bits = bits.tensor_split((sum(size for _, size in uses),), dim=1)
            flips = randomness.flips(part, keep)
            widths = [size * randomness.flips_in_word(keep) for _, size in uses]
            for ((stream, (count, _)), _), mask in zip(uses, flips.split(widths, dim=1), strict=True):
                self._masks[stream] = mask[:, :count]

    def mask(self, layer: str, units: int, keep: float) -> Tensor:
        """bool (batch, units), True with probability ``keep``: the mask of the layer's next use in this forward."""
        call = self._calls.get(layer, 0)  # a layer used twice in one forward has two masks
        self._calls[layer] = call + 1
        stream = f"dropout/{layer}/{call}"
        if stream in self._masks and self.units[stream] == (units, keep):
            return self._masks.pop(stream)  # so that it lives no longer than the backward pass
        self.units[stream] = (units, keep)
        return randomness.bernoulli(randomness.sample_keys(self.seed, stream, self.positions), units, keep)


class PositionDropout(nn.Module):
    """Zeroes elements, whole channels or whole samples (``unit`` "element", "channel", "sample") with probability p.

    Kept units are divided by the keep rate if ``scaled``.
    """

    def __init__(self, p: float, unit: str, name: str, current: SamplePositions, scaled: bool = True) -> None:
        super().__init__()
        self.unit, self.name, self.current = unit, name, current
        self.p = p
        self.keep = randomness.realised_probability(1 - p)
        self.scale = 1 / self.keep if scaled and self.keep else 1.0

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
        if self.keep == 0:
            return input * 0
        output: Tensor = _Masked.apply(input, self._mask(input), self.scale)
        return output

    def _mask(self, input: Tensor) -> Tensor:
        if self.unit == "element":
            mask = self.current.mask(self.name, input[0].numel(), self.keep)
            if input.dim() != 4:
                return mask.view(input.shape)
            # Units are counted in (h, w, c) order, whatever the memory format, so that channels_last needs no copy.
            batch, channels, height, width = input.shape
            mask = mask.view(batch, height, width, channels).permute(0, 3, 1, 2)
            return mask.contiguous() if input.is_contiguous() else mask
        count = input.shape[1] if self.unit == "channel" else 1
        return self.current.mask(self.name, count, self.keep).view(len(input), count, *([1] * (input.dim() - 2)))


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
    return values.mul(mask.view(torch.uint8)).mul_(scale)  # as uint8, which a CPU converts faster than bool


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
    current = SamplePositions(seed)
    # With duplicates: a module registered under two paths is replaced at both.
    for path, module in list(model.named_modules(remove_duplicate=False)):
        unit, p = _UNITS.get(type(module).__name__), getattr(module, "drop_prob", getattr(module, "p", None))
        if unit is None or p is None:
            continue
        if getattr(module, "mode", "row") != "row":
            raise JobError(f"model: {path} drops whole batches, which depends on the ranks; use mode 'row'")
        parent = model.get_submodule(path.rpartition(".")[0])
        scaled = getattr(module, "scale_by_keep", True)
        setattr(parent, path.rpartition(".")[2], PositionDropout(float(p), unit, path, current, scaled))
    return model
