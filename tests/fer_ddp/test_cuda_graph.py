"""The step as one CUDA graph: on a GPU what the step is without it, where there is no GPU just that."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fer_ddp.assemble import assemble
from fer_ddp.batches import Batches
from fer_ddp.config import load_job
from fer_ddp.cuda_graph import GraphedGradients, _alike
from fer_ddp.data import FERDataset
from fer_ddp.train_step import Gradients, TrainStep

# Everything a step can hold: batch norm, dropout, each transform, mixing, pieces, clipping, an average.
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


def build(job_file: Path, device: str, *overrides: str) -> tuple[Batches, TrainStep]:
    job = load_job(job_file, [*EVERYTHING, *overrides])
    return assemble(job, FERDataset(job.data.path, "train"), 1, torch.device(device))


def trained(batches: Batches, step: TrainStep, steps: int) -> list[Tensor]:
    """The losses of some steps, and the weights after them."""
    losses = [step(batches.samples(number)).clone() for number in range(steps)]
    return [*losses, *(tensor.clone() for tensor in step.state.network.state_dict().values())]


def test_trying_a_step_leaves_nothing_behind_but_gradients(tiny_job: Path) -> None:
    batches, step = build(tiny_job, "cpu")
    before = copy.deepcopy(step.state.state_dict())
    with step.state.kept():
        step.gradients(batches.samples(0))
        assert not torch.equal(before["sums"]["seen"], step.state.state_dict()["sums"]["seen"])
    after = step.state.state_dict()
    assert all(torch.equal(before["network"][name], after["network"][name]) for name in before["network"])
    assert all(torch.equal(before["sums"][name], after["sums"][name]) for name in before["sums"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU makes the graph")
def test_where_no_graph_can_be_made_the_step_is_as_without_one(
    tiny_job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batches, step = build(tiny_job, "cpu")
    same_batches, graphed = build(tiny_job, "cpu")
    graphed = TrainStep(
        job=graphed.job, state=graphed.state, gradients=GraphedGradients(graphed.gradients, graphed.state)
    )
    for one, other in zip(trained(batches, step, 3), trained(same_batches, graphed, 3), strict=True):
        assert torch.equal(one, other)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("a step can't be made one CUDA graph (")
    assert line.endswith("); it takes longer without")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_on_a_gpu_the_graph_trains_like_the_kernels_one_by_one(
    tiny_job: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    batches, graphed = build(tiny_job, "cuda", f"precision={precision}")
    assert isinstance(graphed.gradients, GraphedGradients)
    same_batches, single = build(tiny_job, "cuda", f"precision={precision}")
    assert isinstance(single.gradients, GraphedGradients)
    single = TrainStep(job=single.job, state=single.state, gradients=single.gradients._gradients)
    assert isinstance(single.gradients, Gradients)
    tolerance = 1e-4 if precision == "float32" else 0.05
    for one, other in zip(trained(batches, graphed, 4), trained(same_batches, single, 4), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
def test_on_a_gpu_no_step_waits_for_it(tiny_job: Path) -> None:
    batches, step = build(tiny_job, "cuda")
    step(batches.samples(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(1, 5):
            step(batches.samples(number))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_graph_s_gradients_may_differ_by_rounding_and_by_no_more() -> None:
    loss, weight, noise = torch.tensor(1.5), torch.randn(100, generator=torch.manual_seed(0)), torch.tensor([1e-6])
    assert _alike([loss, weight, noise], [loss, weight * 1.01, -noise])
    assert not _alike([loss, weight, noise], [loss, weight.flip(0), noise])
    assert not _alike([loss, weight, noise], [loss * 1.1, weight, noise])
    assert _alike([loss, weight * torch.inf], [loss, weight * torch.inf])
    assert not _alike([loss, weight], [loss, weight * torch.nan])
