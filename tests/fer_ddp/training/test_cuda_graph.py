"""The step as one CUDA graph: the same as without one on a GPU, and disabled where there is no GPU."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.data.loader import RawBatch
from fer_ddp.training.cuda_graph import ForwardBackwardGraph, _alike
from fer_ddp.training.loop import Trainer
from fer_ddp.training.setup import build_trainer

# All that a step can contain: batch norm, dropout, each transform, mixing, micro-batches, clipping, an average.
EVERYTHING = [
    "model={name: plain_cnn, arguments: {channels: [4, 8], hidden: 16, batch_norm: true, dropout: 0.4}}",
    "augment={flip: 0.5, rotation_degrees: 9, brightness: 0.2, contrast: 0.2, blur_probability: 0.5, "
    "erasing_probability: 0.5, mixup_alpha: 0.4, cutmix_alpha: 1.0}",
    "micro_batch_size=7",
    "optimizer.gradient_clip_norm=1",
    "ema.decay=0.9",
    "schedule.name=onecycle",
    "precision=float32",
    "memory_format=channels_last",
]


def build(job_file: Path, device: str, *overrides: str) -> Trainer:
    job = load_job(job_file, [*EVERYTHING, *overrides])
    return build_trainer(job, FERDataset(job.data.path, "train"), 1, torch.device(device))


def trained(trainer: Trainer, steps: int) -> list[Tensor]:
    """The losses of some steps, and the weights after them."""
    losses = [trainer.step(trainer.loader.raw_batch(number)).clone() for number in range(steps)]
    return [*losses, *(tensor.clone() for tensor in trainer.state.model.state_dict().values())]


def test_preserve_state_lets_a_step_change_only_gradients(tiny_job: Path) -> None:
    trainer = build(tiny_job, "cpu")
    before = copy.deepcopy(trainer.state.state_dict())
    with trainer.state.preserve_state():
        trainer.forward_backward(trainer.loader.raw_batch(0))
        assert not torch.equal(before["sums"]["seen"], trainer.state.state_dict()["sums"]["seen"])
    after = trainer.state.state_dict()
    assert all(torch.equal(before["network"][name], after["network"][name]) for name in before["network"])
    assert all(torch.equal(before["sums"][name], after["sums"][name]) for name in before["sums"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU makes the graph")
def test_where_no_graph_can_be_captured_the_step_is_the_same_without_one(
    tiny_job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = build(tiny_job, "cpu")
    graphed = build(tiny_job, "cpu")
    graphed.graph = ForwardBackwardGraph(graphed.forward_backward, graphed.state)
    for one, other in zip(trained(trainer, 3), trained(graphed, 3), strict=True):
        assert torch.equal(one, other)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("CUDA graph disabled: ")
    assert line.endswith("; training continues without it, more slowly")


def assert_replays_and_trains_alike(graphed: Trainer, single: Trainer, tolerance: float) -> None:
    """Every step of ``graphed`` replays its graph, and ends as that of ``single`` does, which has none."""
    assert isinstance(graphed.graph, ForwardBackwardGraph)
    for one, other in zip(trained(graphed, 4), trained(single, 4), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert graphed.graph.replays == 4


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_on_a_gpu_the_graph_trains_like_single_kernels(
    tiny_job: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    graphed, single = (build(tiny_job, "cuda", f"precision={precision}") for _ in range(2))
    single.graph = None
    assert_replays_and_trains_alike(graphed, single, 1e-4 if precision == "float32" else 0.05)
    assert capsys.readouterr().err == ""


class _NoGraph:
    """A capture that records nothing: replaying it leaves the gradients of the warm-up."""

    def replay(self) -> None:
        pass


@pytest.mark.parametrize("capture", ["fails", "records nothing"])
def test_the_check_of_the_graph_fails_with_a_broken_capture(
    tiny_job: Path, monkeypatch: pytest.MonkeyPatch, capture: str
) -> None:
    graphed, single = build(tiny_job, "cpu"), build(tiny_job, "cpu")
    graphed.graph = ForwardBackwardGraph(graphed.forward_backward, graphed.state)

    def broken(self: ForwardBackwardGraph, inputs: RawBatch) -> _NoGraph:
        if capture == "fails":
            raise RuntimeError("operation not permitted when stream is capturing")
        with self._state.preserve_state():
            self._loss = self._forward_backward(inputs)
        return _NoGraph()

    monkeypatch.setattr(ForwardBackwardGraph, "_capture", broken)
    with pytest.raises(AssertionError):
        assert_replays_and_trains_alike(graphed, single, 1e-4)


@pytest.mark.gpu
def test_on_a_gpu_no_step_waits_for_it(tiny_job: Path) -> None:
    trainer = build(tiny_job, "cuda")
    trainer.step(trainer.loader.raw_batch(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(1, 5):
            trainer.step(trainer.loader.raw_batch(number))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_graph_s_gradients_may_differ_by_rounding_and_by_no_more() -> None:
    loss, weight, noise = torch.tensor(1.5), torch.randn(100, generator=torch.manual_seed(0)), torch.tensor([1e-6])
    assert _alike([loss, weight, noise], [loss, weight * 1.01, -noise])
    assert not _alike([loss, weight, noise], [loss, weight.flip(0), noise])
    assert not _alike([loss, weight, noise], [loss * 1.1, weight, noise])
    assert _alike([loss, weight * torch.inf], [loss, weight * torch.inf])
    assert not _alike([loss, weight], [loss, weight * torch.nan])
