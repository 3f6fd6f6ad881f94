"""Any model of timm (Wightman, github.com/huggingface/pytorch-image-models), untrained, for images of a size it takes.

timm is the extra ``timm``; it is imported where such a model is asked for.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import nn

from fer_ddp.text import closest

_INSTALL = "pip install 'fer-ddp[timm]'"
_SET_HERE = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only"),
    *("num_classes", "in_chans", "img_size"),
)


def timm_names(name: str) -> list[str]:
    """``["timm/resnet18"]`` for ``resnet18``; empty where timm is not installed or has no model ``name``."""
    if importlib.util.find_spec("timm") is None:
        return []
    import timm

    return [f"timm/{name}"] if timm.is_model(name) else []


def check_timm_model(name: str, arguments: Mapping[str, object]) -> None:
    """Raises ValueError if timm is not installed or has no model ``name``, and for arguments that are set here."""
    if importlib.util.find_spec("timm") is None:
        raise ValueError(f"model.name: timm/{name} needs the package timm; {_INSTALL}")
    import timm

    known = timm.list_models()
    if ":" in name or not timm.is_model(name):
        close = closest(name.partition(".")[0], known)
        hint = f"did you mean timm/{close}?" if close else "timm/resnet18 is one of many it has"
        raise ValueError(f"model.name: timm has no model '{name}'; {hint}")
    for argument in arguments:
        if argument in _SET_HERE:
            raise ValueError(
                f"model.arguments.{argument}: leave it out; classes, channels and image size are those of the data, "
                f"and pretrained weights are model.weights=default"
            )


def build_timm_model(
    name: str, /, *, in_channels: int, image_size: int, num_classes: int, **arguments: object
) -> nn.Module:
    """Build timm's model ``name`` (such as ``resnet18``), weights random; ``arguments`` go to its constructor.

    Input (B, in_channels, image_size, image_size), float; output logits (B, num_classes). The constructor's own errors
    are not caught.
    """
    import timm

    settings: dict[str, Any] = dict(arguments)
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:  # such as ViT's position embeddings
        settings["img_size"] = image_size
    return timm.create_model(name, num_classes=num_classes, in_chans=in_channels, **settings)
