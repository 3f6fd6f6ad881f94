"""``python -m fer_ddp train`` as a process: the time to its first step, what takes it, and its memory."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.data import RECIPES, Data
from bench.sizes import Sizes
from bench.table import Result, Row
from fer_ddp.data.dataset import FERDataset


def start_results(data: Data, sizes: Sizes) -> list[Result]:
    FERDataset(data.folder, "train")  # cached from here on
    FERDataset(data.folder, "val")
    return [_to_first_step(data, sizes), *_memory(data, sizes)]


def _to_first_step(data: Data, sizes: Sizes) -> Row:
    size = [] if sizes.batch_size is None else [f"global_batch_size={sizes.batch_size}"]
    starts: dict[str, Callable[[str], float]] = {
        "whole": lambda run: _seconds_to_first_step(data, run, size),
        "torch": lambda run: _seconds_to_import("torch"),
    }
    if sizes.starts > 1:
        no_wandb = [*size, "wandb.mode=disabled"]
        settled = [*no_wandb, "precision=float32", "memory_format=contiguous"]
        starts["modules"] = lambda run: _seconds_to_import("fer_ddp.training.run")
        starts["settled"] = lambda run: _seconds_to_first_step(data, run, settled)
        starts["no wandb"] = lambda run: _seconds_to_first_step(data, run, no_wandb)
    uncounted = 1 if sizes.starts > 1 else 0
    rounds = [
        {name: start(f"start-{number}-{name}") for name, start in starts.items()}
        for number in range(uncounted + sizes.starts)
    ][uncounted:]
    medians = {name: statistics.median(each[name] for each in rounds) for name in starts}
    note = f"under 6 s is the aim; of it import torch {medians['torch']:.2f} s"
    if sizes.starts > 1:
        note += (
            f", the other modules {medians['modules'] - medians['torch']:.2f} s, data, model and run folder "
            f"{medians['settled'] - medians['modules']:.2f} s, choosing precision and layout "
            f"{medians['no wandb'] - medians['settled']:.2f} s, W&B's start (offline) "
            f"{medians['whole'] - medians['no wandb']:.2f} s (differences of whole processes' medians)"
        )
    return Row(
        stage="start to first step, cached",
        against="",
        unit="s",
        ours=medians["whole"],
        note=note,
        ours_seconds=tuple(each["whole"] for each in rounds),
    )


def _seconds_to_first_step(data: Data, name: str, overrides: list[str]) -> float:
    """From the start of the process until its run reports that the first step begins; then it is stopped."""
    run = data.workspace / name
    started = time.perf_counter()
    process = _train("model4.yaml", data, run, overrides)
    try:
        while not _is_running(run):
            if process.poll() is not None:
                raise RuntimeError(f"train ended before its first step: {process.communicate()[1]}")
            time.sleep(0.005)
        return time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def _is_running(run: Path) -> bool:
    try:
        return bool(json.loads((run / "status.json").read_text())["state"] == "running")
    except FileNotFoundError:
        return False


def _seconds_to_import(module: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - started


def _memory(data: Data, sizes: Sizes) -> list[Result]:
    if not Path("/proc/self/status").exists():
        return ["memory of train: left out, this system has no /proc"]
    run = data.workspace / "memory"
    # One epoch more, since what follows the last one (figures) takes memory of its own.
    process = _train("smoke.yaml", data, run, ["wandb.mode=disabled", f"epochs={sizes.epochs + 1}"])
    after_epoch: dict[int, float] = {}
    peak = 0.0
    while process.poll() is None:
        now, highest = _megabytes(process.pid)
        peak = max(peak, highest)
        after_epoch.setdefault(_epochs_done(run), now)
        time.sleep(0.01)
    output = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"train failed: {output}")
    size = FERDataset(data.folder, "train").images.nbytes / 1e6
    early, late = (min(done for done in after_epoch if done >= least) for least in (2, sizes.epochs))
    return [
        Row(
            stage="memory: peak of train",
            against="the training images' own size",
            unit="MB",
            ours=peak,
            peer=size,
            ratio=peak / size,
            note=f"the highest resident memory of a run of smoke, figures included; {imported_megabytes():.0f} MB of "
            f"it are there once the modules are imported",
        ),
        Row(
            stage="memory: growth",
            against="",
            unit="MB",
            ours=after_epoch[late] - after_epoch[early],
            note=f"resident memory after epoch {late} less that after epoch {early}, {after_epoch[early]:.0f} MB",
        ),
    ]


def _epochs_done(run: Path) -> int:
    try:
        return len((run / "metrics.jsonl").read_text().splitlines())
    except FileNotFoundError:
        return 0


def imported_megabytes() -> float:
    """The resident memory of a process that has imported the trainer and done nothing else."""
    # Not ru_maxrss: a process begins with that of the one that started it.
    code = "import fer_ddp.training.run, pathlib; print(pathlib.Path('/proc/self/status').read_text(), end='')"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return _resident_megabytes(output)[1]


def _megabytes(process: int) -> tuple[float, float]:
    """(resident memory now, its highest so far) of a process; zeros once it has ended."""
    try:
        return _resident_megabytes(Path(f"/proc/{process}/status").read_text())
    except FileNotFoundError:
        return 0.0, 0.0


def _resident_megabytes(status: str) -> tuple[float, float]:
    """(resident memory then, its highest until then) in the text of a /proc/PID/status."""
    values = dict(line.split(":", 1) for line in status.splitlines())
    now, highest = (int(values.get(name, "0 kB").split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, highest


def _train(recipe: str, data: Data, run: Path, overrides: list[str]) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "fer_ddp",
        "train",
        str(RECIPES / recipe),
        f"data.path={data.folder}",
        f"run={run}",
    ]
    return subprocess.Popen(
        [*command, *overrides], env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
