"""The pretrained weights that torchvision and timm offer for a model: from their caches, else from the network."""

import os
import socket
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch

_SECONDS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class DefaultWeights:
    """Where the weights are, and what images they were trained on."""

    file: Path
    source: str
    """Such as ``torchvision's ResNet18_Weights.IMAGENET1K_V1``."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of RGB pixels in [0, 1]."""


def default_weights(name: str) -> DefaultWeights:
    """The weights for ``torchvision/NAME`` or ``timm/NAME``, whose name exists.

    Raises ValueError for another model, for one that has none, and if they are neither here nor can be downloaded: what
    to download from where, and where to put it.
    """
    package, _, model = name.partition("/")
    if package == "torchvision":
        return _of_torchvision(model)
    if package == "timm":
        return _of_timm(model)
    raise ValueError(f"model.weights: default is for torchvision/NAME and timm/NAME; {name} has no pretrained weights")


def _of_torchvision(model: str) -> DefaultWeights:
    import torchvision

    weights = torchvision.models.get_model_weights(model).DEFAULT
    transforms, file = weights.transforms(), _downloads() / os.path.basename(weights.url)
    if not file.is_file():
        _download(weights.url, file, digest=file.stem.rpartition("-")[2])
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    return DefaultWeights(file=file, source=f"torchvision's {weights}", mean=mean, std=std)


def _of_timm(model: str) -> DefaultWeights:
    import huggingface_hub
    import timm

    config = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise ValueError(f"model.weights: timm has no pretrained weights for {model}")
    name = "model.safetensors"
    file = _downloads() / f"{config.hf_hub_id.rpartition('/')[2]}.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, name)
    if isinstance(cached, str) and not file.is_file():
        file = Path(cached)
    if not file.is_file():
        _download(f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{name}", file)
    mean, std = tuple(config.mean), tuple(config.std)
    return DefaultWeights(file=file, source=f"timm's {config.hf_hub_id}", mean=mean, std=std)


def _downloads() -> Path:
    """Where torch keeps downloaded weights; the variable TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(url: str, file: Path, digest: str | None = None) -> None:
    """Download ``url`` as ``file``, at once or not at all; ``digest``: the first digits of its SHA-256.

    Raises ValueError for whatever goes wrong. Without a network that takes seconds: there are no retries.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), digest, progress=False)
    except (OSError, RuntimeError, HTTPException) as error:
        raise ValueError(
            f"model.weights: default could not be downloaded ({error}); where there is a network, download {url}, and "
            f"put it here as {file}"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
