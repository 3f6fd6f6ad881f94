"""The state of a run at a step: everything needed to resume it, as one dictionary for one checkpoint."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fer_ddp import distributed
from fer_ddp.errors import RunError
from fer_ddp.metrics.classification import ValidationMetrics
from fer_ddp.optim.label_correction import LabelCorrection
from fer_ddp.optim.schedules import EarlyStopping, Schedule

_NEVER = 2**62


@dataclass(kw_only=True)
class TrainingState:
    """The model and everything that changes with it."""

    model: nn.Module
    """The bare model, not DDP's wrapper."""
    ema: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    schedule: Schedule
    early_stopping: EarlyStopping
    label_correction: LabelCorrection | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    """Whose state it is, see `fer_ddp.config.job.identity`; compared when it is loaded."""
    image_shape: tuple[int, int, int]
    """(channels, height, width) of its input images."""
    class_names: tuple[str, ...]
    """The names of its outputs, in order."""
    untrained_classes: tuple[str, ...] = ()
    """Those that train has no sample of."""
    step: int = 0
    """Completed steps."""
    lr: float = 0.0
    """The learning rate of the last completed step."""
    epoch: int = 0
    """Completed epochs, evaluated where they are to be."""
    best_accuracy: float | None = None
    """The best val accuracy so far."""
    logged_steps: int = 0
    """How many lines of ``steps.jsonl`` were written by then."""

    def __post_init__(self) -> None:
        device = next(self.model.parameters()).device
        # Sums on this rank: loss, correct predictions and images. On the device, so that no step waits for it.
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._seen = torch.zeros((), dtype=torch.int64, device=device)
        self._first_bad_step = torch.full((), _NEVER, dtype=torch.int64, device=device)

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that validation, ``best`` and predictions use: the average where there is one."""
        return self.model if self.ema is None else self.ema.module

    def about_bytes(self) -> int:
        """About the size of a saved state: the weights, their average, and two moments of the optimizer."""
        weights: int = sum(tensor.nbytes for tensor in self.model.state_dict().values())
        return weights * (3 if self.ema is None else 4)

    @contextmanager
    def preserve_state(self) -> Iterator[None]:
        """Restore buffers and sums afterwards, so that a forward and backward pass inside changes only gradients."""
        changed = [*self.model.buffers(), *self._sums().values()]
        before = [tensor.clone() for tensor in changed]
        try:
            yield
        finally:
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)

    def count_correct(self, logits: Tensor, labels: Tensor) -> None:
        """Count correct predictions; logits: (batch, classes), labels: int64 (batch,)."""
        self._correct += (logits.detach().argmax(dim=1) == labels).sum()
        self._seen += len(labels)

    def step_done(self, loss: Tensor, is_bad: Tensor) -> None:
        """``loss`` is this rank's part of the global mean, a float64 scalar; ``is_bad``: whether it is not finite."""
        self.step += 1
        self.lr = float(self.optimizer.param_groups[0]["lr"])
        self.schedule.step_done()
        self._loss_sum += loss
        # A product, since torch.where would copy its two numbers to the device and wait for that.
        bad = _NEVER - is_bad * (_NEVER - self.step)
        self._first_bad_step = torch.minimum(self._first_bad_step, bad)

    @property
    def has_diverged(self) -> bool:
        """Whether this rank's loss was not finite; always False on a GPU, since reading it would wait for the GPU."""
        return self._first_bad_step.device.type == "cpu" and int(self._first_bad_step) < _NEVER

    def check_finite(self) -> None:
        """Raises RunError on every rank if any rank's loss was not finite. Waits for the device."""
        first = int(distributed.gather_tensors(self._first_bad_step).min())
        if first < _NEVER:
            raise RunError(
                f"the loss was not finite at step {first}; the last good state is kept: "
                f"try a lower optimizer.lr, optimizer.gradient_clip_norm=1 or precision=float32"
            )

    def train_metrics(self, epoch_steps: int) -> dict[str, float]:
        """The epoch's mean loss and accuracy on the (augmented) training images, over all ranks."""
        loss, correct, seen = (
            distributed.gather_tensors(value).sum().item() for value in (self._loss_sum, self._correct, self._seen)
        )
        return {"loss": loss / epoch_steps, "accuracy": correct / seen}

    def epoch_done(self, val: ValidationMetrics | None) -> tuple[bool, bool]:
        """Finish an epoch after its evaluation; returns (these weights are the best so far, stop now)."""
        self.epoch += 1
        for value in (self._loss_sum, self._correct, self._seen):
            value.zero_()
        self.schedule.epoch_done(val)
        is_best = val is not None and (self.best_accuracy is None or val["accuracy"] > self.best_accuracy)
        if is_best and val is not None:
            self.best_accuracy = val["accuracy"]
        return is_best, self.early_stopping.epoch_done(val)

    def state_dict(self) -> dict[str, Any]:
        """Call it on all ranks at the same step, since it gathers their sums. The keys are those of old checkpoints."""
        state: dict[str, Any] = {
            "step": self.step,
            "lr": self.lr,
            "epoch": self.epoch,
            "best_accuracy": self.best_accuracy,
            "logged_steps": self.logged_steps,
            "identity": self.identity,
            "image_shape": list(self.image_shape),
            "class_names": list(self.class_names),
            "network": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state_dict(),
            "early_stopping": self.early_stopping.state_dict(),
            "sums": {name: distributed.gather_tensors(value) for name, value in self._sums().items()},
        }
        if self.label_correction is not None:
            state["targets"] = self.label_correction.targets
        return state | self._untrained()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, on any number of ranks.

        Raises KeyError, TypeError, ValueError or RuntimeError for a state of another job.
        """
        self._check(state)
        self.step, self.lr = state["step"], state["lr"]
        self.epoch, self.best_accuracy = state["epoch"], state["best_accuracy"]
        self.logged_steps = state.get("logged_steps", 0)  # which earlier versions did not count
        self.model.load_state_dict(state["network"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(_with_own_constants(self.optimizer, state["optimizer"]))
        _lay_out_as_parameters(self.optimizer)
        self.scaler.load_state_dict(state["scaler"])
        self.schedule.load_state_dict(state["schedule"])
        self.early_stopping.load_state_dict(state["early_stopping"])
        if self.label_correction is not None:
            self.label_correction.targets.copy_(state["targets"])
        for name, value in self._sums().items():
            by_rank = state["sums"][name]
            if len(by_rank) == distributed.world_size():
                value.copy_(by_rank[distributed.rank()])
            elif distributed.is_main():  # on another number of ranks, rank zero has the sum
                value.copy_(by_rank.sum())

    def _check(self, state: dict[str, Any]) -> None:
        counts = [state["step"], state["epoch"], state.get("logged_steps", 0)]
        counts.append(state["early_stopping"]["epochs_without_improvement"])
        if not all(type(count) is int and 0 <= count < _NEVER for count in counts):
            raise ValueError("a count is not a whole number")
        numbers = [state["lr"], state["best_accuracy"] or 0, state["early_stopping"]["best"] or 0]
        if not all(_is_number(number) for number in numbers):
            raise ValueError("a measure is not a number")
        for saved, own in ((state["network"], self.model), (state["ema"], self.ema)):
            if own is not None and any(saved[key].dtype != value.dtype for key, value in own.state_dict().items()):
                raise ValueError("weights have another dtype")
        _check_like(state["schedule"], self.schedule.state_dict())
        _check_moments(self.optimizer, state["optimizer"])
        for name, value in self._sums().items():
            if state["sums"][name].dtype != value.dtype or state["sums"][name].dim() != 1:
                raise ValueError(f"the sums of {name} are not those of ranks")

    def weights(self) -> dict[str, Any]:
        """The content of the ``best`` checkpoint: the evaluated model's weights and what is needed to use them."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "identity": self.identity,
            "image_shape": list(self.image_shape),
            "class_names": list(self.class_names),
            "network": self.evaluated_model.state_dict(),
        } | self._untrained()

    def _untrained(self) -> dict[str, Any]:
        return {"untrained_classes": list(self.untrained_classes)} if self.untrained_classes else {}

    def _sums(self) -> dict[str, Tensor]:
        return {"loss": self._loss_sum, "right": self._correct, "seen": self._seen}


_CHANGE = ("lr", "momentum", "betas")
"""The constants of an optimizer that a schedule changes."""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _check_like(saved: Any, own: Any) -> None:
    """Raises ValueError where ``saved`` has another structure than ``own``; keys may be absent."""
    if isinstance(own, dict):
        alike = isinstance(saved, dict) and saved.keys() <= own.keys()
    elif isinstance(own, list | tuple):
        alike = isinstance(saved, list | tuple) and len(saved) == len(own)
    elif isinstance(own, bool) or not isinstance(own, int | float):
        alike = own is None or type(saved) is type(own)
    else:
        alike = type(saved) in (int, float) and not math.isnan(saved)
    if not alike:
        raise ValueError(f"{saved} is not like {own}")
    for key in saved if isinstance(own, dict) else range(len(own)) if isinstance(own, list | tuple) else ():
        _check_like(saved[key], own[key])


def _check_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Raises ValueError unless the moments are those of the parameters: fused optimizers write to them unchecked."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    groups = optimizer.state_dict()["param_groups"]
    for index, moments in saved["state"].items():
        group = next((each for each in groups if index in each["params"]), None)
        if group is None:
            raise ValueError(f"there is no parameter {index}")
        names = {"exp_avg", "exp_avg_sq", "step"}
        if isinstance(optimizer, torch.optim.SGD) or group.get("kind") == "muon":
            names = {"momentum_buffer"}
        if moments and set(moments) != names:
            raise ValueError(f"parameter {index} has other moments")
        for name, value in moments.items():
            shape, dtype = parameters[index].shape, parameters[index].dtype
            if name == "step":
                shape, dtype = torch.Size(), torch.float32
            if value is None and name == "momentum_buffer":  # without momentum
                continue
            if not isinstance(value, Tensor) or value.shape != shape or value.dtype != dtype:
                raise ValueError(f"{name} of parameter {index} has another shape or dtype")


def _with_own_constants(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """``saved`` with the constants of ``optimizer``, which are the job's, but those that its schedule changes."""
    groups = []
    for own, theirs in zip(optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True):
        changed = {key: theirs[key] for key in _CHANGE if key in own}
        for key, value in changed.items():
            values = value if isinstance(value, list | tuple) else [value]
            if not all(_is_number(each) and each >= 0 for each in values):
                raise ValueError(f"{key} is not a number")
            if key == "betas" and len(values) != 2:
                raise ValueError("betas are two numbers")
        if own["params"] != theirs["params"]:
            raise ValueError("the groups have other parameters")
        groups.append(own | changed)
    return {"state": saved["state"], "param_groups": groups}


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give each parameter's moments its memory format, which a checkpoint loses.

    Fused optimizers pair the two in memory order, so different formats would pair the wrong elements.
    """
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
