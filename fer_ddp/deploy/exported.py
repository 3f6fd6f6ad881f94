"""An exported folder loaded without its program: from the weights and their description, or from the ONNX file.

Neither runs code of the folder, so it may come from a stranger: safetensors and JSON hold numbers and names, the
network is built by this package, and onnxruntime knows no operators but its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from fer_ddp.augment.views import ViewsConfig
from fer_ddp.deploy.export import CARD, FromPixels, MeanOfModels, check_labels
from fer_ddp.deploy.onnx import ONNX
from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.evaluator import BATCH_SIZE
from fer_ddp.models.build import ModelConfig, build_model
from fer_ddp.runs.checkpoint import load_tensors
from fer_ddp.runs.files import read_json
from fer_ddp.runs.shapes import Card, ExportedConfig
from fer_ddp.runs.weights import EXPORTED_CONFIG, EXPORTED_WEIGHTS
from shards.files import sha256_of

_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError, MemoryError)
"""What is raised for files that are not what `export` wrote."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedExport:
    """A model with its inputs and outputs described."""

    probabilities: Callable[[Tensor], NDArray[np.floating[Any]]]
    """Of uint8 (images, *image_shape), on the CPU: float (images, classes)."""
    class_names: tuple[str, ...]
    untrained_classes: tuple[str, ...]
    image_shape: tuple[int, int, int]


def load_without_code(folder: Path, device: torch.device) -> LoadedExport:
    """The model from its weights; from the ONNX file if they are absent, or the network is a user's own.

    Raises JobError if ``folder`` has none of these or onnxruntime is needed and absent, RunError if a file is damaged.
    """
    try:
        if has_known_network(folder):
            return _from_weights(folder, device)
        if (folder / ONNX).is_file():
            return _from_onnx(folder)
    except _DAMAGED as error:
        raise RunError(f"{folder}: its files are damaged ({error}); export the run again") from None
    if _has_weights(folder):
        raise JobError(f"{folder}: its network is its author's own code, which is not run, and there is no {ONNX}")
    raise JobError(
        f"{folder}: is not an exported folder (it has no {EXPORTED_WEIGHTS} with {EXPORTED_CONFIG}, and no {ONNX})"
    )


def has_known_network(folder: Path) -> bool:
    """Whether ``folder`` holds weights of named networks, and not of a class in a file or a package of its author's.

    Raises RunError if their description is damaged.
    """
    if not _has_weights(folder):
        return False
    config = read_json(folder / EXPORTED_CONFIG, ExportedConfig)
    return not any(":" in member["model"]["name"] for member in config["members"])


def _has_weights(folder: Path) -> bool:
    return (folder / EXPORTED_WEIGHTS).is_file() and (folder / EXPORTED_CONFIG).is_file()


def _from_weights(folder: Path, device: torch.device) -> LoadedExport:
    config, card = read_json(folder / EXPORTED_CONFIG, ExportedConfig), read_json(folder / CARD, Card)
    for name in (EXPORTED_WEIGHTS, EXPORTED_CONFIG):
        if card.get("sha256", {}).get(name, "") not in ("", sha256_of(folder / name)):
            raise ValueError(f"{name} is not the file whose SHA-256 is in {CARD}")
    check_labels(folder, EXPORTED_CONFIG, config["class_names"])
    saved = load_tensors(folder / EXPORTED_WEIGHTS)
    channels, height, width = shape = config["image_shape"]
    models: list[nn.Module] = []
    for member in config["members"]:
        network = build_model(
            ModelConfig(name=member["model"]["name"], arguments=dict(member["model"]["arguments"])),
            seed=0,
            image_shape=(channels, height, width),
            num_classes=len(config["class_names"]),
        )
        prefix = member["weights_prefix"]
        network.load_state_dict({key.removeprefix(prefix): saved[key] for key in saved if key.startswith(prefix)})
        mean, std = (torch.tensor(member[name], dtype=torch.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
        models.append(FromPixels(network, mean, std, ViewsConfig(**member["views"])))
    whole = MeanOfModels(models, float(config["temperature"])).to(device).eval()

    def probabilities(images: Tensor) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            return torch.cat([whole(batch.to(device)).cpu() for batch in images.split(BATCH_SIZE)]).numpy()

    return LoadedExport(
        probabilities=probabilities,
        class_names=tuple(config["class_names"]),
        untrained_classes=tuple(card.get("untrained_classes", ())),
        image_shape=(shape[0], shape[1], shape[2]),
    )


def _from_onnx(folder: Path) -> LoadedExport:
    try:
        import onnxruntime
    except ImportError:
        raise JobError(f"{folder}/{ONNX}: needs onnxruntime; pip install 'fer-ddp[onnx]'") from None
    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    card = read_json(folder / CARD, Card)
    _, channels, height, width = card["input"]["shape"]
    check_labels(folder, CARD, card["class_names"])

    def probabilities(images: Tensor) -> NDArray[np.floating[Any]]:
        batches = (batch.permute(0, 2, 3, 1).contiguous().numpy() for batch in images.split(BATCH_SIZE))
        return np.concatenate([session.run(None, {"images": batch})[0] for batch in batches])

    return LoadedExport(
        probabilities=probabilities,
        class_names=tuple(card["class_names"]),
        untrained_classes=tuple(card.get("untrained_classes", ())),
        image_shape=(channels, height, width),
    )
