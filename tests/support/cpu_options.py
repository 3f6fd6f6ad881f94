"""The options of training, each as overrides of a small job."""

from pathlib import Path

import numpy as np

from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.runs.predictions import write_predictions

SMALL = ["model={name: compact_cnn, arguments: {stem_channels: 4, channels: [4, 8], squeeze: true}}"]
"""A model for images of any size."""
ON_ANY_RANKS = {
    "muon": ["optimizer={name: muon, lr: 0.03, momentum: 0.9}", "schedule.name=onecycle"],
    "sam": ["optimizer.sam_radius=0.05", "optimizer.sam_every_steps=2"],
    "smaller images": ["image_size.sides=[32,40]"],
    "an end of mixing": ["augment.mixup_alpha=0.2", "augment.mixing_until=0.3"],
    "randaugment": ["augment.randaugment_ops=2", "augment.randaugment_magnitude=15"],
    "repeats": ["data.repeats=2", "augment.mixup_alpha=0.2", "augment.rotation_degrees=10"],
    "groups of batch norm": ["model.batch_norm_groups=4", "ema.decay=0.9"],
    "frozen layers": ["model.freeze=[stem]", "ema.decay=0.9"],
    "layers of their own rates": ["optimizer={name: adamw, lr: 0.01, weight_decay: 0.1, layer_decay: 0.5}"],
    "warm-up of the average": ["ema.decay=0.9", "ema.warmup=true"],
}
_ROWS = [[0.5 if row == column else 0.5 / 6 for column in range(7)] for row in range(7)]
ON_ANY_RANKS["a smoothing matrix"] = [f"loss={{label_smoothing: 0.2, smoothing_matrix: {_ROWS}}}"]
TEACHER = "TEACHER"
"""In place of the CSV that `with_teacher` writes."""
ON_ANY_RANKS["distillation"] = [f"distillation.teacher={TEACHER}", "distillation.weight=0.7", "augment.mixup_alpha=0.2"]
ON_ONE_RANK = {"label correction": ["label_correction.momentum=0.9", "label_correction.start_epoch=0"]}


def with_teacher(overrides: list[str], job_file: Path) -> list[str]:
    """``overrides`` with the CSV of a made-up teacher, written beside the job file, in place of `TEACHER`."""
    path = job_file.parent / "teacher.csv"
    if TEACHER in "".join(overrides) and not path.exists():
        dataset = FERDataset(load_job(job_file, []).data.path, "train")
        probabilities = np.random.default_rng(0).dirichlet(np.ones(7), len(dataset))
        write_predictions(path, dataset.keys, dataset.labels.numpy(), probabilities, dataset.class_names)
    return [override.replace(TEACHER, str(path)) for override in overrides]
