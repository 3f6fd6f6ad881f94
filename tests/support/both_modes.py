"""Trains a job in memory and then streamed, each into its own folder; started by torchrun once for both."""

import sys
from pathlib import Path

from fer_ddp import distributed
from fer_ddp.config.load import load_job
from fer_ddp.training.run import train

job, resident, stream = sys.argv[1:]
with distributed.world() as device:
    train(load_job(Path(job), [f"run={resident}", "data.mode=resident"]), device)
    train(load_job(Path(job), [f"run={stream}", "data.mode=stream"]), device)
