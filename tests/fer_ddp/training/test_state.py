"""The state of a run by itself: what is counted, what is saved, and that what is loaded is what was saved."""

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fer_ddp import distributed
from fer_ddp.errors import RunError
from fer_ddp.metrics.classification import ValidationMetrics
from fer_ddp.optim.ema import EmaConfig, build_ema, update_ema
from fer_ddp.optim.label_correction import LabelCorrection, LabelCorrectionConfig
from fer_ddp.optim.schedules import EarlyStopping, EarlyStoppingConfig, Schedule, ScheduleConfig
from fer_ddp.runs.checkpoint import load_checkpoint, save_checkpoint
from fer_ddp.training.state import TrainingState


def new_state(
    *, seed: int = 0, ema: bool = False, corrects_labels: bool = False, model: nn.Module | None = None, **others: Any
) -> TrainingState:
    """A convolution in channels_last and a batch norm, Adam, and a cosine of 10 steps from a rate of 0.1 to 0."""
    torch.manual_seed(seed)
    if model is None:
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    labels = LabelCorrectionConfig(momentum=0.5)
    return TrainingState(
        model=model,
        ema=build_ema(model, EmaConfig(decay=0.5)) if ema else None,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler("cpu"),
        schedule=Schedule(optimizer, ScheduleConfig(name="cosine"), total_steps=10, warmup_steps=0),
        early_stopping=EarlyStopping(EarlyStoppingConfig(patience_epochs=2)),
        label_correction=LabelCorrection(torch.tensor([0, 1, 1]), 2, labels, torch.float32)
        if corrects_labels
        else None,
        image_shape=(2, 5, 5),
        class_names=("happy", "sad"),
        **others,
    )


def take_step(state: TrainingState, loss: float = 0.5, bad: bool = False) -> None:
    state.optimizer.zero_grad()
    state.model(torch.randn(4, 2, 5, 5)).square().mean().backward()
    state.optimizer.step()
    if state.ema is not None:
        update_ema(state.ema, state.model, EmaConfig(decay=0.5))
    state.step_done(torch.tensor(loss, dtype=torch.float64), torch.tensor(bad))


def take_linear_step(state: TrainingState) -> None:
    state.model(torch.randn(2, 300)).square().mean().backward()
    state.optimizer.step()


def metrics(accuracy: float) -> ValidationMetrics:
    return {"loss": 1 - accuracy, "accuracy": accuracy, "macro_f1": 0.0, "balanced_accuracy": 0.0}


def scores(correct: int, wrong: int) -> tuple[Tensor, Tensor]:
    """Logits of two classes in turn, and labels with which so many of them agree."""
    predicted = torch.arange(correct + wrong) % 2
    labels = torch.where(torch.arange(correct + wrong) < correct, predicted, 1 - predicted)
    return nn.functional.one_hot(predicted, 2).double().requires_grad_(), labels


def assert_equal(first: Any, second: Any) -> None:
    """Of nested states: the same structure, and tensors of equal dtype and values."""
    if isinstance(first, Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    else:
        assert first == second


# What is counted


def test_an_epochs_loss_is_the_mean_over_its_steps_and_its_accuracy_that_over_its_images() -> None:
    state = new_state()
    for loss, correct, wrong in ((0.5, 3, 1), (0.25, 1, 1)):
        state.count_correct(*scores(correct, wrong))
        take_step(state, loss)
    assert state.train_metrics(2) == {"loss": 0.375, "accuracy": 4 / 6}


def test_the_next_epoch_counts_from_zero() -> None:
    state = new_state()
    state.count_correct(*scores(3, 1))
    take_step(state, 0.5)
    state.epoch_done(None)
    state.count_correct(*scores(1, 3))
    take_step(state, 0.125)
    assert state.train_metrics(1) == {"loss": 0.125, "accuracy": 0.25}


def test_the_rate_that_is_kept_is_the_one_of_the_step_and_the_schedule_moves_after_it() -> None:
    state = new_state()
    assert (state.step, state.lr) == (0, 0.0)
    rates = []
    for _ in range(3):
        take_step(state)
        rates.append(state.lr)
    assert state.step == 3
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 10)) for step in range(3)])


def test_the_first_step_whose_loss_was_not_finite_is_named() -> None:
    state = new_state()
    take_step(state)
    assert not state.has_diverged
    state.check_finite()
    for bad in (True, False, True):
        take_step(state, bad=bad)
        assert state.has_diverged
    message = (
        r"^the loss was not finite at step 2; the last good state is kept: "
        r"try a lower optimizer\.lr, optimizer\.gradient_clip_norm=1 or precision=float32$"
    )
    with pytest.raises(RunError, match=message):
        state.check_finite()


def test_on_another_device_than_the_cpu_no_step_waits_for_what_is_counted_there() -> None:
    meta = torch.device("meta")  # the one other device that every machine has; it holds no number to wait for
    model = nn.Linear(2, 2, device=meta)
    state = new_state(model=model)
    state.optimizer.step()
    state.count_correct(model(torch.ones(4, 2, device=meta)), torch.zeros(4, dtype=torch.int64, device=meta))
    state.step_done(torch.zeros((), dtype=torch.float64, device=meta), torch.ones((), dtype=torch.bool, device=meta))
    assert not state.has_diverged
    assert {value.device for value in state.state_dict()["sums"].values()} == {meta}


def test_weights_are_the_best_where_they_are_better_than_all_before() -> None:
    state = new_state()
    outcomes = [state.epoch_done(val) for val in (None, metrics(0.5), metrics(0.5), metrics(0.6), metrics(0.4))]
    assert [is_best for is_best, _ in outcomes] == [False, True, False, True, False]
    assert (state.epoch, state.best_accuracy) == (5, 0.6)


def test_training_stops_after_so_many_epochs_without_improvement() -> None:
    state = new_state()
    assert [state.epoch_done(metrics(value))[1] for value in (0.5, 0.5, 0.4)] == [False, False, True]


def test_a_plateau_schedule_sees_the_epochs_metrics() -> None:
    state = new_state()
    plateau = ScheduleConfig(name="plateau", patience_epochs=0)
    state.schedule = Schedule(state.optimizer, plateau, total_steps=10, warmup_steps=0)
    for value in (0.5, 0.5):
        state.epoch_done(metrics(value))
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize("fails", [False, True])
def test_a_pass_inside_preserve_state_changes_gradients_alone(fails: bool) -> None:
    state = new_state()
    state.count_correct(*scores(3, 1))
    take_step(state)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    with contextlib.suppress(ZeroDivisionError), state.preserve_state():
        state.model(torch.randn(4, 2, 5, 5)).sum().backward()
        state.count_correct(*scores(0, 4))
        assert not torch.equal(before["1.running_mean"], state.model.state_dict()["1.running_mean"])
        if fails:
            raise ZeroDivisionError
    assert_equal(dict(state.model.state_dict()), before)
    assert state.train_metrics(1) == {"loss": 0.5, "accuracy": 0.75}


# What is saved


def advanced(**others: Any) -> TrainingState:
    """A state in which nothing has its initial value."""
    state = new_state(ema=True, corrects_labels=True, identity={"seed": 7}, untrained_classes=("sad",), **others)
    for value in (0.5, 0.4):
        take_step(state)
        state.epoch_done(metrics(value))
    assert state.label_correction is not None
    state.label_correction.corrected(torch.tensor([0, 2]), torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    state.count_correct(*scores(3, 1))
    take_step(state, 0.1)
    state.logged_steps = 2
    return state


def test_a_state_that_is_written_and_loaded_continues_as_if_it_had_not_been(tmp_path: Path) -> None:
    state = advanced()
    save_checkpoint(tmp_path / "last.safetensors", state.state_dict())
    loaded = new_state(seed=1, ema=True, corrects_labels=True, identity={"seed": 7}, untrained_classes=("sad",))
    loaded.load_state_dict(load_checkpoint(tmp_path / "last.safetensors"))
    assert_equal(loaded.state_dict(), state.state_dict())
    assert loaded.train_metrics(1) == {"loss": 0.1, "accuracy": 0.75}
    for each in (state, loaded):
        torch.manual_seed(2)
        take_step(each)
        each.epoch_done(metrics(0.4))
    assert_equal(loaded.state_dict(), state.state_dict())


def test_a_state_has_the_keys_of_old_checkpoints() -> None:
    state = advanced().state_dict()
    assert {key: value for key, value in state.items() if isinstance(value, (int, float, list))} == {
        "step": 3,
        "lr": pytest.approx(0.05 * (1 + math.cos(0.2 * math.pi))),
        "epoch": 2,
        "best_accuracy": 0.5,
        "logged_steps": 2,
        "image_shape": [2, 5, 5],
        "class_names": ["happy", "sad"],
        "untrained_classes": ["sad"],
    }
    assert state["identity"] == {"seed": 7}
    assert {name: (value.dtype, value.tolist()) for name, value in state["sums"].items()} == {
        "loss": (torch.float64, [0.1]),
        "right": (torch.int64, [3]),
        "seen": (torch.int64, [4]),
    }
    assert {key for key, value in state.items() if isinstance(value, dict) or key == "targets"} == {
        *("identity", "network", "ema", "optimizer", "scaler", "schedule", "early_stopping", "sums", "targets")
    }


def test_the_best_weights_are_those_that_were_evaluated() -> None:
    state = advanced()
    assert state.ema is not None
    weights = state.weights()
    assert_equal(dict(weights.pop("network")), dict(state.ema.module.state_dict()))
    assert weights == {
        "step": 3,
        "epoch": 2,
        "identity": {"seed": 7},
        "image_shape": [2, 5, 5],
        "class_names": ["happy", "sad"],
        "untrained_classes": ["sad"],
    }


def test_without_an_average_and_with_samples_of_each_class_there_is_less_to_keep() -> None:
    state = new_state()
    assert state.evaluated_model is state.model
    saved = state.state_dict()
    assert saved["ema"] is None
    assert not {"targets", "untrained_classes"} & saved.keys()
    assert "untrained_classes" not in state.weights()
    new_state(seed=1).load_state_dict(saved)


def test_a_state_of_a_version_that_did_not_count_lines_is_loaded() -> None:
    saved = new_state().state_dict()
    del saved["logged_steps"]
    state = advanced()
    state.load_state_dict({**saved, "ema": state.state_dict()["ema"], "targets": state.state_dict()["targets"]})
    assert state.logged_steps == 0


def test_a_state_is_about_as_large_as_its_file(tmp_path: Path) -> None:
    for ema in (False, True):
        state = new_state(ema=ema, model=nn.Linear(300, 300))
        take_linear_step(state)
        save_checkpoint(tmp_path / "last.safetensors", state.state_dict())
        assert state.about_bytes() == pytest.approx((tmp_path / "last.safetensors").stat().st_size, rel=0.01)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("optimizer", "state", 0, "exp_avg"), torch.zeros(1)),
        (("optimizer", "state", 0, "exp_avg"), torch.zeros(3, 2, 3, 3, dtype=torch.int64)),
        (("optimizer", "state", 0, "step"), torch.zeros(4)),
        (("optimizer", "state", 0), {"step": torch.zeros(())}),
        (("optimizer", "state", 99), {}),
        (("optimizer", "param_groups", 0, "lr"), "x"),
        (("optimizer", "param_groups", 0, "params"), [0]),
        (("network", "0.weight"), torch.zeros(3, 2, 3, 3, dtype=torch.int64)),
        (("ema", "module.0.weight"), torch.zeros(3, 2, 3, 3, dtype=torch.float64)),
        (("schedule", "last_epoch"), "x"),
        (("early_stopping", "epochs_without_improvement"), 0.5),
        (("sums", "seen"), torch.zeros(2)),
        (("best_accuracy",), "x"),
        (("epoch",), -1),
        (("step",), True),
    ],
    ids=str,
)
def test_a_state_that_does_not_fit_is_refused(keys: tuple[Any, ...], value: object) -> None:
    saved = advanced().state_dict()
    inner: Any = saved
    for key in keys[:-1]:
        if isinstance(inner[key], dict):
            inner[key] = dict(inner[key])
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises(ValueError, match=r"not|other|no parameter"):
        new_state(ema=True, corrects_labels=True).load_state_dict(saved)


def test_the_constants_of_the_optimizer_are_the_jobs() -> None:
    saved = advanced().state_dict()
    saved["optimizer"]["param_groups"][0] |= {"weight_decay": 100, "maximize": True}
    state = new_state(ema=True, corrects_labels=True)
    state.load_state_dict(saved)
    group = state.optimizer.param_groups[0]
    assert (group["weight_decay"], group["maximize"]) == (0, False)
    assert group["lr"] == saved["optimizer"]["param_groups"][0]["lr"] < 0.1


def test_moments_are_laid_out_as_their_parameters_also_after_loading(tmp_path: Path) -> None:
    state = advanced()
    save_checkpoint(tmp_path / "last.safetensors", state.state_dict())
    loaded = new_state(seed=1, ema=True, corrects_labels=True)
    loaded.load_state_dict(load_checkpoint(tmp_path / "last.safetensors"))
    weight = next(loaded.model.parameters())
    moments = loaded.optimizer.state[weight]
    assert moments["exp_avg"].stride() == weight.stride() != weight.contiguous().stride()
    assert moments["step"].shape == ()


def test_the_number_of_steps_of_a_single_float64_weight_keeps_its_dtype() -> None:
    """It has the weight's shape, as moments have."""
    weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    state = new_state()
    state.optimizer = torch.optim.Adam([weight])
    weight.square().backward()
    state.optimizer.step()
    state.load_state_dict(state.state_dict())
    assert {name: value.dtype for name, value in state.optimizer.state[weight].items()} == {
        "step": torch.float32,
        "exp_avg": torch.float64,
        "exp_avg_sq": torch.float64,
    }


@pytest.mark.parametrize(
    ("ranks", "rank", "seen"),
    [(2, 0, 4), (2, 1, 6), (1, 0, 10), (4, 0, 10), (4, 3, 0)],
    ids=["the same", "the same, rank one", "one", "more", "more, rank three"],
)
def test_on_another_number_of_ranks_rank_zero_has_the_sums(
    monkeypatch: pytest.MonkeyPatch, ranks: int, rank: int, seen: int
) -> None:
    saved = new_state().state_dict()
    saved["sums"] = {
        "loss": torch.tensor([0.5, 0.25], dtype=torch.float64),
        "right": torch.tensor([3, 1]),
        "seen": torch.tensor([4, 6]),
    }
    state = new_state()
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "world_size", lambda: ranks)
        patch.setattr(distributed, "rank", lambda: rank)
        patch.setattr(distributed, "is_main", lambda: rank == 0)
        state.load_state_dict(saved)
    assert state.state_dict()["sums"]["seen"].tolist() == [seen]
