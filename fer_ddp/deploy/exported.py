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
from safetensors.torch import load_file
from torch import Tensor, nn

from fer_ddp.augment.views import ViewsConfig
from fer_ddp.deploy.export import CARD, LABELS, FromPixels, MeanOfModels
from fer_ddp.deploy.onnx import ONNX
from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.evaluator import BATCH_SIZE
from fer_ddp.models.build import ModelConfig, build_model
from fer_ddp.runs.files import read_json
from fer_ddp.runs.weights import EXPORTED_CONFIG, EXPORTED_WEIGHTS
from shards.files import SMALL, parse_json, read_regular

_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
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
    has_weights = (folder / EXPORTED_WEIGHTS).is_file() and (folder / EXPORTED_CONFIG).is_file()
    try:
        if has_weights and _is_known(read_json(folder / EXPORTED_CONFIG)):
            return _from_weights(folder, device)
        if (folder / ONNX).is_file():
            return _from_onnx(folder)
    except _DAMAGED as error:
        raise RunError(f"{folder}: its files are damaged ({error}); export the run again") from None
    if has_weights:
        raise JobError(f"{folder}: its network is its author's own code, which is not run, and there is no {ONNX}")
    raise JobError(
        f"{folder}: is not an exported folder (it has no {EXPORTED_WEIGHTS} with {EXPORTED_CONFIG}, and no {ONNX})"
    )


def _is_known(config: dict[str, Any]) -> bool:
    """Whether the networks are named, and not classes in a file or a package, which would have to be imported."""
    return not any(":" in str(member["model"]["name"]) for member in config["members"])


def _from_weights(folder: Path, device: torch.device) -> LoadedExport:
    config, saved = read_json(folder / EXPORTED_CONFIG), load_file(folder / EXPORTED_WEIGHTS)
    channels, height, width = shape = tuple(int(size) for size in config["image_shape"])
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
        class_names=tuple(map(str, config["class_names"])),
        untrained_classes=tuple(read_json(folder / CARD).get("untrained_classes", ())),
        image_shape=(shape[0], shape[1], shape[2]),
    )


def _from_onnx(folder: Path) -> LoadedExport:
    try:
        import onnxruntime
    except ImportError:
        raise JobError(f"{folder}/{ONNX}: needs onnxruntime; pip install 'fer-ddp[onnx]'") from None
    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    card = read_json(folder / CARD)
    _, channels, height, width = card["input"]["shape"]

    def probabilities(images: Tensor) -> NDArray[np.floating[Any]]:
        batches = (batch.permute(0, 2, 3, 1).contiguous().numpy() for batch in images.split(BATCH_SIZE))
        return np.concatenate([session.run(None, {"images": batch})[0] for batch in batches])

    return LoadedExport(
        probabilities=probabilities,
        class_names=tuple(parse_json(read_regular(folder / LABELS, at_most=SMALL))),
        untrained_classes=tuple(card.get("untrained_classes", ())),
        image_shape=(channels, height, width),
    )
