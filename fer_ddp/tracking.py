"""The only module that talks to Weights & Biases. It never stops a run: what fails is said once and left."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbConfig:
    """Where the run is logged besides its folder."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    """offline writes into the run folder; ``wandb sync`` sends it later."""
    project: str = "fer-ddp"
    """The project's name."""
    group: str | None = None
    """Runs that belong together."""


CONNECT_SECONDS = 10
"""How long an online start may take before the run goes on offline."""


class Tracker:
    """One W&B run with a line an epoch, or nothing where it is disabled or broken."""

    def __init__(self, wandb_run: Any) -> None:
        self._run = wandb_run

    @staticmethod
    def none() -> "Tracker":
        """A tracker that does nothing."""
        return Tracker(None)

    @staticmethod
    def start(config: WandbConfig, folder: Path, job: dict[str, Any], past: list[dict[str, Any]]) -> "Tracker":
        """Start the W&B run of ``folder`` and log the ``past`` lines of a continued one."""
        if config.mode == "disabled":
            return Tracker.none()
        try:
            tracker = Tracker(_start(config, folder, job))
        except Exception as error:  # noqa: BLE001  whatever wandb raises, the run goes on
            print(f"W&B: could not start ({type(error).__name__}: {error}); this run is not logged there", flush=True)
            return Tracker.none()
        for line in past:
            tracker.epoch(line)
        return tracker

    def epoch(self, line: dict[str, Any]) -> None:
        """Log a line of ``metrics.jsonl``."""
        flat = {"epoch": line["epoch"], "lr": line["lr"]}
        for split in ("train", "val"):
            flat |= {f"{split}/{name}": value for name, value in line.get(split, {}).items()}
        self._try(lambda run: run.log(flat, step=line["epoch"]))

    def finish(self, summary: dict[str, Any], confusion: dict[str, list[list[int]]], class_names: list[str]) -> None:
        """Log the summary and the confusion matrices (counts, by split), and end the W&B run."""

        def send(run: Any) -> None:
            import wandb

            charts = {}
            for split, counts in confusion.items():
                pairs = [
                    (true, predicted)
                    for true, row in enumerate(counts)
                    for predicted, count in enumerate(row)
                    for _ in range(count)
                ]
                charts[f"{split}/confusion_matrix"] = wandb.plot.confusion_matrix(
                    y_true=[true for true, _ in pairs],
                    preds=[predicted for _, predicted in pairs],
                    class_names=class_names,
                    title=f"Confusion on {split}",
                )
            run.log(charts)
            run.summary.update(summary)
            run.finish()

        self._try(send)
        self._run = None

    def stop(self) -> None:
        """End the W&B run of a training that did not finish; after `finish` nothing."""
        self._try(lambda run: run.finish(exit_code=1))
        self._run = None

    def _try(self, action: Any) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:  # noqa: BLE001  whatever wandb raises, the run goes on
            self._run = None
            print(f"W&B: stopped ({type(error).__name__}: {error}); the run goes on without it", flush=True)


def _start(config: WandbConfig, folder: Path, job: dict[str, Any]) -> Any:
    import wandb

    def start(mode: Literal["offline", "online"]) -> Any:
        return wandb.init(
            mode=mode,
            project=config.project,
            group=config.group,
            name=folder.name,
            id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
            dir=folder,
            config=job,
            settings=wandb.Settings(
                init_timeout=CONNECT_SECONDS,
                silent=True,
                console="off",
                x_disable_stats=True,
                disable_git=True,
                save_code=False,
            ),
        )

    if config.mode == "online":
        try:
            return start("online")
        except wandb.errors.CommError as error:
            print(f"W&B: no connection ({error}); logging offline, `wandb sync` sends it later", file=sys.stderr)
    return start("offline")
