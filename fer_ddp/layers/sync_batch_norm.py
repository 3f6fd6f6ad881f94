"""Batch normalization over the samples of all ranks, on any device.

torch's own nn.SyncBatchNorm does not work on a CPU. On CUDA, where it does, `convert_batch_norm` uses it.

How the variance survives float32 (mean 10, standard deviation 0.01): no square is summed before a pivot near the mean
is subtracted (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance"). The pivot is the first
sample's mean, which is never more than sqrt(batch) standard deviations from the batch's. The ranks' moments are then
merged by count (Chan, Golub, LeVeque 1979), in float64 and in the order of the ranks.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from fer_ddp.distributed import all_reduce_sum, gather_tensors
from fer_ddp.errors import JobError


class SyncBatchNorm(_BatchNorm):
    """nn.BatchNorm1d, 2d and 3d in one, whose batch is that of all ranks together.

    Input (B, C) or (B, C, ...), float64, float32, bfloat16 or float16; ``B`` may differ between ranks and be 0. The
    output has the input's dtype and memory format. Arguments, parameters, buffers and so the state dict are
    nn.BatchNorm2d's. Gradients of weight and bias are this rank's sums, for DistributedDataParallel to average.

    In training all ranks must call it, and go back through it, equally often. In evaluation no rank waits for another.
    Raises ValueError, on every rank, if all together give fewer than 2 values a channel in training.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"SyncBatchNorm: input should be (B, {self.num_features}, ...), not {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalize over all ranks in training, by the running statistics (without them, alone) in evaluation."""
        self._check_input_dim(input)
        if not self.training:
            no_statistics = self.running_mean is None or self.running_var is None
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, no_statistics, 0.0, self.eps
            )
        found: tuple[Tensor, Tensor, Tensor, int] = _Normalize.apply(input, self.weight, self.bias, self.eps)
        output, mean, variance, count = found
        self._update_running_statistics(mean, variance * (count / (count - 1)))
        return output

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


def convert_batch_norm(module: nn.Module, device_type: str = "cpu") -> nn.Module:
    """Turn each nn.BatchNorm1d, 2d and 3d in ``module`` (or itself) into its synchronized form; returns the whole.

    ``device_type`` is where it will run: on "cuda" torch's nn.SyncBatchNorm is chosen, elsewhere ours. Parameters and
    buffers stay the same objects, and training flags stay. Raises JobError for a subclass of these three: it may
    compute more (timm's BatchNormAct2d holds an activation), and that would be lost.
    """
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found: list[tuple[str, nn.Module]] = [each for each in module.named_modules() if isinstance(each[1], plain)]
    for name, child in found:
        if type(child) not in plain:
            raise JobError(
                f"model: {name or 'the model'} is a {type(child).__name__}, which cannot be synchronized between "
                f"ranks; it should be a plain nn.BatchNorm1d, nn.BatchNorm2d or nn.BatchNorm3d"
            )
    if device_type == "cuda":
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return module
    for _, child in found:
        # As torch's lazy modules do: the state is the same, so hooks, sharing and parameters stay as they are.
        child.__class__ = SyncBatchNorm
    return module


class _Normalize(torch.autograd.Function):
    """(x, weight, bias, eps) -> (output, mean, variance by n, n): both (C,) float64, over all ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        pivot = _first_sample_mean(x)
        # bfloat16 and float16 would round x - pivot: there the sums do with x itself.
        ctx.wide = x.dtype == _statistics_dtype(x)
        shifted = x - _by_channel(pivot, x) if ctx.wide else x
        mean, variance, count = _merge(*_local_moments(x, shifted, pivot))
        if count < 2:
            raise ValueError(
                f"SyncBatchNorm needs more than 1 value a channel over all ranks in training, and got {count}; "
                f"this rank's input has the shape {tuple(x.shape)}"
            )
        ctx.save_for_backward(x, weight, bias, mean, variance)
        ctx.count, ctx.eps = count, eps
        ctx.mark_non_differentiable(mean, variance)
        if not ctx.wide:
            return _normalize(x, mean, variance, weight, bias, eps), mean, variance, count
        slope = _slope(variance, weight, eps)
        shift = (pivot - mean) * slope  # with x - pivot for x
        shifted.mul_(_by_channel(slope, x)).add_(_by_channel(shift if bias is None else shift + bias, x))
        return shifted, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, bias, mean, variance = ctx.saved_tensors
        if gradient.stride() != x.stride():  # two layouts in one call are read several times slower
            gradient = torch.empty_like(x).copy_(gradient)
        local = torch.stack(_channel_sums(gradient, x, mean, torch.rsqrt(variance + ctx.eps)))
        means = all_reduce_sum(local.clone()) / ctx.count

        # With xhat the normalized input, and means over all ranks (Ioffe, Szegedy 2015, section 3):
        # dx = slope * dy - slope * (xhat * mean(dy * xhat) + mean(dy)).
        slope = _slope(variance, weight, ctx.eps)
        scale, offset = -slope * means
        x_gradient = _normalize(x, mean, variance, scale, offset, ctx.eps)
        if ctx.wide:
            x_gradient.addcmul_(gradient, _by_channel(slope, x))
        else:  # addcmul_ would first copy whole tensors to float32
            x_gradient.add_(_normalize(gradient, torch.zeros_like(mean), variance, weight, None, ctx.eps))
        weight_gradient = None if weight is None else local[0].to(weight.dtype)
        bias_gradient = None if bias is None else local[1].to(bias.dtype)
        return x_gradient, weight_gradient, bias_gradient, None


def _first_sample_mean(x: Tensor) -> Tensor:
    """(C,) float64, representable in x's dtype or float32, whichever is longer; 0 if x is empty."""
    if x.numel() == 0:
        return x.new_zeros(x.shape[1], dtype=torch.float64)
    return x[:1].mean([0, *range(2, x.dim())], dtype=_statistics_dtype(x)).double()


def _local_moments(x: Tensor, shifted: Tensor, pivot: Tensor) -> tuple[Tensor, Tensor, int]:
    """This rank's mean (C,), sum of squared deviations from it (C,), both float64, and count of values a channel."""
    count = x.numel() // x.shape[1]
    if shifted is x:
        product, total = _channel_sums(x, x, pivot, torch.ones_like(pivot))
        total = total - count * pivot  # of x - pivot
        squares = product - pivot * total  # of (x - pivot) ** 2: x * (x - pivot) without pivot * (x - pivot)
    else:
        squares, total = _channel_sums(shifted, shifted, torch.zeros_like(pivot), torch.ones_like(pivot))
    distance = total / max(count, 1)
    return pivot + distance, (squares - distance * total).clamp_(min=0), count


def _merge(mean: Tensor, squares: Tensor, count: int) -> tuple[Tensor, Tensor, int]:
    """The mean and the variance (by n) of all ranks' values, and n, from each rank's `_local_moments`."""
    moments = gather_tensors(torch.cat([mean, squares, mean.new_tensor([count])]))
    means, all_squares, counts = moments.split([len(mean), len(mean), 1], dim=1)
    n = int(counts.sum())
    shares = counts / max(n, 1)
    merged = (shares * means).sum(0)
    return merged, all_squares.sum(0) / max(n, 1) + (shares * (means - merged).square()).sum(0), n


def _channel_sums(y: Tensor, x: Tensor, mean: Tensor, inverse_deviation: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of y * (x - mean) * inverse_deviation and of y by channel, (C,) float64, added in float32 at least."""
    if x.numel() == 0:  # torch's kernel would divide by it
        return torch.zeros_like(mean), torch.zeros_like(mean)
    dtype = _statistics_dtype(x)
    rounded = mean.to(dtype)
    _, along, total = torch.ops.aten.native_batch_norm_backward(
        y, x, None, None, None, rounded, inverse_deviation.to(dtype), True, 0.0, [False, True, True]
    )
    return along - (mean - rounded) * inverse_deviation * total, total.double()


def _normalize(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """A new (x - mean) / sqrt(variance + eps) * weight + bias in x's dtype, computed in float32 at least."""
    dtype = _statistics_dtype(x)
    weight, bias = (None if each is None else each.to(dtype) for each in (weight, bias))
    return F.batch_norm(x, mean.to(dtype), variance.to(dtype), weight, bias, eps=eps)


def _slope(variance: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """What a deviation from the mean is multiplied by: (C,) float64."""
    inverse_deviation = torch.rsqrt(variance + eps)
    return inverse_deviation if weight is None else inverse_deviation * weight


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """``values`` (C,) in x's dtype, shaped to broadcast over x."""
    return values.to(x.dtype).view(1, -1, *[1] * (x.dim() - 2))


def _statistics_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
