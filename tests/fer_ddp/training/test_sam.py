"""Sharpness-aware gradients are those at the weights a radius uphill; all else is as it was."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fer_ddp.training.sam import SharpnessAware


class Quadratic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))


def sharpness_aware(model: Quadratic, step: int, every_steps: int = 1) -> tuple[SharpnessAware, list[str]]:
    """A step of the loss weight² / 2, and the list into which its passes go."""
    passes: list[str] = []

    class Preserving:
        def __enter__(self) -> None:
            passes.append("preserve")

        def __exit__(self, *_: object) -> None:
            passes.append("restore")

    def forward_backward(_: Any) -> Tensor:
        passes.append("pass")
        model.zero_grad()
        loss = model.weight.square().sum() / 2
        loss.backward()
        return loss.detach()

    state: Any = SimpleNamespace(model=model, step=step, preserve_state=Preserving)
    return SharpnessAware(forward_backward, state, 0.5, every_steps), passes


def test_the_gradient_is_that_of_the_weights_moved_uphill_by_the_radius() -> None:
    model = Quadratic()
    step, passes = sharpness_aware(model, step=0)
    raw: Any = None
    assert step(raw) == 12.5
    assert model.weight.grad is not None
    torch.testing.assert_close(model.weight.grad, torch.tensor([3.3, 4.4], dtype=torch.float64))
    assert model.weight.tolist() == [3.0, 4.0]
    assert passes == ["pass", "preserve", "pass", "restore"]


def test_the_steps_between_are_plain() -> None:
    model = Quadratic()
    step, passes = sharpness_aware(model, step=1, every_steps=2)
    raw: Any = None
    step(raw)
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [3.0, 4.0]
    assert passes == ["pass"]
