"""Trains a job with little memory on rank one beyond the program itself: ``little_memory_on_rank_one.py JOB ...``."""

import os
import resource
import sys
from pathlib import Path

import fer_ddp.training.run  # noqa: F401  so that what is left is for the training
from fer_ddp.__main__ import main

if os.environ["RANK"] == "1":
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 700 * 2**20,) * 2)
sys.exit(main(["train", *sys.argv[1:]]))
