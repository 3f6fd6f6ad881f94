"""Optimizers by name, with the constants a job gives."""

from typing import Any

import pytest
import torch
from torch import nn

from fer_ddp.optim.optimizers import OptimizerConfig, build_optimizer


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
