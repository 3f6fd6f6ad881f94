"""Muon: orthogonal updates of filters that keep their norm, and AdamW for the rest."""

import copy

import numpy as np
import torch
from torch import nn

from fer_ddp.optim.muon import Muon, orthogonalized
from fer_ddp.optim.optimizers import OptimizerConfig, build_optimizer
from fer_ddp.optim.schedules import Schedule, ScheduleConfig

CONFIG = OptimizerConfig(name="muon", lr=0.05, momentum=0.9, adamw_lr=0.01, weight_decay=0.1)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))
    return nn.Sequential(*layers).double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        images = torch.linspace(0, step + 1, 54, dtype=torch.float64).view(2, 3, 3, 3) ** 2
        model(images).square().sum().backward()
        optimizer.step()


def test_an_orthogonalized_matrix_has_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((16, 144), (144, 16)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape, dtype=torch.float64), 5))
        assert 0.6 < values.min() < values.max() < 1.3


def test_updates_of_filters_are_those_of_a_float64_reference_by_singular_values() -> None:
    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(6, 2, 3, 3, dtype=torch.float64))
    optimizer = Muon([filters], lr=0.05, momentum=0.9, adamw_lr=1, weight_decay=1)
    expected, momentum = filters.detach().numpy().reshape(6, 18).copy(), np.zeros((6, 18))
    for _ in range(3):
        gradient = np.random.default_rng(0).normal(size=(6, 18))
        filters.grad = torch.from_numpy(gradient).reshape(filters.shape)
        optimizer.step()
        momentum = 0.9 * momentum + gradient
        left, values, right = np.linalg.svd(gradient + 0.9 * momentum, full_matrices=False)
        values = values / np.linalg.norm(values)
        for _ in range(3):  # the polynomial acts on each singular value by itself
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        expected = expected * np.sqrt(6) / np.linalg.norm(expected) - 0.05 * (left * values) @ right
    np.testing.assert_allclose(filters.detach().numpy().reshape(6, 18), expected, rtol=1e-6)


def test_everything_but_filters_is_updated_as_torchs_adamw_does() -> None:
    model = nn.Linear(3, 2).double()
    reference = copy.deepcopy(model)
    ours = Muon(model.parameters(), lr=1, momentum=0.9, adamw_lr=0.01, weight_decay=0.1)
    groups = [{"params": [reference.weight]}, {"params": [reference.bias], "weight_decay": 0.0}]
    torchs = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    fixed = nn.Linear(27, 3).double().requires_grad_(False)
    for each, optimizer in ((model, ours), (reference, torchs)):
        train(nn.Sequential(nn.Flatten(), fixed, each), optimizer, 3)
    torch.testing.assert_close(model.weight, reference.weight, rtol=1e-9, atol=0)
    torch.testing.assert_close(model.bias, reference.bias, rtol=1e-9, atol=0)


def test_a_schedule_scales_both_learning_rates() -> None:
    optimizer = build_optimizer(small_model(), CONFIG)
    schedule = Schedule(optimizer, ScheduleConfig(name="onecycle"), total_steps=10, warmup_steps=0)
    for _ in range(5):
        optimizer.step()
        schedule.step_done()
    filters, others = (group["lr"] for group in optimizer.param_groups)
    assert abs(filters / others - CONFIG.lr / CONFIG.adamw_lr) < 1e-9
