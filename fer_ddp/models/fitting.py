"""Fits weights from elsewhere to a model: another head, grey in place of RGB or the reverse, prefixes of wrappers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from fer_ddp.models.structure import first_convolution, head_of, is_under

_PREFIXES = ("module.", "model.", "_orig_mod.")
"""Of DistributedDataParallel and AveragedModel, of trainers that hold a model, of torch.compile."""
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What became of the weights; names of parameters and buffers."""

    loaded: int
    """How many were loaded."""
    replaced: tuple[str, ...]
    """Those of the head, if it stays as it was initialized."""
    adapted: str | None
    """What became of the first convolution, if it was adapted."""
    left_out: tuple[str, ...]
    """Those that the model does not have."""


@torch.no_grad()
def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], num_classes: int, *, new_head: bool) -> Fitted:
    """Load ``weights`` into ``model``; ``new_head`` leaves the head as it was initialized, as does another shape of it.

    The first convolution is adapted where only its input channels differ: the sum over RGB for grey, a third for each
    of RGB, so that a grey image gives the same output. Raises ValueError, and changes nothing, if any other parameter
    or buffer is missing or has another shape, or where `check_values` does.
    """
    own, given = model.state_dict(), _without_prefixes(weights, model.state_dict().keys())
    head = [name for name in own if is_under(name, head_of(model, num_classes))]
    if new_head or any(name not in given or given[name].shape != own[name].shape for name in head):
        replaced = head
    else:
        replaced = []
    convolution, adapted = f"{first_convolution(model)}.weight", None
    missing, other_shape, loaded = [], [], {}
    for name, tensor in own.items():
        if name in replaced or (name not in given and name.endswith("num_batches_tracked")):  # older files lack these
            continue
        if name not in given:
            missing.append(name)
            continue
        value = given[name]
        if name == convolution and (channels := _channels(value, tensor)):
            value, adapted = channels
        if value.shape != tensor.shape:
            other_shape.append(f"{name} {tuple(value.shape)} instead of {tuple(tensor.shape)}")
        loaded[name] = value
    if missing or other_shape:
        problems = [f"it lacks {_first(missing)}"] if missing else []
        problems += [f"it has other shapes: {_first(other_shape)}"] if other_shape else []
        raise ValueError("; ".join(problems))
    check_values(model, loaded)
    for name, value in loaded.items():
        own[name].copy_(value)
    left_out = tuple(name for name in given if name not in own)
    return Fitted(loaded=len(loaded), replaced=tuple(replaced), adapted=adapted, left_out=left_out)


def check_values(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raises ValueError where ``weights`` of ``model``'s floating-point tensors hold other numbers, or none: NaN."""
    for name, own in model.state_dict().items():
        if name not in weights or not own.is_floating_point():
            continue
        given = weights[name]
        if given.dtype not in _DTYPES:
            raise ValueError(f"{name} is {str(given.dtype).removeprefix('torch.')}, which weights are not")
        if not given.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")


def _channels(given: Tensor, own: Tensor) -> tuple[Tensor, str] | None:
    """The convolution's weights for the model's channels, and how they were made; None where that is not needed."""
    if given.dim() != 4 or given.shape[0] != own.shape[0] or given.shape[2:] != own.shape[2:]:
        return None
    if (given.shape[1], own.shape[1]) == (3, 1):
        return given.sum(dim=1, keepdim=True), "summed over RGB for grey images"
    if (given.shape[1], own.shape[1]) == (1, 3):
        return given.expand(-1, 3, -1, -1) / 3, "a third of the grey weights for each of RGB"
    return None


def _without_prefixes(weights: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """``weights`` without the prefixes of wrappers, up to three around each other: those with which most are found."""
    prefixes = ["".join(each) for count in range(4) for each in product(_PREFIXES, repeat=count)]
    best = max(prefixes, key=lambda prefix: sum(name.removeprefix(prefix) in names for name in weights))
    return {name.removeprefix(best): value for name, value in weights.items()}


def _first(names: Collection[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join([*list(names)[:_SHOWN], *([f"and {rest} more"] if rest > 0 else [])])
