"""Optimizers by name, with the constants a job gives."""

import json
from typing import Any

import pytest
import torch
from torch import nn

from fer_ddp.optim.optimizers import OptimizerConfig, build_optimizer
from fer_ddp.optim.schedules import Schedule, ScheduleConfig


@pytest.mark.parametrize(
    ("config", "kind", "constants"),
    [
        (
            OptimizerConfig(name="adam", lr=0.001, weight_decay=1e-5),
            torch.optim.Adam,
            {"lr": 0.001, "weight_decay": 1e-5, "betas": (0.9, 0.999), "decoupled_weight_decay": False},
        ),
        (
            OptimizerConfig(name="adamw", lr=0.01),
            torch.optim.AdamW,
            {"lr": 0.01, "weight_decay": 0.0, "betas": (0.9, 0.999)},
        ),
        (
            OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
            torch.optim.SGD,
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
        ),
        (OptimizerConfig(name="sgd", lr=0.1), torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
    ],
    ids=["adam", "adamw", "sgd with nesterov", "plain sgd"],
)
def test_a_name_gives_torchs_optimizer_with_the_jobs_constants(
    config: OptimizerConfig, kind: type[torch.optim.Optimizer], constants: dict[str, Any]
) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = build_optimizer(model, config)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert {name: group[name] for name in constants} == constants
    assert list(map(id, group["params"])) == list(map(id, model.parameters()))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_update_is_that_of_torchs_plain_optimizer(name: str, dtype: torch.dtype) -> None:
    momentum = 0.9 if name == "sgd" else 0.0
    config = OptimizerConfig(name=name, lr=0.01, weight_decay=0.1, momentum=momentum)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model, plain = nn.Linear(3, 2, dtype=dtype), nn.Linear(3, 2, dtype=dtype)
    plain.load_state_dict(model.state_dict())
    kind: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    arguments = {"momentum": 0.9} if name == "sgd" else {}
    reference = kind(plain.parameters(), lr=0.01, weight_decay=0.1, foreach=False, fused=False, **arguments)
    for trained, optimizer in ((model, build_optimizer(model, config)), (plain, reference)):
        for scale in (1.0, 2.0, 3.0):
            optimizer.zero_grad()
            (trained(torch.full((4, 3), scale, dtype=dtype)) ** 2).sum().backward()
            optimizer.step()
    assert torch.allclose(model.weight, plain.weight, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("option", [{"momentum": 0.9}, {"nesterov": True}], ids=["momentum", "nesterov"])
def test_an_option_of_sgd_is_refused_for_another_optimizer(name: str, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="momentum") as refusal:
        OptimizerConfig(name=name, lr=0.1, **option)  # type: ignore[arg-type]
    assert str(refusal.value) == f"momentum and nesterov belong to sgd; take them out or choose sgd instead of {name}"


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="nesterov") as refusal:
        OptimizerConfig(name="sgd", lr=0.1, nesterov=True)
    assert str(refusal.value) == "nesterov needs a momentum above 0, such as 0.9"


NORMED = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
LAYERS = [["0.weight", "0.bias", "1.weight", "1.bias"], ["2.weight", "2.bias"]]


def groups(**keys: object) -> list[tuple[float, float, list[tuple[int, ...]]]]:
    """(learning rate, weight decay, shapes) of each group."""
    config = OptimizerConfig(name="adamw", lr=0.1, weight_decay=0.5, **keys)  # type: ignore[arg-type]
    layers = LAYERS if config.layer_decay is not None else None
    found = build_optimizer(NORMED, config, layers).param_groups
    return [(group["lr"], group["weight_decay"], [tuple(each.shape) for each in group["params"]]) for group in found]


def test_norms_and_biases_can_be_spared_the_weight_decay() -> None:
    assert len(groups()) == 1
    assert groups(decay_norm_and_bias=False) == [
        (0.1, 0.5, [(4, 3), (2, 4)]),
        (0.1, 0.0, [(4,), (4,), (4,), (2,)]),
    ]


def test_earlier_layers_learn_more_slowly() -> None:
    assert groups(layer_decay=0.5) == [
        (0.1, 0.5, [(2, 4), (2,)]),
        (0.05, 0.5, [(4, 3), (4,), (4,), (4,)]),
    ]


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "cosine"])
def test_a_schedule_keeps_the_ratio_of_the_layers_and_so_does_a_checkpoint(schedule: Any) -> None:
    config = OptimizerConfig(name="adamw", lr=0.1, layer_decay=0.5)

    def prepared() -> tuple[torch.optim.Optimizer, Schedule]:
        optimizer = build_optimizer(NORMED, config, LAYERS)
        return optimizer, Schedule(optimizer, ScheduleConfig(name=schedule), total_steps=9, warmup_steps=2)

    optimizer, moving = prepared()
    rates = []
    for step in range(6):
        if step == 3:  # as after an interruption
            states = json.loads(json.dumps([moving.state_dict(), optimizer.state_dict()["param_groups"]]))
            optimizer, moving = prepared()
            optimizer.load_state_dict({"state": {}, "param_groups": states[1]})
            moving.load_state_dict(states[0])
        optimizer.step()
        moving.step_done()
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert [slow / fast for fast, slow in rates] == pytest.approx([0.5] * 6, rel=1e-9)
    assert len({fast for fast, _ in rates}) == (1 if schedule == "constant" else 6)


def test_frozen_parameters_are_not_the_optimizers() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    for name in ("adamw", "sgd", "muon"):
        optimizer = build_optimizer(model, OptimizerConfig(name=name, lr=0.1))  # type: ignore[arg-type]
        assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_layer_decay_is_not_muons() -> None:
    with pytest.raises(ValueError, match="layer_decay belongs to adam, adamw and sgd"):
        OptimizerConfig(name="muon", lr=0.1, layer_decay=0.5)
