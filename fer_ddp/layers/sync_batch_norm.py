"""Batch normalization over the samples of all ranks, on any device.

torch's own nn.SyncBatchNorm does not work on a CPU, and on a GPU makes the host wait at each layer. Here nothing waits
for a number from the device, so that on a GPU the layer can be part of a CUDA graph. Each pass sends one message: an
all-gather of 2 C + 1 numbers forward, an all-reduce of 2 C backward.

How the variance survives float32 (mean 10, standard deviation 0.01): no square is summed before a pivot near the mean
is subtracted (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance"). The pivot is the first
sample's mean, which is never more than sqrt(batch) standard deviations from the batch's. The ranks' moments are then
merged by count (Chan, Golub, LeVeque 1979), in float64 and in the order of the ranks. On a GPU the kernels of
nn.SyncBatchNorm do both, by Welford's method.
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
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return self._normalized(input)

    def _normalized(self, input: Tensor) -> Tensor:
        normalize = _NormalizeOnCuda if input.is_cuda else _Normalize
        output: Tensor = normalize.apply(
            input, self.weight, self.bias, self.running_mean, self.running_var, self._share(), self.eps
        )
        return output

    def _share(self) -> float | Tensor:
        """What part of the running statistics this batch makes up."""
        if self.momentum is not None:
            return self.momentum
        if self.num_batches_tracked is None or self.running_mean is None:
            return 0.0
        return self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()


class SyncBatchNormAct(SyncBatchNorm):
    """The synchronized form of timm's BatchNormAct2d, which applies dropout and an activation after the norm."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Normalize as `SyncBatchNorm` does, then activate."""
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output


def convert_batch_norm(module: nn.Module) -> nn.Module:
    """Turn each nn.BatchNorm1d, 2d and 3d in ``module`` (or itself) into `SyncBatchNorm`; returns the whole.

    Parameters and buffers stay the same objects, and training flags stay. timm's BatchNormAct2d, which holds an
    activation, becomes `SyncBatchNormAct`. Raises JobError for any other subclass: it may compute more, which would be
    lost.
    """
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found: list[tuple[str, nn.Module]] = [each for each in module.named_modules() if isinstance(each[1], plain)]
    with_activation = [child for _, child in found if type(child).__name__ == "BatchNormAct2d"]
    for name, child in found:
        if type(child) not in plain and child not in with_activation:
            raise JobError(
                f"model: {name or 'the model'} is a {type(child).__name__}, which cannot be synchronized between "
                f"ranks; it should be a plain nn.BatchNorm1d, nn.BatchNorm2d or nn.BatchNorm3d"
            )
    for _, child in found:
        # As torch's lazy modules do: the state is the same, so hooks, sharing and parameters stay as they are.
        child.__class__ = SyncBatchNormAct if child in with_activation else SyncBatchNorm
    return module


class _Normalize(torch.autograd.Function):
    """The normalized input; updates the running statistics. On a CPU, whose batch norm kernels these are."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        share: float | Tensor,
        eps: float,
    ) -> Tensor:
        count, pivot = x.numel() // x.shape[1], _first_sample_mean(x)
        # bfloat16 and float16 would round x - pivot: there the sums do with x itself.
        ctx.wide = x.dtype == pivot.dtype
        shifted = x - _by_channel(pivot, x) if ctx.wide else x
        moments = gather_tensors(_local_moments(shifted, pivot, count, ctx.wide))
        means, squares, counts = moments.split([len(pivot), len(pivot), 1], dim=1)
        n = counts.sum()
        if count < 2 and n < 2:  # where this rank has 2, there is no need to ask
            raise ValueError(
                f"SyncBatchNorm needs more than 1 value a channel over all ranks in training, and got {int(n)}; "
                f"this rank's input has the shape {tuple(x.shape)}"
            )
        mean = (counts / n * means).sum(0)
        apart = means - mean
        total = torch.addcmul(squares, counts * apart, apart).sum(0)
        variance = total / n
        inverse_deviation = torch.rsqrt(variance + eps)
        statistics = torch.stack([mean, variance, total / (n - 1)]).to(pivot.dtype)
        ctx.save_for_backward(x, weight, mean, inverse_deviation, n, statistics[:2])
        ctx.eps, ctx.has_bias = eps, bias is not None
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(statistics[0].to(running_mean.dtype), share)
            running_var.lerp_(statistics[2].to(running_var.dtype), share)
        if not ctx.wide:
            return _normalize(x, statistics[0], statistics[1], weight, bias, eps)
        slope = inverse_deviation if weight is None else inverse_deviation * weight
        shift = (pivot - mean) * slope
        slope, shift = torch.stack([slope, shift if bias is None else shift + bias]).to(x.dtype)
        return torch.addcmul(_by_channel(shift, x), shifted, _by_channel(slope, x), out=shifted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_deviation, n, (rounded_mean, variance) = ctx.saved_tensors
        if gradient.stride() != x.stride():  # two layouts in one call are read several times slower
            gradient = torch.empty_like(x).copy_(gradient)
        along, total = _channel_sums(gradient, x, rounded_mean, inverse_deviation.to(rounded_mean.dtype)).double()
        along = torch.addcmul(along, (rounded_mean - mean) * inverse_deviation, total)
        means = all_reduce_sum(torch.stack([along, total])) / n

        # With xhat the normalized input, and means over all ranks (Ioffe, Szegedy 2015, section 3):
        # dx = slope * dy - slope * (xhat * mean(dy * xhat) + mean(dy)).
        slope = inverse_deviation if weight is None else inverse_deviation * weight
        scale, offset = means * -slope
        if ctx.wide:
            along_x = scale * inverse_deviation
            parts = torch.stack([along_x, offset - along_x * mean, slope]).to(x.dtype)
            along_x, offset, slope = (_by_channel(part, x) for part in parts)
            x_gradient = torch.addcmul(offset, x, along_x).addcmul_(gradient, slope)
        else:  # addcmul would first copy whole tensors to float32
            scale, offset, slope = torch.stack([scale, offset, slope]).to(rounded_mean.dtype)
            x_gradient = _normalize(x, rounded_mean, variance, scale, offset, ctx.eps)
            nothing, one = torch.zeros_like(variance), torch.ones_like(variance)
            x_gradient.add_(_normalize(gradient, nothing, one, slope, None, 0.0))
        weight_gradient = None if weight is None else along.to(weight.dtype)
        bias_gradient = total.to(rounded_mean.dtype) if ctx.has_bias else None
        return x_gradient, weight_gradient, bias_gradient, None, None, None, None


class _NormalizeOnCuda(torch.autograd.Function):
    """`_Normalize` by the CUDA kernels of nn.SyncBatchNorm, in the same order, without its wait for empty ranks."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        share: float,
        eps: float,
    ) -> Tensor:
        x = _dense(x)
        mean, inverse_deviation = torch.batch_norm_stats(x, eps)
        count = torch.full((1,), x.numel() // x.shape[1], dtype=mean.dtype, device=mean.device)
        gathered = gather_tensors(torch.cat([mean, inverse_deviation, count]))
        means, inverse_deviations, counts = gathered.split([len(mean), len(mean), 1], dim=1)
        mean, inverse_deviation = torch.batch_norm_gather_stats_with_counts(
            x, means, inverse_deviations, running_mean, running_var, float(share), eps, counts.flatten()
        )
        ctx.save_for_backward(x, weight, mean, inverse_deviation, counts.flatten().to(torch.int32))
        ctx.has_bias = bias is not None
        output: Tensor = torch.batch_norm_elemt(x, weight, bias, mean, inverse_deviation, eps)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_deviation, counts = ctx.saved_tensors
        gradient, has_weight = _dense(gradient), weight is not None
        total, along, weight_gradient, bias_gradient = torch.batch_norm_backward_reduce(
            gradient, x, mean, inverse_deviation, weight, True, has_weight, ctx.has_bias
        )
        total, along = all_reduce_sum(torch.cat([total, along])).chunk(2)
        x_gradient = torch.batch_norm_backward_elemt(gradient, x, mean, inverse_deviation, weight, total, along, counts)
        return x_gradient, weight_gradient, bias_gradient, None, None, None, None


def _dense(x: Tensor) -> Tensor:
    """``x`` in one of the layouts that the CUDA kernels know."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    return x if last is not None and x.is_contiguous(memory_format=last) else x.contiguous()


def _first_sample_mean(x: Tensor) -> Tensor:
    """(C,) in x's dtype or float32, whichever is longer; 0 if x is empty."""
    if x.numel() == 0:
        return x.new_zeros(x.shape[1], dtype=_statistics_dtype(x))
    return x[:1].mean([0, *range(2, x.dim())], dtype=_statistics_dtype(x))


def _local_moments(shifted: Tensor, pivot: Tensor, count: int, is_shifted: bool) -> Tensor:
    """This rank's means, sums of squared deviations from them, and count of values a channel: (2 C + 1,) float64.

    shifted: the input, less ``pivot`` if ``is_shifted``.
    """
    sums = _channel_sums(shifted, shifted, torch.zeros_like(pivot) if is_shifted else pivot, torch.ones_like(pivot))
    (squares, total), share = sums.double(), 1 / max(count, 1)
    if not is_shifted:
        total = torch.add(total, pivot, alpha=-count)  # of x - pivot
        squares = torch.addcmul(squares, pivot, total, value=-1)  # of its square: x * (x - pivot) without the pivot's
    mean = torch.add(pivot.double(), total, alpha=share)
    squares = torch.addcmul(squares, total, total, value=-share).clamp_(min=0)
    return torch.cat([mean, squares, torch.full((1,), count, dtype=mean.dtype, device=mean.device)])


def _channel_sums(y: Tensor, x: Tensor, mean: Tensor, inverse_deviation: Tensor) -> Tensor:
    """The sums of y * (x - mean) * inverse_deviation and of y by channel: (2, C), added in float32 at least."""
    if x.numel() == 0:  # torch's kernel would divide by it
        return mean.new_zeros(2, len(mean))
    _, along, total = torch.ops.aten.native_batch_norm_backward(
        y, x, None, None, None, mean, inverse_deviation, True, 0.0, [False, True, True]
    )
    return torch.stack([along, total])


def _normalize(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """A new (x - mean) / sqrt(variance + eps) * weight + bias in x's dtype, computed in float32 at least."""
    weight, bias = (None if each is None else each.to(mean.dtype) for each in (weight, bias))
    return F.batch_norm(x, mean, variance, weight, bias, eps=eps)


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """``values`` (C,) in x's dtype, shaped to broadcast over x."""
    return values.to(x.dtype).view(1, -1, *[1] * (x.dim() - 2))


def _statistics_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
