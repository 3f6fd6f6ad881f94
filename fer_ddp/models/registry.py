"""The models by name, and the function that builds one of them for a job."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import nn

from fer_ddp.models.compact_cnn import CompactCNN
from fer_ddp.models.face_cnn import FaceCNN
from fer_ddp.models.own_code import describe_error
from fer_ddp.models.own_models import own_model
from fer_ddp.models.own_source import is_own_model, split_name
from fer_ddp.models.plain_cnn import PlainCNN
from fer_ddp.models.residual_cnn import AdvancedFaceCNN, ImprovedFaceCNN
from fer_ddp.models.timm_models import build_timm_model, check_timm_model, timm_names
from fer_ddp.models.torchvision_models import build_torchvision_model, check_torchvision_model, torchvision_names
from fer_ddp.text import closest

MODELS: dict[str, Callable[..., nn.Module]] = {
    "advanced_face_cnn": AdvancedFaceCNN,
    "compact_cnn": CompactCNN,
    "face_cnn": FaceCNN,
    "improved_face_cnn": ImprovedFaceCNN,
    "plain_cnn": PlainCNN,
}
TORCHVISION, TIMM = "torchvision/", "timm/"

# The values an option may take, by its annotation: in a model's options a whole number is a size and a fraction is a
# probability, so the ranges are stated once, here, and the models stay plain torch.
Size = Annotated[int, Field(ge=1)]
OPTION_VALUES: dict[Any, Any] = {
    bool: bool,
    int: Size,
    float: Annotated[float, Field(ge=0, lt=1)],
    Sequence[int]: Annotated[Sequence[Size], Field(min_length=1)],
}


def create_model(
    name: str, arguments: Mapping[str, object], *, in_channels: int, image_size: int, num_classes: int
) -> nn.Module:
    """Build the model `name` of `MODELS`, `torchvision/NAME`, `timm/NAME` or a user's own, with `arguments` for it.

    Input (B, in_channels, image_size, image_size), float; output logits (B, num_classes). The weights are initialized
    by torch's generator on the CPU. It is tried on two blank images, so that a model too deep for its images is refused
    before anything starts. Raises ValueError, whose message begins with the job's key: for an unknown model or
    argument, a value of the wrong type or out of range, images that the model can't process.
    """
    build: Callable[..., nn.Module]
    failures: tuple[type[Exception], ...] = (AssertionError, RuntimeError, TypeError, ValueError)
    if is_own_model(name):
        build, failures = own_model(name, arguments), (Exception,)
    elif name.startswith(TORCHVISION):
        failures = (Exception,)  # what their constructors make of any argument
        check_torchvision_model(name.removeprefix(TORCHVISION), arguments)
        build = functools.partial(build_torchvision_model, name.removeprefix(TORCHVISION))
    elif name.startswith(TIMM):
        failures = (Exception,)
        check_timm_model(name.removeprefix(TIMM), arguments)
        build = functools.partial(build_timm_model, name.removeprefix(TIMM))
    else:
        _check_model(name, arguments)
        build = MODELS[name]
    try:
        with warnings.catch_warnings():
            # A model too deep for its images warns before it raises the clearer error below.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            model = build(in_channels=in_channels, image_size=image_size, num_classes=num_classes, **arguments)
        model.float()  # as it is trained: the precision is the job's
        _try_model(model, in_channels, image_size, num_classes)
    except failures as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if is_own_model(name):
            reason = describe_error(error, split_name(name)[0])
        given = f" with {', '.join(f'{key}={value!r}' for key, value in arguments.items())}" if arguments else ""
        raise ValueError(
            f"model: {name}{given} can't be built for images of {in_channels} x {image_size} x {image_size} "
            f"(channels, height, width): {reason}"
        ) from error
    return model


def _check_model(name: str, arguments: Mapping[str, object]) -> None:
    if name not in MODELS:
        elsewhere = torchvision_names(name) + timm_names(name)
        hint = f" (did you mean {' or '.join(elsewhere)}?)" if elsewhere else _suggestion(name, MODELS)
        raise ValueError(
            f"model.name: there is no model '{name}'{hint}; choose {', '.join(MODELS)}, {TORCHVISION}NAME or "
            f"{TIMM}NAME for a model of these packages, or your own: path/to/file.py:Class or package.module:Class"
        )
    options = {
        option: parameter.annotation
        for option, parameter in inspect.signature(MODELS[name]).parameters.items()
        if parameter.default is not parameter.empty  # in_channels, image_size and num_classes come from the data
    }
    for argument, value in arguments.items():
        if argument not in options:
            raise ValueError(
                f"model.arguments.{argument}: {name} has no such option{_suggestion(argument, options)}; "
                f"it has {', '.join(options)}"
            )
        try:
            TypeAdapter(OPTION_VALUES[options[argument]]).validate_python(value, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            item = "".join(f"[{index}]" for index in first["loc"])
            reason = first["msg"][0].lower() + first["msg"][1:]
            raise ValueError(
                f"model.arguments.{argument}{item}: {name} can't use {first['input']!r}: {reason}"
            ) from error


def _suggestion(wrong: str, known: Iterable[str]) -> str:
    close = closest(wrong, known)
    return f" (did you mean {close}?)" if close else ""


def _try_model(model: nn.Module, in_channels: int, image_size: int, num_classes: int) -> None:
    """Raises what the model raises, TypeError and ValueError for what is not logits.

    In evaluation mode, which uses no random numbers and keeps running statistics.
    """
    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(2, in_channels, image_size, image_size))
    if not isinstance(logits, torch.Tensor):
        raise TypeError(f"it returns {type(logits).__name__}, not logits alone")
    if logits.shape != (2, num_classes):
        raise ValueError(
            f"it returns {tuple(logits.shape)} for 2 images of {num_classes} classes, not logits (2, {num_classes})"
        )
    model.train()
