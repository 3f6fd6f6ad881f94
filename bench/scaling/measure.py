"""What one process of a measurement does; `bench.scaling.processes` starts it on each, rank zero prints a JSON object.

``link NUMBERS LARGE``: the seconds of an all-gather and an all-reduce of NUMBERS float64, as the batch norms make them,
and of an all-reduce of LARGE float32, as the gradients make it. ``step JOB.yaml``: the seconds of a training step.
``exchange JOB.yaml``: see `bench.scaling.exchange`. ``busy JOB.yaml RANKS``: nothing; it trains the share of one of
RANKS ranks, alone, until it is killed.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.scaling.exchange import measure_exchange
from bench.scaling.plan import step_seconds
from fer_ddp import distributed
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.hardware import keep_freed_memory, request_huge_pages
from fer_ddp.training.setup import build_trainer


def measure_link(numbers: int, large: int) -> dict[str, float]:
    """Medians, in seconds, of the collectives that a training step makes."""
    small, gradients = torch.zeros(numbers, dtype=torch.float64), torch.zeros(large)
    return {
        "gather": _median(lambda: distributed.gather_tensors(small), 200),
        "reduce": _median(lambda: distributed.all_reduce_sum(small), 200),
        "large": _median(lambda: distributed.all_reduce_sum(gradients), 10),
    }


def _median(function: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(5 + repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[5:])


def measure_step(job_file: Path, device: torch.device) -> dict[str, float]:
    """The median of a few steps on all the ranks together, in seconds."""
    job = load_job(job_file, [])
    dataset = FERDataset(job.data.path, "train")
    return {"step": step_seconds(build_trainer(job, dataset, distributed.world_size(), device), device)}


def keep_busy(job_file: Path, ranks: int) -> None:
    """Train the share of one of ``ranks`` ranks until it is killed; prints a line after the first step."""
    job = load_job(job_file, [])
    trainer = build_trainer(job, FERDataset(job.data.path, "train"), ranks, torch.device("cpu"))
    trainer.step(trainer.loader.raw_batch(0))
    print("busy", flush=True)
    while True:
        trainer.step(trainer.loader.raw_batch(0))


def main(arguments: list[str]) -> None:
    """One measurement, on this rank."""
    request_huge_pages()  # as `train` does
    keep_freed_memory()
    if arguments[0] == "busy":
        keep_busy(Path(arguments[1]), int(arguments[2]))
    found: dict[str, Any]
    with distributed.world() as device:
        if arguments[0] == "exchange":
            found = measure_exchange(Path(arguments[1]))
        elif arguments[0] == "link":
            found = measure_link(int(arguments[1]), int(arguments[2]))
        else:
            found = measure_step(Path(arguments[1]), device)
    if distributed.is_main():
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
