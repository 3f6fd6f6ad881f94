"""The final figures of a run trained in bf16 are those of its weights in float32, on every machine alike."""

from pathlib import Path

import numpy as np
import torch

from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import open_split
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import read_predictions
from fer_ddp.training.run import train
from shards.reading.scan import load_or_scan_manifest

CPU = torch.device("cpu")


def test_a_run_in_bf16_is_evaluated_in_float32(tiny_job: Path) -> None:
    run = RunFolder(tiny_job.parent / "run")
    train(load_job(tiny_job, ["precision=bf16"]), CPU)
    job = load_job(run.path / "config.yaml", [])
    model, manifest = load_trained_model(run, job, CPU).model, load_or_scan_manifest(Path(job.data.path))
    images = open_split(job.data, "val", CPU, manifest).images
    written = read_predictions(run.path / "predictions" / "val.csv").probabilities
    in_float32, in_bf16 = (
        Evaluator.of(job.data, precision, job.memory_format, CPU).probabilities(model, images)
        for precision in ("float32", "bf16")
    )
    np.testing.assert_array_equal(written, in_float32)
    assert (written != in_bf16).any()
