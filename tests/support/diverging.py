"""Trains a job on ranks of which the last has a loss that is NaN: ``diverging.py STEP JOB OVERRIDES``."""

import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from torch import Tensor

from fer_ddp import distributed
from fer_ddp.config.load import load_job
from fer_ddp.errors import RunError
from fer_ddp.optim.loss import summed_loss
from fer_ddp.training.run import train


def nan_from_forward(number: int) -> Callable[..., Tensor]:
    """The real loss, but NaN from its ``number``-th call on, which is step ``number``."""
    calls = 0

    def loss(*arguments: object) -> Tensor:
        nonlocal calls
        calls += 1
        value = summed_loss(*arguments)  # type: ignore[arg-type]
        return value * float("nan") if calls >= number else value

    return loss


if __name__ == "__main__":
    step, job_file, *overrides = sys.argv[1:]
    with distributed.world() as device:
        last = distributed.rank() == distributed.world_size() - 1
        loss = nan_from_forward(int(step)) if last else summed_loss
        try:
            with patch("fer_ddp.training.loop.summed_loss", loss):
                train(load_job(Path(job_file), overrides), device)
        except RunError as error:
            sys.stdout.write(f"rank {distributed.rank()}: {error}\n")
            sys.stdout.flush()
