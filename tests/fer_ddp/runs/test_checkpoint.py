"""Checkpoints: what is loaded is what was saved, or the file is refused."""

import errno
import hashlib
import json
import os
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_ddp.errors import RunError
from fer_ddp.runs.checkpoint import check_identity, load_checkpoint, save_checkpoint
from fer_ddp.runs.files import saved_epoch
from shards.files import atomic_write_bytes


def state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 3, generator=generator)
    return {
        "step": 2**62 + 1,
        "lr": 0.1 + 0.2,
        "best": None,
        "on": True,
        "names": ["müde", "happy", ""],
        "network": {"0.weight": weight, "0.bias": weight[0], "empty": torch.empty(0, 4), "one": torch.tensor(7)},
        "dtypes": [weight.to(dtype) for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int32)],
        "mask": weight > 0,
        "optimizer": {
            "state": {0: {"step": torch.tensor(1.0)}, 11: {}},
            "param_groups": [{"lr": 1e-300, "params": [0]}],
        },
        "worst": float("-inf"),
    }


def plain(value: Any) -> Any:
    """``value`` with its tensors as dtype and numbers, to be compared by ``==``."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.safetensors"


def refusal(path: Path) -> str:
    with pytest.raises(RunError) as caught:
        load_checkpoint(path)
    return str(caught.value)


def is_refused_as_damaged(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        load_checkpoint(path)
    except RunError as error:
        sentence = str(error)
        return sentence.startswith(f"{path}: the checkpoint is damaged (") and "\n" not in sentence
    return False


def test_a_state_comes_back_as_it_was(path: Path) -> None:
    save_checkpoint(path, state())
    assert plain(load_checkpoint(path)) == plain(state())


def test_equal_states_are_equal_bytes_whatever_the_order_and_the_memory_format(path: Path, tmp_path: Path) -> None:
    images = torch.arange(96.0).view(2, 3, 4, 4)
    save_checkpoint(path, {"a": images, "b": {"x": 1, "y": images[0]}})
    other = tmp_path / "other"
    save_checkpoint(other, {"b": {"y": images[0].clone(), "x": 1}, "a": images.to(memory_format=torch.channels_last)})
    assert path.read_bytes() == other.read_bytes()


def test_tied_weights_are_saved(path: Path) -> None:
    weight = torch.arange(6.0).view(2, 3)
    save_checkpoint(path, {"encoder": weight, "decoder": weight, "transposed": weight.t()})
    assert torch.equal(load_checkpoint(path)["transposed"], weight.t())


def test_the_file_is_plain_safetensors(path: Path) -> None:
    from safetensors.torch import load_file

    save_checkpoint(path, state())
    assert torch.equal(load_file(path)["/network/0.weight"], state()["network"]["0.weight"])


def test_the_format_is_that_of_old_checkpoints(path: Path) -> None:
    from safetensors import safe_open

    save_checkpoint(path, {"step": 3, "b": torch.tensor([1.0]), "a": [torch.tensor([[2, 3]])]})
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["state"])
    leaves = [
        f'{{"\\u0000tensor": "{name}", "dtype": "torch.{dtype}", "shape": {shape}}}'
        for name, dtype, shape in (("/a/0", "int64", [1, 2]), ("/b", "float32", [1]))
    ]
    text = f'{{"a": [{leaves[0]}], "b": {leaves[1]}, "schema_version": 1, "step": 3}}'
    content = text.encode() + b"/a/0" + struct.pack("<2q", 2, 3) + b"/b" + struct.pack("<f", 1)
    assert header == {"sha256": hashlib.sha256(content).hexdigest(), "state": text}


@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_a_flipped_byte_is_refused_wherever_it_is(path: Path, flip: int) -> None:
    save_checkpoint(path, {"step": 3, "weight": torch.ones(2, 3, dtype=torch.bfloat16)})
    whole = path.read_bytes()
    missed = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= flip
        if not is_refused_as_damaged(path, bytes(damaged)):
            missed.append(place)
    assert missed == []


def test_another_dtype_or_shape_in_the_header_is_refused(path: Path) -> None:
    save_checkpoint(path, {"a": torch.ones(2, 3, dtype=torch.int32)})
    whole = path.read_bytes()
    changes = [(b'"I32"', b'"F32"'), (b"[2,3]", b"[3,2]"), (b"[2,3]", b"[6,1]")]
    for change in changes:
        path.write_bytes(whole.replace(*change))
        assert refusal(path) == (f"{path}: the checkpoint is damaged (/a has another dtype or shape than was written)")


def test_a_changed_weight_is_refused_by_the_digest(path: Path) -> None:
    save_checkpoint(path, {"weight": torch.ones(3)})
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert refusal(path) == f"{path}: the checkpoint is damaged (its digest does not match)"


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(path: Path, part: float) -> None:
    save_checkpoint(path, state())
    whole = path.read_bytes()
    assert is_refused_as_damaged(path, whole[: int(len(whole) * part)])


def test_a_safetensors_file_of_someone_else_is_refused(path: Path) -> None:
    from safetensors.torch import save

    assert is_refused_as_damaged(path, save({"weight": torch.ones(3)}))


def test_a_checkpoint_of_a_newer_schema_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_ddp.runs.checkpoint.SCHEMA_VERSION", 2)
    save_checkpoint(path, state())
    assert refusal(path) == (
        f"{path}: has schema version 2, written by a newer version of fer-ddp; this one reads versions up to 1; "
        "upgrade fer-ddp"
    )


def test_the_state_of_another_run_is_refused_with_the_first_three_keys_that_differ(path: Path) -> None:
    theirs = {"identity": {"seed": 1, "model": "a", "data": "x", "steps": 5, "old": 0}}
    ours = {"seed": 0, "model": "b", "data": "y", "steps": 6, "new": 1}
    with pytest.raises(RunError) as caught:
        check_identity(path, theirs, ours)
    assert str(caught.value) == (
        f"{path}: belongs to another run (seed 1, not 0; model a, not b; data x, not y); put this run's own back"
    )


def test_a_key_that_one_version_has_not_known_is_no_difference(path: Path) -> None:
    check_identity(path, {"identity": {"seed": 0, "old": 0}}, {"seed": 0, "new": 1})
    check_identity(path, {}, {"seed": 0})


def test_an_absent_file_is_refused_by_its_name(path: Path) -> None:
    assert refusal(path) == f"{path}: there is no such checkpoint"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    save_checkpoint(path, {"step": 1})
    old = path.read_bytes()
    with pytest.raises(OSError, match="File too large") as caught, full_disk():
        save_checkpoint(path, {"step": 2, "weight": torch.zeros(10_000)})
    assert caught.value.errno == errno.EFBIG
    assert (path.read_bytes(), os.listdir(path.parent)) == (old, [path.name])


def test_a_new_file_is_seen_only_when_it_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write_bytes(path, b"old")
    seen = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (seen.append(path.read_bytes()), sync(descriptor)))
    atomic_write_bytes(path, b"new")
    assert seen == [b"old", b"new"]  # before the rename the file's content is synced, after it the folder


@pytest.mark.parametrize("length", [2**63 + 5, 2**40])
def test_a_header_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path: Path, length: int) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    assert saved_epoch(tmp_path) is None
