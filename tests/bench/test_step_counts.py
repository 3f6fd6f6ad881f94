"""What can be counted of a step without a GPU: the operators it starts, and the graphs that it can be traced into."""

from pathlib import Path

import pytest
import torch

from bench.operators import count_operators, marked
from bench.tracing import losses_of, traced
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.training.loop import Trainer
from fer_ddp.training.setup import build_trainer

JOBS = Path(__file__).parents[2] / "jobs"


def trainer_of(recipe: Path, faces: Path, *overrides: str) -> Trainer:
    fixed = [f"data.path={faces}", "precision=float32", "memory_format=channels_last", *overrides]
    job = load_job(recipe, fixed)
    return build_trainer(job, FERDataset(job.data.path, "train"), 1, torch.device("cpu"))


def test_a_step_of_model4_starts_few_operators(faces: Path) -> None:
    trainer = trainer_of(JOBS / "model4.yaml", faces, "global_batch_size=2", "precision=bf16")
    trainer.step(trainer.loader.raw_batch(0))  # makes its constants
    with marked(trainer):
        counts = count_operators(lambda: trainer.step(trainer.loader.raw_batch(0)))
    assert sum(count for (part, _), count in counts.items() if part == "augmentation") <= 97
    assert sum(count for (part, _), count in counts.items() if part.startswith("dropout")) <= 24
    assert counts.total() <= 250


def assert_traced_once(recipe: Path, faces: Path, *overrides: str, steps: int) -> None:
    plain, trainer = (trainer_of(recipe, faces, *overrides) for _ in range(2))
    with traced(trainer) as (augmented, loss):
        assert losses_of(trainer, steps) == losses_of(plain, steps)
    assert (augmented.graphs, loss.graphs) == (1, 1)


@pytest.mark.long
def test_augmentation_is_one_graph_and_so_is_the_model_with_its_loss(tiny_job: Path, faces: Path) -> None:
    everything = ["augment={flip: 0.5, rotation_degrees: 9, shear_degrees: 3, scale: [0.9, 1.1], contrast: 0.2}"]
    everything += ["augment.mixup_alpha=0.4", "augment.cutmix_alpha=1.0", "loss.label_smoothing=0.1"]
    everything += ["model.arguments.dropout=0.4", "model.arguments.batch_norm=true"]
    assert_traced_once(tiny_job, faces, *everything, steps=3)


@pytest.mark.long
@pytest.mark.parametrize("recipe", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_traced_once(recipe: Path, faces: Path) -> None:
    assert_traced_once(recipe, faces, "global_batch_size=2", steps=20)
