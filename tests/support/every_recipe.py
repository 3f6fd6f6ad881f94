"""Trains every recipe given for its one epoch and evaluates it; started by torchrun once for all of them.

Their figures, which take longer than all else, are not written: they are of any run, and other tests look at them.
"""

import sys
from pathlib import Path
from unittest.mock import patch

from fer_ddp import distributed
from fer_ddp.config.load import load_job
from fer_ddp.training.run import train

folder, *recipes = sys.argv[1:]
with (
    distributed.world() as device,
    patch("fer_ddp.evaluation.evaluate._draw"),
    patch("fer_ddp.evaluation.evaluate.plot_learning_curves"),
    patch("fer_ddp.evaluation.evaluate.save_figure"),
):
    for recipe in recipes:
        name = Path(recipe).stem
        overrides = [
            *(f"data.path={folder}/few", f"run={folder}/{name}", "epochs=1", "global_batch_size=8"),
            *("wandb.mode=disabled", "precision=float32", "memory_format=channels_last"),
        ]
        train(load_job(Path(recipe), overrides), device)
