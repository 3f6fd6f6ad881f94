"""Checkpoints without pickle: one safetensors file, whose header holds the rest of the state as JSON.

Equal states are equal bytes. A digest over everything is checked at load. The state as a whole is a nested
dictionary whose leaves are tensors or JSON values.
"""

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fer_ddp.errors import RunError
from fer_ddp.runs.files import SCHEMA_VERSION, check_schema_version
from shards.files import atomic_write_bytes, check_regular

_TENSOR = "\u0000tensor"


@dataclass(frozen=True)
class Snapshot:
    """A copy of a state, which may change while the copy is written."""

    skeleton: dict[str, Any]
    """The state with the names of tensors in their place."""
    tensors: dict[str, Tensor]
    """Copies by name, on the tensors' own devices."""

    @staticmethod
    def of(state: dict[str, Any]) -> "Snapshot":
        """Copy ``state``."""
        tensors: dict[str, Tensor] = {}
        skeleton = {"schema_version": SCHEMA_VERSION} | _take_tensors(state, "", tensors)
        return Snapshot(skeleton, tensors)

    def write(self, path: Path) -> None:
        """Write it to ``path``, whole or not at all. Raises OSError."""
        tensors = {name: tensor.cpu() for name, tensor in self.tensors.items()}
        text = json.dumps(self.skeleton, sort_keys=True)
        # More than one key of metadata would come in a random order.
        metadata = {"state": json.dumps({"sha256": _digest(text, tensors), "state": text})}
        atomic_write_bytes(path, save(tensors, metadata))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path``, whole or not at all."""
    Snapshot.of(state).write(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU. Raises OSError or SafetensorError if it is absent or damaged."""
    with open_safetensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is not a dictionary


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """`safe_open` of a file, which waits for no pipe. Raises OSError also for one that is longer than all memory."""
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except MemoryError:
        raise OSError(errno.ENOMEM, "is too large for the memory", str(path)) from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, on the CPU. Raises RunError if the file is absent, damaged or too new."""
    try:
        with open_safetensors(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is not a dictionary
            header = json.loads(file.metadata()["state"])
        text, expected = header["state"], header["sha256"]
        skeleton = json.loads(text)
        check_schema_version(path, skeleton)
        if _digest(text, tensors) != expected:
            raise ValueError("its digest does not match")
        skeleton.pop("schema_version", None)
        return dict(_put_tensors(skeleton, tensors))
    except FileNotFoundError:
        raise RunError(f"{path}: there is no such checkpoint") from None
    except OSError as error:
        raise RunError(f"{path}: the checkpoint cannot be read ({error.strerror or error})") from None
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: the checkpoint is damaged ({str(error).splitlines()[0]})") from None


def check_identity(path: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Raises RunError if ``state``, loaded from ``path``, belongs to a run that differs from ``identity`` in a key.

    Keys that either lacks are not compared: a newer version may have added them, and an older one wrote none.
    """
    theirs = state.get("identity", {})
    if not isinstance(theirs, dict) or any(isinstance(value, Tensor) for value in theirs.values()):
        raise RunError(f"{path}: does not name its run as fer-ddp does; put this run's own back")
    differences = [
        f"{key} {theirs[key]}, not {value}" for key, value in identity.items() if theirs.get(key, value) != value
    ]
    if differences:
        shown = "; ".join(differences[:3])
        raise RunError(f"{path}: belongs to another run ({shown}); put this run's own back")


def with_shapes(value: Any) -> Any:
    """``value`` with the shape of each tensor in its place, as a list: what `fer_ddp.runs.shapes` can check."""
    if isinstance(value, Tensor):
        return list(value.shape)
    if isinstance(value, dict):
        return {str(key): with_shapes(inner) for key, inner in value.items()}
    return [with_shapes(inner) for inner in value] if isinstance(value, list) else value


def _take_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` with each tensor replaced by its name; copies of the tensors go into ``tensors``."""
    if isinstance(value, Tensor):
        assert name not in tensors, f"two tensors are called {name}"
        # Each its own, since safetensors refuses tensors that share memory, as tied weights do.
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
        return _leaf(name, tensors[name])
    if isinstance(value, dict):
        # JSON has only string keys; the optimizer's integer ones are restored by `_put_tensors`.
        return {str(key): _take_tensors(inner, f"{name}/{key}", tensors) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_take_tensors(inner, f"{name}/{index}", tensors) for index, inner in enumerate(value)]
    return value


def _put_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            tensor = tensors[value[_TENSOR]]
            if _leaf(value[_TENSOR], tensor) | value != _leaf(value[_TENSOR], tensor):
                raise ValueError(f"{value[_TENSOR]} has another dtype or shape than was written")
            return tensor
        numbered = bool(value) and all(key.isdigit() for key in value)
        return {(int(key) if numbered else key): _put_tensors(inner, tensors) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put_tensors(inner, tensors) for inner in value]
    return value


def _leaf(name: str, tensor: Tensor) -> dict[str, Any]:
    """What represents a tensor, with its dtype and shape, since the digest covers this and not the file's header."""
    return {_TENSOR: name, "dtype": str(tensor.dtype), "shape": list(tensor.shape)}


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
