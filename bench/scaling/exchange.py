"""What two CPU ranks gain by shared memory: ``python -m bench.scaling.exchange JOB.yaml KEY=VALUE ...``.

In turns, a few steps each: one rank with two threads while the other sleeps, two ranks of a thread each over gloo, and
the same two over shared memory. Needs two idle cores. CPU time is that of rank zero's whole process.
"""

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch

from bench.scaling.processes import run_ranks
from fer_ddp import distributed
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.training.loop import Trainer
from fer_ddp.training.setup import build_trainer
from fer_ddp.yaml_io import to_yaml
from shards.files import atomic_write_bytes

SIDES = ("one rank, two threads", "two ranks, gloo", "two ranks, shared memory")
ROUNDS, STEPS = 12, 4


def as_side(side: str) -> ExitStack:
    """Inside, the ranks are those of ``side``; the first is rank zero alone."""
    stack = ExitStack()
    if side != SIDES[2]:
        stack.enter_context(patch.object(distributed, "_shared", None))
    if side == SIDES[0]:
        stack.enter_context(patch.object(distributed, "world_size", lambda: 1))
        torch.set_num_threads(2)
        stack.callback(torch.set_num_threads, 1)
    return stack


def measure_exchange(job_file: Path) -> dict[str, list[tuple[float, float]]]:
    """The seconds of each side's steps, and the CPU time in them; the two ranks call it."""
    job = load_job(job_file, [])
    dataset = FERDataset(job.data.path, "train")
    trainers: dict[str, Trainer] = {}
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for number in range(1 + ROUNDS):
        for side in SIDES:
            distributed.rank_zero_call(lambda: None)
            with as_side(side):
                if side == SIDES[0] and not distributed.is_main():
                    continue
                if side not in trainers:
                    trainers[side] = build_trainer(job, dataset, distributed.world_size(), torch.device("cpu"))
                for _ in range(STEPS):
                    started, worked = time.perf_counter(), time.process_time()
                    trainers[side].step(trainers[side].loader.raw_batch(trainers[side].state.step))
                    if number:
                        seconds[side].append((time.perf_counter() - started, time.process_time() - worked))
            time.sleep(0.05)  # OpenMP's second thread spins a moment
    return seconds


def main(arguments: list[str]) -> None:
    job = load_job(Path(arguments[0]), arguments[1:])
    with tempfile.TemporaryDirectory() as folder:
        job_file = Path(folder) / "job.yaml"
        atomic_write_bytes(job_file, to_yaml(job.to_dict()).encode())
        seconds = run_ranks(2, ["exchange", str(job_file)], 1)
    print(f"{job.name}, batches of {job.global_batch_size}, {job.precision}, {job.memory_format}")
    medians = {side: statistics.median(step for step, _ in each) for side, each in seconds.items()}
    for side, each in seconds.items():
        print(
            f"{side:25} {medians[side] * 1e3:7.1f} ms a step (least {min(each)[0] * 1e3:.1f}; CPU "
            f"{statistics.median(cpu for _, cpu in each) * 1e3:.1f}), {job.global_batch_size / medians[side]:6.0f} "
            f"images/s, {medians[SIDES[0]] / medians[side]:.2f} of one rank's"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
