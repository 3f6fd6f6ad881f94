"""What the trainer asks of any model: which layer is its head, which its first convolution, and how deep each layer is.

Found by shape and order, so that it works for models of torchvision, of timm and of a user's own.
"""

from collections.abc import Iterator
from itertools import pairwise

from torch import nn

_WITH_CLASSES = (nn.Linear, nn.Conv1d, nn.Conv2d)
_CONTAINERS = (nn.Sequential, nn.ModuleList)


def head_of(model: nn.Module, num_classes: int) -> str:
    """The path of the last linear or convolution layer with ``num_classes`` outputs. Raises ValueError for none."""
    layers = {path: each for path, each in model.named_modules() if isinstance(each, _WITH_CLASSES)}
    heads: list[str] = [path for path, each in layers.items() if len(each.weight) == num_classes]
    if not heads:
        raise ValueError(f"the model has no linear or convolution layer with {num_classes} outputs, one for each class")
    return heads[-1]


def first_convolution(model: nn.Module) -> str | None:
    """The path of the first 2d convolution; None if there is none."""
    return next((path for path, each in model.named_modules() if isinstance(each, nn.Conv2d)), None)


def is_under(name: str, path: str) -> bool:
    """Whether the parameter or module ``name`` is ``path`` or inside it; all are inside the empty path."""
    return not path or name == path or name.startswith(f"{path}.")


def layers_by_depth(model: nn.Module, num_classes: int) -> list[list[str]]:
    """The names of the parameters, by layer from the input to the head, for layer-wise learning rates.

    A layer is a block of the model: an element of a Sequential or ModuleList of blocks at any depth. Plain layers
    before the first block are the first layer, with the parameters of the model itself (such as position embeddings);
    those after a block belong to it; the head is the last layer, with the plain layers after the last block. Raises
    ValueError where there is no head.
    """
    head_path = head_of(model, num_classes)
    units = list(_units(model, "")) or [("", False)]
    head = next(index for index, (path, _) in enumerate(units) if is_under(head_path, path))
    blocks = [index for index, (_, is_block) in enumerate(units[:head]) if is_block]
    starts = {0, *blocks, blocks[-1] + 1 if blocks else head, len(units)}
    layers = [[path for path, _ in units[start:end]] for start, end in pairwise(sorted(starts))]
    names = [name for name, _ in model.named_parameters()]
    found = [[name for name in names if any(is_under(name, path) for path in layer)] for layer in layers]
    found[0] += [name for name in names if not any(name in layer for layer in found)]
    return [layer for layer in found if layer]


def _units(module: nn.Module, prefix: str) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a block and not a plain layer) of the layers of ``module``, in order."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if _holds_blocks(child):
            yield from _units(child, f"{path}.")
        else:
            yield path, any(True for inner in child.children() for _ in inner.parameters())


def _holds_blocks(module: nn.Module) -> bool:
    """Whether it is a container of blocks, or a stage: a module whose ``blocks`` or ``layers`` are such a container."""
    if type(module) in _CONTAINERS:
        return any(True for child in module.children() for _ in child.children())
    inner = [child for name, child in module.named_children() if name in ("blocks", "layers")]
    return any(type(child) in _CONTAINERS and _holds_blocks(child) for child in inner)
