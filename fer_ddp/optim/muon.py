"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose update of a filter bank is orthogonal.

In the form of airbench94_muon (Jordan 2024, arXiv 2404.00498): before an update each bank of n filters is scaled to the
norm sqrt(n), so that the learning rate is the relative size of a step; batch norm makes the filters' scale irrelevant.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalized(matrix: Tensor, iterations: int) -> Tensor:
    """``matrix`` (rows, columns) with singular values near 1, in bfloat16; float64 remains float64.

    Newton-Schulz iterations with a quintic polynomial, five of which bring singular values to between 0.7 and 1.2.
    """
    a, b, c = _COEFFICIENTS
    x = matrix if matrix.dtype == torch.float64 else matrix.bfloat16()
    transposed = x.shape[0] > x.shape[1]
    if transposed:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if transposed else x


class Muon(torch.optim.Optimizer):
    """Muon for the filters of convolutions (parameters with four dimensions), AdamW for the other parameters.

    lr: learning rate of the filters; adamw_lr, weight_decay, betas: AdamW's. A schedule scales both learning rates.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        adamw_lr: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.99),
        iterations: int = 3,
    ) -> None:
        given = list(parameters)
        filters = [parameter for parameter in given if parameter.dim() == 4]
        others = [parameter for parameter in given if parameter.dim() != 4]
        groups = [
            {"params": group, "lr": rate, "kind": kind}
            for group, rate, kind in ((filters, lr, "muon"), (others, adamw_lr, "adamw"))
            if group
        ]
        defaults = {"momentum": momentum, "weight_decay": weight_decay, "betas": betas, "iterations": iterations}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = _update_filters if group["kind"] == "muon" else _update_other
                    update(parameter, parameter.grad, self.state[parameter], group)
        return loss


def _update_filters(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["momentum_buffer"] = torch.zeros_like(parameter)
    buffer = state["momentum_buffer"]
    buffer.mul_(group["momentum"]).add_(gradient)
    direction = gradient.add(buffer, alpha=group["momentum"])  # Nesterov momentum
    filters = len(parameter)
    update = orthogonalized(direction.reshape(filters, -1), group["iterations"]).to(parameter.dtype)
    parameter.mul_(math.sqrt(filters) / parameter.norm())
    # An orthogonal matrix with more rows than columns has a smaller norm than its filters; this makes up for it.
    tall = math.sqrt(max(1.0, filters / update.shape[1]))
    parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * tall)


def _update_other(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    state["step"] += 1
    beta1, beta2 = group["betas"]
    state["exp_avg"].lerp_(gradient, 1 - beta1)
    state["exp_avg_sq"].lerp_(gradient.square(), 1 - beta2)
    step = float(state["step"])
    denominator = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt_().add_(1e-8)
    if parameter.dim() > 1:  # not norms and biases
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
    parameter.addcdiv_(state["exp_avg"], denominator, value=-group["lr"] / (1 - beta1**step))
