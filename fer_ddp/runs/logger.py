"""What rank zero prints, and writes into the run folder as it trains."""

import sys
import time
from typing import Any

from tqdm import tqdm

from fer_ddp.runs.files import intact_lines, write_metrics_csv
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.health import Disk, Memory, Speed
from fer_ddp.text import duration


class NullLogger:
    """The other ranks print nothing but warnings."""

    def __init__(self) -> None:
        self._memory = Memory()

    def begin_epoch(self, epoch: int, first_step: int, last_step: int) -> None:
        """Nothing."""

    def step(self) -> None:
        """Nothing."""

    def steps_done(self) -> None:
        """Nothing."""

    def log_step(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def epoch(self, line: dict[str, Any]) -> None:
        """After each epoch's evaluation."""
        self._memory.epoch(line["epoch"])


class RunLogger(NullLogger):
    """Rank zero's logger: a bar on a terminal, a line an epoch anywhere.

    ``state_bytes``: about the size of a state, until there is one; without ``is_even``, as where the training images
    grow, the epochs' speeds are not compared.
    """

    def __init__(
        self, run: RunFolder, *, epochs: int, global_batch_size: int, state_bytes: int = 0, is_even: bool = True
    ) -> None:
        super().__init__()
        self._run = run
        self._disk, self._speed, self._is_even = Disk(run.path), Speed(), is_even
        self._disk.check(state_bytes)
        self._epochs, self._global_batch_size = epochs, global_batch_size
        self._is_told_of_lines = False
        self._bar: tqdm[Any] | None = None
        self._first_step, self._last_step, self._started, self._train_seconds = 0, 0, 0.0, 0.0
        self._step, self._total_steps, self._step_seconds = 0, 0, 0.0

    def begin_epoch(self, epoch: int, first_step: int, last_step: int) -> None:
        """Before the epoch's first step here."""
        self._run.write_status("running", epoch=epoch, step=first_step)
        self._first_step, self._last_step, self._started = first_step, last_step, time.perf_counter()
        self._step, self._total_steps = first_step, round(last_step / epoch * self._epochs)
        self._bar = tqdm(
            total=last_step - first_step,
            desc=f"epoch {epoch}/{self._epochs}",
            unit="step",
            leave=False,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {rate_fmt}{postfix}",
            disable=not sys.stderr.isatty(),
        )

    def step(self) -> None:
        """After each step."""
        assert self._bar is not None
        self._step += 1
        if not self._bar.disable:
            self._bar.set_postfix_str(f"{duration(self._seconds_left() or 0)} left in all", refresh=False)
        self._bar.update()

    def steps_done(self) -> None:
        """After the epoch's last step, before its evaluation."""
        assert self._bar is not None
        self._bar.close()
        self._train_seconds = time.perf_counter() - self._started

    def log_step(self, line: dict[str, Any]) -> None:
        """``line`` goes into ``steps.jsonl``."""
        self._run.append_line("steps.jsonl", line)

    def epoch(self, line: dict[str, Any]) -> None:
        """After each epoch's evaluation; ``line`` goes into ``metrics.jsonl``."""
        images = (self._last_step - self._first_step) * self._global_batch_size
        timing = {
            "epoch": line["epoch"],
            "seconds": time.perf_counter() - self._started,
            "train_seconds": self._train_seconds,
            "images_per_second": images / self._train_seconds if images else 0.0,
        }
        if images:
            self._step_seconds = timing["seconds"] / (self._last_step - self._first_step)
        if images or all(line["epoch"] != each["epoch"] for each in intact_lines(self._run.path / "timing.jsonl")):
            self._run.append_line("timing.jsonl", timing)  # first, so that whoever follows metrics.jsonl finds it
        self._run.append_line("metrics.jsonl", line)
        write_metrics_csv(self._run.path)
        there = len(intact_lines(self._run.path / "metrics.jsonl"))
        if there < line["epoch"] and not self._is_told_of_lines:
            print(
                f"{self._run.path / 'metrics.jsonl'}: has {there} of {line['epoch']} lines; the others are lost",
                flush=True,
            )
            self._is_told_of_lines = True
        print(epoch_line(line, self._epochs, timing, self._seconds_left()), flush=True)
        super().epoch(line)
        self._disk.check(self._run.state_bytes())
        if self._is_even:
            self._speed.epoch(line["epoch"], timing["images_per_second"], self._train_seconds)

    def _seconds_left(self) -> float | None:
        """Until the last epoch's end: at the pace of the epoch before, evaluation included, or of this first one.

        None where no step was taken yet, after an evaluation that was repeated.
        """
        steps_here = self._step - self._first_step
        if not self._step_seconds and not steps_here:
            return None
        pace = self._step_seconds or (time.perf_counter() - self._started) / steps_here
        return (self._total_steps - self._step) * pace


def epoch_line(line: dict[str, Any], epochs: int, timing: dict[str, float], seconds_left: float | None) -> str:
    """One line for an epoch: what was learned, how it validates, how fast it went, and how long the run still takes."""
    train = f"train loss {line['train']['loss']:.4f} accuracy {line['train']['accuracy']:.4f}"
    val = line.get("val")
    measured = f"  val loss {val['loss']:.4f} accuracy {val['accuracy']:.4f}" if val else ""
    width = len(str(epochs))
    return (
        f"epoch {line['epoch']:>{width}}/{epochs}  {train}{measured}  lr {line['lr']:.2e}  "
        f"{timing['seconds']:.1f} s"
        + (f"  {timing['images_per_second']:,.0f} images/s" if timing["images_per_second"] else "  evaluated again")
        + (f"  {duration(seconds_left)} left" if seconds_left is not None and line["epoch"] < epochs else "")
    )
