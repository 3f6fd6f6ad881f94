"""Learning rates step by step against torch's and the closed forms; resuming from JSON; early stopping."""

import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from fer_ddp.optim.schedules import EarlyStopping, EarlyStoppingConfig, Schedule, ScheduleConfig

LR = 0.01


def adamw() -> torch.optim.Optimizer:
    return torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=LR)


def sgd(momentum: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR, momentum=momentum)


def rates(optimizer: torch.optim.Optimizer, schedule: Any, steps: int) -> list[float]:
    """The learning rate that each step uses."""
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step_done() if isinstance(schedule, Schedule) else schedule.step()
    return used


def new(config: ScheduleConfig, total_steps: int, warmup_steps: int = 0) -> tuple[torch.optim.Optimizer, Schedule]:
    optimizer = adamw()
    return optimizer, Schedule(optimizer, config, total_steps=total_steps, warmup_steps=warmup_steps)


def test_constant_stays() -> None:
    optimizer, schedule = new(ScheduleConfig(), 10)
    schedule.epoch_done(None)
    assert rates(optimizer, schedule, 10) == [LR] * 10


# onecycle


@pytest.mark.parametrize("total_steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup_fraction", [0.3, 0.45])
def test_onecycle_is_torchs_from_the_first_step_to_the_last(total_steps: int, warmup_fraction: float) -> None:
    optimizer, schedule = new(
        ScheduleConfig(name="onecycle", warmup_fraction=warmup_fraction, initial_divisor=10, final_divisor=100),
        total_steps,
    )
    theirs = adamw()
    reference = torch.optim.lr_scheduler.OneCycleLR(
        theirs, max_lr=LR, total_steps=total_steps, pct_start=warmup_fraction, div_factor=10, final_div_factor=100
    )
    assert rates(optimizer, schedule, total_steps) == rates(theirs, reference, total_steps)


def test_onecycle_begins_peaks_and_ends_where_its_keys_say() -> None:
    used = rates(*new(ScheduleConfig(name="onecycle"), 100), 100)
    assert [used[0], max(used), used[29], used[-1]] == pytest.approx([LR / 25, LR, LR, LR / 25 / 1e4], rel=1e-9)


@pytest.mark.parametrize(("total_steps", "warmup_fraction"), [(10, 0.1), (4, 0.25), (2, 0.5)])
def test_onecycle_can_rise_in_a_single_step(total_steps: int, warmup_fraction: float) -> None:
    config = ScheduleConfig(name="onecycle", warmup_fraction=warmup_fraction)
    used = rates(*new(config, total_steps), total_steps)
    assert [used[0], used[-1]] == pytest.approx([LR, LR / 25 / 1e4], rel=1e-6)


def test_onecycle_moves_adams_first_beta_against_the_learning_rate() -> None:
    optimizer, schedule = new(ScheduleConfig(name="onecycle"), 10)
    rates(optimizer, schedule, 2)
    assert optimizer.param_groups[0]["betas"] == pytest.approx((0.85, 0.999))


def test_onecycle_moves_sgds_momentum_against_the_learning_rate() -> None:
    optimizer = sgd(momentum=0.9)
    schedule = Schedule(optimizer, ScheduleConfig(name="onecycle"), total_steps=10, warmup_steps=0)
    rates(optimizer, schedule, 2)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.85)


def test_onecycle_gives_no_momentum_to_sgd_that_has_none() -> None:
    optimizer = sgd()
    Schedule(optimizer, ScheduleConfig(name="onecycle"), total_steps=10, warmup_steps=0)
    assert optimizer.param_groups[0]["momentum"] == 0


# cosine


def test_cosine_follows_its_closed_form() -> None:
    config = ScheduleConfig(name="cosine", warmup_epochs=1, final_lr_fraction=0.1)
    rise = [LR * (step + 1) / 5 for step in range(4)]
    fall = [LR * (0.1 + 0.9 * (1 + math.cos(math.pi * step / 16)) / 2) for step in range(16)]
    optimizer, schedule = new(config, 20, warmup_steps=4)
    assert rates(optimizer, schedule, 20) == pytest.approx(rise + fall, rel=1e-12)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * LR, rel=1e-12)


def test_cosine_without_warmup_is_torchs() -> None:
    theirs = adamw()
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=20)
    ours = rates(*new(ScheduleConfig(name="cosine"), 20), 20)
    assert ours == pytest.approx(rates(theirs, reference, 20), rel=1e-9)


@pytest.mark.parametrize("warmup_steps", [5, 9])
def test_cosine_may_be_all_warmup(warmup_steps: int) -> None:
    used = rates(*new(ScheduleConfig(name="cosine"), 5, warmup_steps), 5)
    assert used == pytest.approx([LR * (step + 1) / (warmup_steps + 1) for step in range(5)], rel=1e-12)


# plateau


def test_plateau_reduces_once_its_patience_is_over() -> None:
    optimizer, schedule = new(ScheduleConfig(name="plateau", factor=0.5, patience_epochs=2), 100)
    used = []
    for accuracy in (0.5, 0.6, 0.6, 0.5, 0.6, 0.6, 0.7):
        schedule.epoch_done({"accuracy": accuracy, "loss": 1.0})
        used.append(optimizer.param_groups[0]["lr"])
    # Two epochs without improvement pass, the third reduces; the count restarts.
    assert used == [LR, LR, LR, LR, LR / 2, LR / 2, LR / 2]


def test_plateau_on_the_loss_wants_it_lower() -> None:
    optimizer, schedule = new(ScheduleConfig(name="plateau", monitor="val_loss", factor=0.1, patience_epochs=0), 100)
    used = []
    for loss in (2.0, 1.0, 0.5, 0.6):
        schedule.epoch_done({"accuracy": 0.5, "loss": loss})
        used.append(optimizer.param_groups[0]["lr"])
    assert used == pytest.approx([LR, LR, LR, LR / 10])


@pytest.mark.parametrize(
    ("config", "needs_val"),
    [
        (ScheduleConfig(), False),
        (ScheduleConfig(name="plateau"), True),
        (ScheduleConfig(name="onecycle"), False),
        (ScheduleConfig(name="cosine"), False),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_only_plateau_needs_val(config: ScheduleConfig, needs_val: bool) -> None:
    assert config.needs_val is needs_val


# Resuming


@pytest.mark.parametrize("done", [0, 1, 9, 11, 39])
@pytest.mark.parametrize("name", ["constant", "plateau", "onecycle", "cosine"])
def test_a_schedule_resumes_from_json_with_the_same_rates(name: str, done: int) -> None:
    config = ScheduleConfig(name=name, patience_epochs=0, factor=0.7, warmup_epochs=1)  # type: ignore[arg-type]

    def train(optimizer: torch.optim.Optimizer, schedule: Schedule, steps: range) -> list[Any]:
        used = []
        for step in steps:
            used.append((optimizer.param_groups[0]["lr"], tuple(optimizer.param_groups[0]["betas"])))
            optimizer.step()
            schedule.step_done()
            if step % 4 == 3:
                schedule.epoch_done({"accuracy": [0.1, 0.3, 0.2, 0.3, 0.4, 0.1][step // 4 % 6], "loss": 1.0})
        return used

    optimizer, schedule = new(config, 40, warmup_steps=4)
    before = train(optimizer, schedule, range(done))
    saved = json.loads(json.dumps([optimizer.state_dict()["param_groups"], schedule.state_dict()]))
    continued, going_on = new(config, 40, warmup_steps=4)
    continued.load_state_dict({"param_groups": saved[0], "state": {}})
    going_on.load_state_dict(saved[1])
    after = train(continued, going_on, range(done, 40))
    assert before + after == train(*new(config, 40, warmup_steps=4), range(40))


# Early stopping


def stops(config: EarlyStoppingConfig, values: list[float]) -> list[bool]:
    stopping = EarlyStopping(config)
    key = config.monitor.removeprefix("val_")
    return [stopping.epoch_done({"accuracy": 0.0, "loss": 0.0} | {key: value}) for value in values]


def test_early_stopping_counts_epochs_in_a_row_without_improvement() -> None:
    config = EarlyStoppingConfig(patience_epochs=2)
    assert stops(config, [0.5, 0.4, 0.6, 0.6, 0.5]) == [False, False, False, False, True]


def test_early_stopping_on_the_loss_wants_it_lower() -> None:
    config = EarlyStoppingConfig(patience_epochs=2, monitor="val_loss")
    assert stops(config, [2.0, 1.0, 1.5, 0.9, 0.9, 1.0]) == [False, False, False, False, False, True]


def test_without_patience_nothing_stops_early() -> None:
    assert stops(EarlyStoppingConfig(), [0.5] * 4) == [False] * 4


def test_without_val_nothing_stops_early() -> None:
    stopping = EarlyStopping(EarlyStoppingConfig(patience_epochs=1))
    assert [stopping.epoch_done(None) for _ in range(3)] == [False] * 3


def test_early_stopping_resumes_from_json() -> None:
    config = EarlyStoppingConfig(patience_epochs=2)
    stopping = EarlyStopping(config)
    for accuracy in (0.5, 0.4):
        stopping.epoch_done({"accuracy": accuracy, "loss": 1.0})
    going_on = EarlyStopping(config)
    going_on.load_state_dict(json.loads(json.dumps(stopping.state_dict())))
    assert going_on.epoch_done({"accuracy": 0.5, "loss": 1.0}) is True
