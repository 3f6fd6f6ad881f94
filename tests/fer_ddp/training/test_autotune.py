"""Which dtype and memory format a run computes in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fer_ddp.errors import RunError
from fer_ddp.precision import autocast, compute_dtype, grad_scaler, to_memory_format
from fer_ddp.training import autotune
from fer_ddp.training.autotune import choose_precision

CPU = torch.device("cpu")


def small_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))


@pytest.mark.parametrize("asked", ["bf16", "fp16", "float32", "float64"])
@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
def test_a_precision_and_memory_format_that_are_given_are_used(asked: str, memory_format: str) -> None:
    assert choose_precision(small_model(), CPU, (1, 8, 8), asked, memory_format) == (asked, memory_format)


def test_auto_on_a_cpu_becomes_something_that_runs_there() -> None:
    trial = small_model()
    chosen, memory_format = choose_precision(trial, CPU, (1, 8, 8), "auto", "auto")
    assert chosen in ("float32", "bf16")
    assert memory_format in ("contiguous", "channels_last")
    assert all(parameter.grad is None for parameter in trial.parameters())


def test_the_fastest_is_measured_once_for_each_model_and_image_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_DDP_CACHE", str(tmp_path))
    measured = []

    def last_one(trial: nn.Module, image_shape: tuple[int, int, int], candidates: list[Any]) -> Any:
        measured.append(image_shape)
        return candidates[-1]

    monkeypatch.setattr(autotune, "_fastest", last_one)
    chosen = [choose_precision(small_model(), CPU, (1, 8, 8), "float32", "auto") for _ in range(2)]
    choose_precision(nn.Sequential(small_model()), CPU, (1, 8, 8), "float32", "auto")
    choose_precision(small_model(), CPU, (1, 8, 9), "float32", "auto")
    assert chosen == [("float32", "channels_last")] * 2
    assert measured == [(1, 8, 8), (1, 8, 8), (1, 8, 9)]


def test_the_fastest_is_chosen_also_when_its_first_steps_are_slow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FER_DDP_CACHE", str(tmp_path))
    taken: dict[bool, int] = {}

    def seconds(trial: Any) -> float:
        channels_last = not trial._images.is_contiguous()
        taken[channels_last] = taken.get(channels_last, 0) + 1
        return 0.001 if channels_last and taken[channels_last] > 10 else 0.002

    monkeypatch.setattr(autotune._Trial, "seconds", seconds)
    several_channels = nn.Conv2d(3, 4, 3)
    assert choose_precision(several_channels, CPU, (3, 8, 8), "float32", "auto") == ("float32", "channels_last")


def test_a_cache_that_cannot_be_written_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_DDP_CACHE", "/proc/cache")
    with pytest.raises(RunError, match="^/proc/cache: .*; set FER_DDP_CACHE to a folder with room"):
        choose_precision(small_model(), CPU, (1, 8, 8), "float32", "auto")


@pytest.mark.gpu
def test_auto_on_a_gpu_is_a_half_precision_in_channels_last() -> None:
    chosen, memory_format = choose_precision(small_model(), torch.device("cuda"), (1, 8, 8), "auto", "auto")
    assert chosen in ("bf16", "fp16")
    assert memory_format == "channels_last"


@pytest.mark.parametrize(
    ("asked", "dtype"),
    [("bf16", torch.bfloat16), ("fp16", torch.float16), ("float32", torch.float32)],
)
def test_a_convolution_computes_in_the_precision(asked: str, dtype: torch.dtype) -> None:
    with autocast(CPU, asked):
        assert nn.Conv2d(1, 4, 3)(torch.zeros(2, 1, 8, 8)).dtype == dtype


@pytest.mark.parametrize(("asked", "dtype"), [("float64", torch.float64), ("bf16", torch.float32)])
def test_weights_and_loss_are_float32_unless_float64_is_asked_for(asked: str, dtype: torch.dtype) -> None:
    assert compute_dtype(asked) == dtype


def test_only_fp16_scales_its_loss() -> None:
    scaled = {asked: grad_scaler(CPU, asked).is_enabled() for asked in ("bf16", "fp16", "float32")}
    assert scaled == {"bf16": False, "fp16": True, "float32": False}


def test_images_are_laid_out_as_the_weights_are() -> None:
    images = torch.zeros(2, 3, 8, 8)
    assert to_memory_format(images, "channels_last").is_contiguous(memory_format=torch.channels_last)
    assert to_memory_format(images, "contiguous").is_contiguous()
