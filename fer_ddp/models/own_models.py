"""A user's own model: a class or a function of a file (``nets/face.py:Net``) or a module (``package.module:Net``)."""

import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fer_ddp.models.own_code import describing_errors, load_module
from fer_ddp.models.own_definition import OTHER_CLASS, OTHER_FUNCTION
from fer_ddp.models.own_source import find_file, is_file, split_name
from fer_ddp.text import closest

_LIBRARIES = ("torch", "torchvision", "timm")
FROM_THE_DATA = ("in_channels", "image_size", "num_classes")


def own_model(name: str, arguments: Mapping[str, object]) -> Callable[..., nn.Module]:
    """A function of ``arguments`` and `FROM_THE_DATA` that builds the model ``name``, as registered models are built.

    Of `FROM_THE_DATA`, the class is called with what its signature names. Raises ValueError, whose message begins with
    the job's key, if there is no such file, module or class, if it can't be imported, if it is not one that builds an
    nn.Module, or does not take ``arguments``.
    """
    target = _target(name)
    with describing_errors(split_name(name)[0]):
        parameters = inspect.signature(target).parameters
    _check_arguments(name, parameters, arguments)

    def build(**given: Any) -> nn.Module:
        model = target(**{key: value for key, value in given.items() if key in parameters or key in arguments})
        if not isinstance(model, nn.Module):
            raise TypeError(f"it returns {type(model).__name__}, not an nn.Module")
        if not any(True for _ in model.parameters()):
            raise ValueError("it has no parameters to train")
        return model

    return build


def source_file(name: str) -> Path:
    """The file that holds the class; a module is imported for this, a file is not. Raises ValueError."""
    place, _ = split_name(name)
    if is_file(place):
        return find_file(place)
    found = inspect.getsourcefile(inspect.unwrap(_target(name)))
    if found is None:
        raise ValueError(f"model.name: {name} has no source file in Python")
    return Path(found)


def _target(name: str) -> Any:
    place, attribute = split_name(name)
    module = load_module(place, attribute)
    with describing_errors(place):  # a module may have a __getattr__
        target = getattr(module, attribute, None)
    if target is None:
        models = [key for key, value in vars(module).items() if _is_model(value)]
        close = closest(attribute, models)
        known = f"its models are {', '.join(models)}" if models else "it has none"
        hint = f"did you mean {close}?" if close else known
        raise ValueError(f"model.name: {place} has no '{attribute}'; {hint}")
    package = str(getattr(target, "__module__", "")).partition(".")[0]
    if package in _LIBRARIES:  # whose functions may download, or unpickle what an argument names
        raise ValueError(
            f"model.name: {name} belongs to {package}; its models are named timm/NAME and torchvision/NAME, such as "
            f"torchvision/resnet18, or used in a class of your own"
        )
    # Only what builds models is ever called, since a run folder from a stranger can name any function as its model.
    if isinstance(target, type) and not _is_model(target):
        raise ValueError(f"model.name: {name} {OTHER_CLASS}")
    if not isinstance(target, type) and not (inspect.isfunction(target) and _returns_model(target)):
        raise ValueError(f"model.name: {name} {OTHER_FUNCTION.format(target=attribute)}")
    return target


def _is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _returns_model(function: Callable[..., Any]) -> bool:
    try:
        return _is_model(typing.get_type_hints(function).get("return"))
    except Exception:  # noqa: BLE001  an annotation is evaluated, and may be any expression
        return False


def _check_arguments(name: str, parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, object]) -> None:
    own = {key: each for key, each in parameters.items() if key not in FROM_THE_DATA}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in own.values())
    named = [key for key, each in own.items() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    for key in arguments:
        if key in FROM_THE_DATA and key in parameters:
            raise ValueError(f"model.arguments.{key}: leave it out; it is that of the data")
        if key not in named and not takes_any:
            close = closest(key, named)
            hint = f" (did you mean {close}?)" if close else ""
            raise ValueError(
                f"model.arguments.{key}: {name} has no such option{hint}; it has {', '.join(named) or 'none'}"
            )
    for key in named:
        if own[key].default is inspect.Parameter.empty and key not in arguments:
            raise ValueError(f"model.arguments.{key}: must be given, since {name} needs it")
