"""Reads the weights that a run starts from, and records in ``weights.json`` which they were and what became of them."""

import dataclasses
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from fer_ddp.errors import JobError
from fer_ddp.models.default_weights import default_weights
from fer_ddp.models.fitting import Fitted
from fer_ddp.runs.checkpoint import load_checkpoint, load_tensors, open_safetensors
from fer_ddp.runs.files import SCHEMA_VERSION, read_config, read_json, selected_checkpoint, write_run_json
from fer_ddp.runs.shapes import ExportedNetworks
from fer_ddp.text import plural
from shards.files import sha256_of

WEIGHTS_FILE = "weights.json"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network")
"""Keys under which trainers save a state dict."""
EXPORTED_WEIGHTS, EXPORTED_CONFIG = "model.safetensors", "config.json"
"""What an exported folder holds of weights: themselves, and the networks that they belong to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Weights from elsewhere."""

    tensors: Mapping[str, Tensor]
    source: str
    """As a person reads it."""
    file: Path
    model: str | None = None
    """``model.name`` of what they belong to, where it is known."""
    class_names: tuple[str, ...] | None = None
    """Of its outputs; empty if they are other classes than any data set's here; None if they are not known."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    """Of the data that they were trained on, where it is known."""


def read_weights(source: str, model_name: str) -> Weights:
    """The weights that ``model.weights`` names: a file, a run folder, an exported folder, or ``default``.

    No pickle is executed. Raises JobError if there is no such thing, or it holds no weights.
    """
    path = Path(source)
    try:
        if source == "default":
            return _default(model_name)
        if path.is_dir():
            return _of_folder(path)
        if not path.is_file():
            raise ValueError(
                f"there is no file or folder {source}; give a file of weights, a run folder, an exported folder or "
                f"default"
            )
        return Weights(tensors=_read_file(path), source=source, file=path, class_names=_class_names(path))
    except ValueError as error:
        raise JobError(f"model.weights: {str(error).removeprefix('model.weights: ')}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise JobError(
            f"model.weights: {source} is not as fer-ddp writes it, so it was edited or is something else ({error})"
        ) from None


def evaluated_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """A whole state's averaged weights if it has them, else the model's; ``best`` holds only these."""
    ema = checkpoint.get("ema")
    if ema is None:
        return dict(checkpoint["network"])
    return {name.removeprefix("module."): tensor for name, tensor in ema.items() if name.startswith("module.")}


def record_weights(run: Path, weights: Weights, fitted: Fitted) -> None:
    """Write ``weights.json`` at a run's start.

    Where there is one, compare instead: a run that is resumed needs them again only if it has saved no state yet.
    Raises JobError if they are others.
    """
    digest = sha256_of(weights.file)
    if read_json(run / WEIGHTS_FILE).get("sha256", digest) != digest:
        raise JobError(
            f"model.weights: {weights.file} has changed since {run} was started, which has saved no state yet; "
            f"put it back, or choose another run="
        )
    record = {"source": weights.source, "file": str(weights.file), "sha256": digest}
    write_run_json(run / WEIGHTS_FILE, {"schema_version": SCHEMA_VERSION} | record | dataclasses.asdict(fitted))


def describe_weights(weights: Weights, fitted: Fitted, normalization: str) -> str:
    """One line: what was loaded, what was not, and where mean and std are from."""
    parts = [f"{plural(fitted.loaded, 'tensor')} loaded"]
    if fitted.replaced:
        parts.append(f"the head starts untrained ({', '.join(fitted.replaced)})")
    elif weights.class_names is None:
        parts.append("the head too, though the names of its classes are not known")
    if fitted.adapted:
        parts.append(f"the first convolution is {fitted.adapted}")
    if fitted.left_out:
        more = f" and {len(fitted.left_out) - 3} more" if len(fitted.left_out) > 3 else ""
        parts.append(f"not used: {', '.join(fitted.left_out[:3])}{more}")
    return f"weights of {weights.source}: {'; '.join([*parts, normalization])}"


def _default(model_name: str) -> Weights:
    found = default_weights(model_name)
    return Weights(
        tensors=_read_file(found.file),
        source=found.source,
        file=found.file,
        model=model_name,
        class_names=(),
        mean=found.mean,
        std=found.std,
    )


def _of_folder(folder: Path) -> Weights:
    if (folder / "config.yaml").is_file():
        job = read_config(folder)
        file = selected_checkpoint(folder, job.get("select", "best_val"))
        if not file.is_file():
            raise ValueError(f"{file} is not there: no epoch of {folder} has ended yet, or it was removed")
        checkpoint = load_checkpoint(file)
        averaged = ", averaged" if (job.get("ema") or {}).get("decay") is not None else ""
        return Weights(
            tensors=evaluated_weights(checkpoint),
            source=f"{folder} ({file.stem}, epoch {checkpoint['epoch']}{averaged})",
            file=file,
            model=job["model"]["name"],
            class_names=tuple(checkpoint["class_names"]),
            **_statistics(job.get("data", {})),
        )
    config = read_json(folder / EXPORTED_CONFIG, ExportedNetworks) if (folder / EXPORTED_WEIGHTS).is_file() else {}
    if not config:
        raise ValueError(f"{folder} is neither a run folder nor an exported folder; give one, or a file of weights")
    if len(config["members"]) != 1:
        raise ValueError(f"{folder} holds {len(config['members'])} models; give one of their runs")
    (member,) = config["members"]
    return Weights(
        tensors=_read_file(folder / EXPORTED_WEIGHTS),
        source=str(folder),
        file=folder / EXPORTED_WEIGHTS,
        model=member["model"]["name"],
        class_names=tuple(config["class_names"]),
        **_statistics(member),
    )


def _statistics(values: Mapping[str, Any]) -> dict[str, tuple[float, ...] | None]:
    return {key: tuple(values[key]) if values.get(key) else None for key in ("mean", "std")}


def _class_names(file: Path) -> tuple[str, ...] | None:
    """Of a checkpoint of ours, in a run folder or taken from one."""
    checkpoint = _our_checkpoint(file)
    return None if checkpoint is None else tuple(checkpoint["class_names"])


def _our_checkpoint(file: Path) -> dict[str, Any] | None:
    if file.suffix != ".safetensors":
        return None
    try:
        with open_safetensors(file) as content:
            is_ours = "state" in (content.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is not a safetensors file, or is damaged ({str(error).splitlines()[0]})") from None
    return load_checkpoint(file) if is_ours else None


def _read_file(file: Path) -> dict[str, Tensor]:
    checkpoint = _our_checkpoint(file)
    if checkpoint is not None:
        return evaluated_weights(checkpoint)
    if file.suffix == ".safetensors":
        return load_tensors(file)
    try:
        values = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} is not a state dict: it is no file of torch.save, or holds objects beside tensors, which are not "
            f"executed; save model.state_dict() alone ({str(error).splitlines()[0][:80]})"
        ) from None
    except Exception as error:  # noqa: BLE001  a damaged file makes the unpickler raise almost anything
        raise ValueError(
            f"{file} cannot be read by torch.load ({(str(error).splitlines() or [''])[0][:120]})"
        ) from None
    for key in _WRAPPERS:
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
            break
    named = values if isinstance(values, dict) else {}
    found = {
        name: value
        for name, value in named.items()
        if isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
    }
    if not found:
        raise ValueError(
            f"{file} holds no tensors by name (it has {list(map(str, named))[:5]}); save model.state_dict()"
        )
    return found
