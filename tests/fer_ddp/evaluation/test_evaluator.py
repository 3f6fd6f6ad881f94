"""What is counted on the device after each epoch is what the final evaluation computes from the probabilities."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import RunError
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.metrics.classification import classification_metrics

CPU = torch.device("cpu")


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 7))


@pytest.mark.parametrize("precision", ["float32", "float64", "bf16"])
def test_the_metrics_of_an_epoch_are_those_of_the_probabilities(faces: Path, model: nn.Module, precision: str) -> None:
    dataset = FERDataset(faces, "val")
    dtype = torch.float64 if precision == "float64" else torch.float32
    half = torch.full((1, 1, 1), 0.5, dtype=dtype)
    evaluator = Evaluator(device=CPU, precision=precision, memory_format="contiguous", mean=half, std=half)
    model = model.to(dtype)
    probabilities = evaluator.probabilities(model, dataset.images)
    expected = classification_metrics(dataset.labels.numpy(), probabilities, dataset.class_names)
    found = evaluator.metrics(model, dataset)
    assert found == {name: expected[name] for name in ("loss", "accuracy", "macro_f1", "balanced_accuracy")}  # type: ignore[literal-required]


def test_an_output_that_is_not_finite_is_refused(faces: Path, model: nn.Module) -> None:
    half = torch.full((1, 1, 1), 0.5)
    evaluator = Evaluator(device=CPU, precision="float32", memory_format="contiguous", mean=half, std=half)
    torch.nn.init.constant_(model.get_parameter("1.bias"), torch.nan)
    with pytest.raises(RunError, match="output for sample 0 is not a finite number"):
        evaluator.metrics(model, FERDataset(faces, "val"))


def test_metrics_do_not_wait_for_scikit_learn() -> None:
    code = "import sys, numpy as np; from fer_ddp.metrics.classification import *; "
    code += "classification_metrics(np.array([0, 1]), np.eye(2), ['a', 'b']); print('sklearn' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "False\n"
