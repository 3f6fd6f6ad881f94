"""Groups of batch norm are plain batch norms of parts of the batch, on however many ranks the groups lie."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_ddp.layers import batch_norm_groups
from fer_ddp.layers.batch_norm_groups import GroupedBatchNorm, group_batch_norm, merge_statistics

CHANNELS, GROUPS = 3, 4
SHAPES = {"images": (8, CHANNELS, 5, 6), "vectors": (8, CHANNELS)}


def plain_batch_norm(dtype: torch.dtype = torch.float64) -> nn.Module:
    module = nn.BatchNorm2d(CHANNELS, dtype=dtype)
    nn.init.uniform_(module.weight, 0.5, 2.0, generator=torch.Generator().manual_seed(1))
    nn.init.uniform_(module.bias, -1.0, 1.0, generator=torch.Generator().manual_seed(2))
    return module


def apart(shape: tuple[int, ...]) -> Tensor:
    """Samples that differ in their mean, so that groups do too."""
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return noise[0] + 3 * noise[1].view(*shape[:2], -1)[..., 0].view(*shape[:2], *[1] * (len(shape) - 2))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_each_group_is_normalized_as_a_plain_batch_norm_does_it(shape: tuple[int, ...]) -> None:
    plain = plain_batch_norm() if len(shape) == 4 else nn.BatchNorm1d(CHANNELS, dtype=torch.float64)
    grouped = group_batch_norm(copy.deepcopy(plain), GROUPS)
    x, gradient = apart(shape).requires_grad_(), torch.randn(shape, dtype=torch.float64)
    outputs, means, variances = [], [], []
    for part in x.chunk(GROUPS):
        means.append(torch.zeros(CHANNELS, dtype=x.dtype))
        variances.append(torch.ones(CHANNELS, dtype=x.dtype))
        outputs.append(F.batch_norm(part, means[-1], variances[-1], plain.weight, plain.bias, training=True))
    expected = torch.autograd.grad(torch.cat(outputs), [x, plain.weight, plain.bias], gradient)
    output = grouped(x)
    found = torch.autograd.grad(output, [x, grouped.weight, grouped.bias], gradient)
    merge_statistics([grouped])
    torch.testing.assert_close(output, torch.cat(outputs), rtol=0, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grouped.running_mean, torch.stack(means).mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grouped.running_var, torch.stack(variances).mean(0), rtol=1e-12, atol=1e-12)
    assert int(grouped.num_batches_tracked) == 1
    assert not grouped.pending
    grouped.eval()
    plain.load_state_dict(grouped.state_dict())
    torch.testing.assert_close(grouped(x), plain.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_running_statistics_are_those_of_all_ranks(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = apart(SHAPES["images"])
    whole = group_batch_norm(plain_batch_norm(), GROUPS)
    whole(x)
    merge_statistics([whole])
    parts = [group_batch_norm(plain_batch_norm(), GROUPS // ranks) for _ in range(ranks)]
    outputs = [module(part) for module, part in zip(parts, x.chunk(ranks), strict=True)]
    torch.testing.assert_close(torch.cat(outputs), whole(x), rtol=0, atol=0)
    total = torch.stack([module.pending[0][0].flatten() for module in parts]).sum(0)
    monkeypatch.setattr(batch_norm_groups, "world_size", lambda: ranks)
    monkeypatch.setattr(batch_norm_groups, "all_reduce_sum", lambda mine: total.clone())
    for module in parts:
        merge_statistics([module])
        torch.testing.assert_close(module.running_mean, whole.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(module.running_var, whole.running_var, rtol=1e-12, atol=1e-12)


def test_a_batch_in_bfloat16_has_statistics_in_float32() -> None:
    module = group_batch_norm(plain_batch_norm(torch.float32), 2)
    x = apart(SHAPES["images"]).to(torch.bfloat16).to(memory_format=torch.channels_last)
    output = module(x)
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert module.pending[0][0].dtype == torch.float32


def test_a_batch_without_equal_groups_is_refused() -> None:
    model = group_batch_norm(nn.Sequential(nn.Conv2d(1, CHANNELS, 3), nn.BatchNorm2d(CHANNELS)), 3)
    assert isinstance(model[1], GroupedBatchNorm)
    with pytest.raises(ValueError, match="GroupedBatchNorm: 4 samples have no 3 equal groups"):
        model(torch.zeros(4, 1, 5, 5))
