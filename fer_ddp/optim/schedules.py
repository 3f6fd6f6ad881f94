"""Learning rate schedules (torch's own) and early stopping."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch.optim import lr_scheduler

from fer_ddp.constraints import Fraction, OpenFraction, PositiveFloat

Monitor = Literal["val_accuracy", "val_loss"]
_MODES: dict[Monitor, Literal["max", "min"]] = {"val_accuracy": "max", "val_loss": "min"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """How the learning rate changes."""

    name: Literal["constant", "plateau", "onecycle", "cosine"] = "constant"
    """plateau changes it after an epoch; onecycle and cosine after each step.

    onecycle also changes beta1 of Adam and AdamW, or SGD's momentum if it has any: from 0.95 to 0.85 and back.
    """
    monitor: Monitor = "val_accuracy"
    """plateau: the metric that has to improve."""
    factor: OpenFraction = 0.1
    """plateau: the learning rate is multiplied by this."""
    patience_epochs: NonNegativeInt = 5
    """plateau: epochs without improvement that are tolerated."""
    warmup_fraction: OpenFraction = 0.3
    """onecycle: fraction of the steps in which the learning rate rises."""
    initial_divisor: PositiveFloat = 25.0
    """onecycle: starts at lr / initial_divisor."""
    final_divisor: PositiveFloat = 1e4
    """onecycle: ends at lr / initial_divisor / final_divisor."""
    warmup_epochs: NonNegativeInt = 0
    """cosine: epochs of linear warm-up."""
    final_lr_fraction: Fraction = 0.0
    """cosine: ends at lr * final_lr_fraction."""

    @property
    def needs_val(self) -> bool:
        """Whether the schedule needs metrics of the val split."""
        return self.name == "plateau"

    @property
    def depends_on_epochs(self) -> bool:
        """Whether its curve spans all steps of the run."""
        return self.name in ("onecycle", "cosine")


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyStoppingConfig:
    """When to stop before the last epoch."""

    patience_epochs: PositiveInt | None = None
    """Stop after this many epochs in a row without improvement; null never stops early."""
    monitor: Monitor = "val_accuracy"
    """The metric that has to improve."""


class Schedule:
    """Sets an optimizer's learning rate; call ``step_done`` after each step and ``epoch_done`` after each epoch."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, config: ScheduleConfig, *, total_steps: int, warmup_steps: int
    ) -> None:
        self._monitor = config.monitor
        self._by_step: lr_scheduler.LRScheduler | None = None
        self._plateau: lr_scheduler.ReduceLROnPlateau | None = None
        if config.name == "onecycle":
            self._by_step = lr_scheduler.OneCycleLR(
                optimizer,
                max_lr=[group["lr"] for group in optimizer.param_groups],
                total_steps=total_steps,
                pct_start=_warmup_fraction(config.warmup_fraction, total_steps),
                div_factor=config.initial_divisor,
                final_div_factor=config.final_divisor,
                # SGD without momentum stays without.
                cycle_momentum=optimizer.param_groups[0].get("momentum") != 0,
            )
        elif config.name == "cosine":
            curve = _cosine(total_steps, warmup_steps, config.final_lr_fraction)
            self._by_step = lr_scheduler.LambdaLR(optimizer, curve)
        elif config.name == "plateau":
            self._plateau = lr_scheduler.ReduceLROnPlateau(
                optimizer, mode=_MODES[config.monitor], factor=config.factor, patience=config.patience_epochs
            )

    def step_done(self) -> None:
        """Call after each optimizer step."""
        if self._by_step is not None:
            self._by_step.step()

    def epoch_done(self, val: Mapping[str, Any] | None) -> None:
        """Call after each epoch's evaluation; ``val`` has ``accuracy`` and ``loss``."""
        if self._plateau is not None:
            assert val is not None, "a plateau schedule without val is refused before the run starts"
            self._plateau.step(monitored(val, self._monitor))

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        scheduler = self._by_step or self._plateau
        return {} if scheduler is None else dict(scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        scheduler = self._by_step or self._plateau
        if scheduler is not None:
            scheduler.load_state_dict(state)


def _warmup_fraction(warmup_fraction: float, total_steps: int) -> float:
    """The fraction for torch's OneCycleLR, which divides by zero if the warm-up is exactly one step long."""
    return warmup_fraction if warmup_fraction * total_steps != 1 else warmup_fraction * (1 - 1e-9)


def _cosine(total_steps: int, warmup_steps: int, final_fraction: float) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017, SGDR, without restarts)."""

    def fraction(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    return fraction


def monitored(val: Mapping[str, Any], monitor: Monitor) -> float:
    """The metric that ``monitor`` names."""
    return float(val[monitor.removeprefix("val_")])


class EarlyStopping:
    """Counts epochs without improvement."""

    def __init__(self, config: EarlyStoppingConfig) -> None:
        self._config = config
        self.best: float | None = None
        self.epochs_without_improvement = 0

    def epoch_done(self, val: Mapping[str, Any] | None) -> bool:
        """Call after each epoch's evaluation; returns whether to stop now."""
        stop_now = self.stops_after(val)
        if val is not None and self._config.patience_epochs is not None:
            if self._improves(val):
                self.best, self.epochs_without_improvement = monitored(val, self._config.monitor), 0
            else:
                self.epochs_without_improvement += 1
        return stop_now

    def stops_after(self, val: Mapping[str, Any] | None) -> bool:
        """What `epoch_done` will return, without counting the epoch."""
        if self._config.patience_epochs is None or val is None or self._improves(val):
            return False
        return self.epochs_without_improvement + 1 >= self._config.patience_epochs

    def _improves(self, val: Mapping[str, Any]) -> bool:
        value = monitored(val, self._config.monitor)
        higher_is_better = _MODES[self._config.monitor] == "max"
        return self.best is None or (value > self.best if higher_is_better else value < self.best)

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"best": self.best, "epochs_without_improvement": self.epochs_without_improvement}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.best = state["best"]
        self.epochs_without_improvement = state["epochs_without_improvement"]
