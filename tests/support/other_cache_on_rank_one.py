"""Trains a job with a cache of its own on rank one: ``other_cache_on_rank_one.py FOLDER JOB OVERRIDES``.

As on two machines, rank one then reads the shards although rank zero has them decoded.
"""

import os
import sys

from fer_ddp.__main__ import main

folder, *arguments = sys.argv[1:]
if os.environ["RANK"] == "1":
    os.environ["FER_DDP_CACHE"] = folder
sys.exit(main(["train", *arguments]))
