"""Two gloo processes must normalize as one process does over their batches together.

Run as a script this file is one of the two: it works through CASES and writes what came out. All cases share one
start, since that takes seconds.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from forking import run_forked
from torch import Tensor, nn

from fer_ddp.distributed import rank, world
from fer_ddp.errors import JobError
from fer_ddp.layers.sync_batch_norm import SyncBatchNorm, convert_batch_norm

CHANNELS = 3
BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Two steps of a batch norm in training, the batch cut between two ranks."""

    batch: tuple[int, int] = (4, 4)
    size: tuple[int, ...] = (5, 6)  # after batch and channel
    dtype: torch.dtype = torch.float64
    mean: float = 2.0
    deviation: float = 3.0
    memory_format: torch.memory_format = torch.contiguous_format
    momentum: float | None = 0.1
    affine: bool = True

    def steps(self) -> list[tuple[Tensor, Tensor]]:
        """The whole batch's input and output gradient of each step, in the case's dtype."""
        generator = torch.Generator().manual_seed(0)
        shape = (2, 2, sum(self.batch), CHANNELS, *self.size)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        # A mean for each sample: if ranks did not exchange their statistics, they would differ.
        apart = torch.randn(shape[:4], generator=generator, dtype=torch.float64).view(*shape[:4], *[1] * len(self.size))
        inputs = self.mean + self.deviation * (noise[0] + apart[0])
        gradients = noise[1] + 0.5
        return [
            (x.to(self.dtype).contiguous(memory_format=self.memory_format), y.to(self.dtype))
            for x, y in zip(inputs, gradients, strict=True)
        ]

    def batch_norm(self, dtype: torch.dtype) -> nn.Module:
        """One process's batch norm, not yet synchronized."""
        kind = BATCH_NORMS[2 + len(self.size)]
        module = kind(CHANNELS, momentum=self.momentum, affine=self.affine, dtype=dtype)
        if self.affine:
            nn.init.uniform_(module.weight, 0.5, 2.0, generator=torch.Generator().manual_seed(1))
            nn.init.uniform_(module.bias, -1.0, 1.0, generator=torch.Generator().manual_seed(2))
        return module


EXACT = {
    "images in equal halves": Case(),
    "images, 5 and 3": Case(batch=(5, 3)),
    "images, 8 and none": Case(batch=(8, 0)),
    "images, none and 1": Case(batch=(0, 1)),
    "channels last, 5 and 3": Case(batch=(5, 3), memory_format=torch.channels_last),
    "vectors, 5 and 3": Case(batch=(5, 3), size=()),
    "vectors, 8 and none": Case(batch=(8, 0), size=()),
    "vectors, 1 and 1": Case(batch=(1, 1), size=()),
    "sequences, 5 and 3": Case(batch=(5, 3), size=(7,)),
    "volumes, 5 and 3": Case(batch=(5, 3), size=(2, 3, 4)),
    "far from zero, 5 and 3": Case(batch=(5, 3), mean=10.0, deviation=0.01),
    "cumulative average": Case(batch=(5, 3), momentum=None),
    "without weight and bias": Case(batch=(5, 3), affine=False),
}
FLOAT32 = {
    f"float32 far from zero, {memory_format}": Case(
        batch=(20, 12), size=(24, 24), dtype=torch.float32, mean=10.0, deviation=0.01, memory_format=memory_format
    )
    for memory_format in (torch.contiguous_format, torch.channels_last)
}
HALF = {
    f"{dtype}, {memory_format}": Case(
        batch=(20, 12), size=(24, 24), dtype=dtype, mean=10.0, deviation=2.0, memory_format=memory_format
    )
    for dtype in (torch.bfloat16, torch.float16)
    for memory_format in (torch.contiguous_format, torch.channels_last)
}
CASES = EXACT | FLOAT32 | HALF


def two_steps(module: nn.Module, steps: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Outputs, gradients (those of parameters added up over the steps) and the module's state afterwards."""
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    for x, output_gradient in steps:
        x = x.detach().requires_grad_()
        output = module(x)
        output.backward(output_gradient)
        outputs.append(output.detach())
        assert x.grad is not None
        gradients.append(x.grad)
    return {
        "outputs": torch.stack(outputs),
        "input gradients": torch.stack(gradients),
        "parameter gradients": {name: parameter.grad for name, parameter in module.named_parameters()},
        "buffers": dict(module.named_buffers()),
    }


def one_of_two_ranks(folder: Path) -> None:
    with world():
        torch.set_num_threads(1)
        results: dict[str, Any] = {}
        for name, case in CASES.items():
            first = case.batch[0]
            mine = slice(0, first) if rank() == 0 else slice(first, None)
            module = convert_batch_norm(case.batch_norm(torch.promote_types(case.dtype, torch.float32)))
            results[name] = two_steps(module, [(x[mine], y[mine]) for x, y in case.steps()])
        module = SyncBatchNorm(CHANNELS)
        try:
            module(torch.zeros(1 - rank(), CHANNELS))
        except ValueError as error:
            results["one value in all"] = str(error)
        if rank() == 0:
            results["evaluated alone"] = module.eval()(torch.ones(2, CHANNELS))
        torch.save(results, folder / f"rank{rank()}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    done = run_forked(2, __file__, str(folder))
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{number}.pt") for number in (0, 1)]


def merge(ranks: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Both ranks' results as those of one process: batches joined, parameters' gradients added."""
    first, second = ranks[0][name], ranks[1][name]
    joined = {key: torch.cat([first[key], second[key]], dim=1) for key in ("outputs", "input gradients")}
    added = {key: first["parameter gradients"][key] + second["parameter gradients"][key] for key in ("weight", "bias")
             if key in first["parameter gradients"]}  # fmt: skip
    return joined | {"parameter gradients": added, "buffers": first["buffers"]}


def reference(case: Case) -> dict[str, Any]:
    """One process's nn.BatchNorm over the whole batch, in float64."""
    module = case.batch_norm(torch.float32).double()
    if case.dtype == torch.float64:
        module = case.batch_norm(torch.float64)
    return two_steps(module, [(x.double(), y.double()) for x, y in case.steps()])


def largest_error(found: Tensor, expected: Tensor) -> float:
    """Relative to the largest expected value."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", EXACT)
def test_two_ranks_equal_one_process_in_float64(ranks: list[dict[str, Any]], name: str) -> None:
    torch.testing.assert_close(merge(ranks, name), reference(EXACT[name]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_both_ranks_keep_the_same_statistics_to_the_bit(ranks: list[dict[str, Any]], name: str) -> None:
    torch.testing.assert_close(ranks[0][name]["buffers"], ranks[1][name]["buffers"], rtol=0, atol=0)


@pytest.mark.parametrize("name", FLOAT32)
def test_float32_keeps_a_small_variance_far_from_zero(ranks: list[dict[str, Any]], name: str) -> None:
    found, expected = merge(ranks, name), reference(FLOAT32[name])
    # Means are compared in standard deviations.
    mean_error = (found["buffers"]["running_mean"] - expected["buffers"]["running_mean"]).abs().max() / 0.01
    errors = {
        "outputs": largest_error(found["outputs"], expected["outputs"]),
        "input gradients": largest_error(found["input gradients"], expected["input gradients"]),
        "running_mean": float(mean_error),
        "weight": largest_error(*(each["parameter gradients"]["weight"] for each in (found, expected))),
    }
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_float32_variance_is_that_of_float64(memory_format: torch.memory_format) -> None:
    x = FLOAT32[f"float32 far from zero, {memory_format}"].steps()[0][0]
    module = SyncBatchNorm(CHANNELS, momentum=1.0)
    module(x)
    assert module.running_var is not None
    torch.testing.assert_close(module.running_var.double(), x.double().var([0, 2, 3]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", HALF)
def test_half_precision_input_gives_half_precision_output_from_float32_statistics(
    ranks: list[dict[str, Any]], name: str
) -> None:
    found, expected = merge(ranks, name), reference(HALF[name])
    assert found["outputs"].dtype == found["input gradients"].dtype == HALF[name].dtype
    torch.testing.assert_close(found["buffers"], expected["buffers"], rtol=1e-5, atol=0, check_dtype=False)
    assert {buffer.dtype for buffer in found["buffers"].values()} == {torch.float32, torch.int64}
    one_rounding = torch.finfo(HALF[name].dtype).eps / 2
    assert largest_error(found["outputs"], expected["outputs"]) < 1.1 * one_rounding
    assert largest_error(found["input gradients"], expected["input gradients"]) < 3 * one_rounding


def test_one_value_over_all_ranks_is_refused_on_each(ranks: list[dict[str, Any]]) -> None:
    message = "SyncBatchNorm needs more than 1 value a channel over all ranks in training, and got 1; this rank's input"
    assert [each["one value in all"] for each in ranks] == [
        f"{message} has the shape (1, 3)",
        f"{message} has the shape (0, 3)",
    ]


def test_one_rank_evaluates_without_the_other(ranks: list[dict[str, Any]]) -> None:
    torch.testing.assert_close(ranks[0]["evaluated alone"], torch.ones(2, CHANNELS), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 3, 2)])
def test_gradients_are_those_of_finite_differences(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    module = SyncBatchNorm(shape[1], track_running_stats=False, dtype=torch.float64)
    x, weight, bias = (
        torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in (shape, shape[1:2], shape[1:2])
    )

    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(module, {"weight": weight, "bias": bias}, (x,))
        return output

    assert torch.autograd.gradcheck(forward, (x, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradient_format", [torch.contiguous_format, torch.channels_last])
def test_channels_last_stays_in_outputs_and_gradients(dtype: torch.dtype, gradient_format: torch.memory_format) -> None:
    x = torch.randn(2, CHANNELS, 4, 5, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    output = SyncBatchNorm(CHANNELS)(x)
    output.backward(torch.ones_like(output, memory_format=gradient_format))
    assert x.grad is not None
    assert output.stride() == x.grad.stride() == (60, 1, 15, 3)


def test_a_contiguous_gradient_of_channels_last_input_is_read_in_its_own_order() -> None:
    x = torch.randn(2, CHANNELS, 4, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    output_gradient = torch.randn(2, CHANNELS, 4, 5, dtype=torch.float64)
    plain = two_steps(nn.BatchNorm2d(CHANNELS, dtype=torch.float64), [(x, output_gradient)])
    torch.testing.assert_close(
        two_steps(SyncBatchNorm(CHANNELS, dtype=torch.float64), [(x, output_gradient)]), plain, rtol=1e-10, atol=1e-10
    )


def test_under_autocast_output_is_bfloat16_and_statistics_float32() -> None:
    convolution, normalization = nn.Conv2d(1, CHANNELS, 3), SyncBatchNorm(CHANNELS, momentum=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        convolved = convolution(torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(4)))
        output = normalization(convolved)
    output.float().sum().backward()
    assert (output.dtype, convolved.dtype) == (torch.bfloat16, torch.bfloat16)
    expected = convolved.detach().double().var([0, 2, 3]).float()
    torch.testing.assert_close(normalization.running_var, expected, rtol=1e-5, atol=0)


def test_checkpoints_pass_between_plain_and_synchronized() -> None:
    plain = EXACT["images in equal halves"].batch_norm(torch.float32)
    plain(torch.randn(4, CHANNELS, 2, 2))
    synchronized = SyncBatchNorm(CHANNELS)
    synchronized.load_state_dict(plain.state_dict())
    again = nn.BatchNorm2d(CHANNELS)
    again.load_state_dict(synchronized.state_dict())
    assert list(synchronized.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(again.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_evaluation_is_that_of_plain_batch_norm() -> None:
    plain = EXACT["images in equal halves"].batch_norm(torch.float32)
    plain(torch.randn(4, CHANNELS, 2, 2))
    x = torch.randn(1, CHANNELS, 2, 2)
    expected = plain.eval()(x)
    torch.testing.assert_close(convert_batch_norm(plain)(x), expected, rtol=0, atol=0)


def test_conversion_keeps_every_object_and_setting() -> None:
    images, shared, volumes = (
        nn.BatchNorm2d(2, momentum=0.3),
        nn.BatchNorm1d(4, eps=1e-3),
        nn.BatchNorm3d(2, affine=False),
    )
    model = nn.Sequential(images.eval(), nn.ModuleList([shared, nn.Linear(4, 4), shared]), volumes)
    settings = [dict(module.__dict__) for module in model.modules()]
    tensors = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]

    converted = convert_batch_norm(model)

    assert [type(module) for module in (images, shared, volumes)] == [SyncBatchNorm] * 3
    assert converted is model
    assert [module.__dict__ for module in model.modules()] == settings
    assert [id(tensor) for tensor in (*model.parameters(), *model.buffers())] == tensors


def test_a_subclass_that_may_compute_more_is_refused_by_name() -> None:
    class BatchNormAndActivation(nn.BatchNorm2d):
        pass

    model = nn.ModuleDict({"stem": nn.Sequential(nn.Conv2d(1, 2, 3), BatchNormAndActivation(2))})
    with pytest.raises(JobError, match=r"^model: stem\.1 is a BatchNormAndActivation, which cannot be synchronized"):
        convert_batch_norm(model)


def test_an_input_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"should be \(B, 3, \.\.\.\), not \(2, 4\)"):
        SyncBatchNorm(CHANNELS)(torch.zeros(2, 4))


if __name__ == "__main__":
    one_of_two_ranks(Path(sys.argv[1]))
