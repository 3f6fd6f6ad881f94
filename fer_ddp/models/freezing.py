"""Frozen layers: no gradient, no weight decay, and batch norm and dropout as in evaluation."""

from types import MethodType
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from torch import nn

from fer_ddp.models.structure import head_of, is_under
from fer_ddp.text import closest

BACKBONE = ("backbone",)
"""In place of names: all but the head."""


def _as_names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(names)
    raise PydanticCustomError("names", "backbone, or a list of layers such as [conv1, layer1]")


Freeze = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


def freeze(model: nn.Module, frozen: Freeze, num_classes: int) -> None:
    """Freeze the parameters of the layers that ``frozen`` names, or with `BACKBONE` all but the head's.

    A module all of whose parameters and buffers are frozen stays in evaluation mode, also after ``model.train()``.
    Raises ValueError for a name that matches nothing, and if nothing is left to train.
    """
    names = list(model.state_dict())
    if frozen == BACKBONE:
        head = head_of(model, num_classes)
        chosen = {name for name in names if not is_under(name, head)}
    else:
        for path in frozen:
            _check_matches(model, path)
        chosen = {name for name in names if any(is_under(name, path) for path in frozen)}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in chosen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model.freeze: freezes everything; leave at least the head to train")
    for path, module in model.named_modules():
        state = [f"{path}.{name}".removeprefix(".") for name in module.state_dict()]
        if state and chosen.issuperset(state):
            module.eval()
            setattr(module, "train", MethodType(_stay_in_evaluation, module))  # noqa: B010  mypy refuses to assign it


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _check_matches(model: nn.Module, path: str) -> None:
    known = [name for name, _ in (*model.named_modules(), *model.named_parameters()) if name]
    if path not in known:
        close = closest(path, known)
        hint = f"did you mean {close}?" if close else f"it has {', '.join(name for name, _ in model.named_children())}"
        raise ValueError(f"model.freeze: the model has no layer '{path}'; {hint}")
