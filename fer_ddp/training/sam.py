"""Sharpness-aware minimization (Foret et al. 2021, arXiv 2010.01412): the gradient at the worst point nearby.

Such a step takes two forward and backward passes. Baek et al. (ICLR 2024, arXiv 2405.03676) find its largest gains
where labels are wrong.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fer_ddp.data.loader import RawBatch
from fer_ddp.training.state import TrainingState


class SharpnessAware:
    """Wraps a ``forward_backward``: leaves the gradients at the weights moved uphill by ``radius``.

    Both passes take the same augmented images and dropout masks, since these depend only on the samples' positions.
    ``every_steps``: only every so many steps are sharpness-aware; the others are plain.
    """

    def __init__(
        self, forward_backward: Callable[[RawBatch], Tensor], state: TrainingState, radius: float, every_steps: int
    ) -> None:
        self._forward_backward, self._state = forward_backward, state
        self._radius, self._every_steps = radius, every_steps

    def __call__(self, raw: RawBatch) -> Tensor:
        """Returns the loss before the weights are moved."""
        loss = self._forward_backward(raw)
        if self._state.step % self._every_steps:
            return loss
        loss = loss.clone()  # the second replay of a CUDA graph would overwrite it
        moved = [parameter for parameter in self._state.model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        before = [parameter.detach().clone() for parameter in moved]
        with torch.no_grad():
            uphill = self._radius / (torch.stack(torch._foreach_norm(gradients)).norm() + 1e-12)
            for parameter, gradient in zip(moved, gradients, strict=True):
                parameter.add_(gradient * uphill)
            with self._state.preserve_state(), torch.enable_grad():  # buffers and sums are those of the first pass
                self._forward_backward(raw)
            for parameter, value in zip(moved, before, strict=True):
                parameter.copy_(value)
        return loss
