"""Any classification model of torchvision, untrained, for grey or RGB images of any size that it accepts."""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

# The two Inception models have no auxiliary heads here, which would need a loss of their own; `init_weights` is given
# because their builders warn without it.
SETTINGS: dict[str, dict[str, object]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
SET_HERE = ("weights", "progress", "num_classes", "image_size", "input_size", "aux_logits", "init_weights")


def torchvision_names(name: str) -> list[str]:
    """``["torchvision/resnet18"]`` for ``resnet18``; empty where torchvision has no classification model ``name``."""
    import torchvision

    return [f"torchvision/{name}"] if name in torchvision.models.list_models(module=torchvision.models) else []


def check_torchvision_model(name: str, arguments: Mapping[str, object]) -> None:
    """Raises ValueError for a name that torchvision does not have, and for arguments that are set here."""
    import torchvision  # takes 1 to 3 s, and only these models need it

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        close = [f"torchvision/{match}" for match in difflib.get_close_matches(name, known, n=3)]
        hint = f"did you mean {' or '.join(close)}?" if close else "torchvision/resnet18 is one of many it has"
        raise ValueError(f"model.name: torchvision has no classification model '{name}'; {hint}")
    for argument in arguments:
        if argument in SET_HERE:
            raise ValueError(
                f"model.arguments.{argument}: leave it out; models start untrained here, "
                "and their classes and image size are those of the data"
            )


def build_torchvision_model(
    name: str, /, *, in_channels: int, image_size: int, num_classes: int, **arguments: object
) -> nn.Module:
    """Build torchvision's model `name` (such as `resnet18`), weights random; `arguments` go to its constructor.

    Input (B, in_channels, image_size, image_size), float, with in_channels 1 or 3 (else ValueError); output logits
    (B, num_classes). The constructor's own errors are not caught.
    """
    import torchvision

    settings: dict[str, Any] = {**SETTINGS.get(name, {}), **arguments}
    if name.startswith("vit_"):
        settings["image_size"] = image_size
    if name.startswith("maxvit_"):
        settings["input_size"] = (image_size, image_size)
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **settings)
    if in_channels == 1:
        _accept_grey(model)
    elif in_channels != 3:
        raise ValueError("it needs grey or RGB images, of 1 or 3 channels")
    return model


def _accept_grey(model: nn.Module) -> None:
    """Replace the first convolution, which has three input channels, by one with a single input channel.

    Its weights are the sum over the three channels, so a grey image gives the output that the same image as RGB would,
    and the scale of the model's own initialization is preserved.
    """
    path, first = next((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d))
    grey = nn.Conv2d(
        in_channels=1,
        out_channels=first.out_channels,
        kernel_size=(first.kernel_size[0], first.kernel_size[1]),
        stride=(first.stride[0], first.stride[1]),
        padding=first.padding if isinstance(first.padding, str) else (first.padding[0], first.padding[1]),
        bias=first.bias is not None,
    )
    with torch.no_grad():
        grey.weight.copy_(first.weight.sum(dim=1, keepdim=True))
        if first.bias is not None and grey.bias is not None:
            grey.bias.copy_(first.bias)
    model.set_submodule(path, grey)
