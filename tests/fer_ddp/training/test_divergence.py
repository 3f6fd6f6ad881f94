"""A loss that is not finite changes no weight and ends the run, whose last good state stays."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from diverging import nan_from_forward
from forking import run_forked

from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import RunError
from fer_ddp.runs.files import saved_step
from fer_ddp.training.run import train
from fer_ddp.training.setup import build_trainer

MESSAGE = (
    "the loss was not finite at step 7; the last good state is kept: "
    "try a lower optimizer.lr, optimizer.gradient_clip_norm=1 or precision=float32"
)


@pytest.mark.parametrize("clip", ["null", "1.0"])
@pytest.mark.parametrize(
    "optimizer", ["{name: adam, lr: 0.01}", "{name: adamw, lr: 0.01}", "{name: sgd, lr: 0.01, momentum: 0.9}"]
)
def test_a_step_whose_loss_is_nan_leaves_the_weights_as_they_were(tiny_job: Path, optimizer: str, clip: str) -> None:
    job = load_job(tiny_job, [f"optimizer={optimizer}", f"optimizer.gradient_clip_norm={clip}"])
    trainer = build_trainer(job, FERDataset(job.data.path, "train"), 1, torch.device("cpu"))
    trainer.step(trainer.loader.raw_batch(0))
    before = {name: tensor.clone() for name, tensor in trainer.state.model.state_dict().items()}
    trainer.class_weights = torch.full((7,), torch.nan)
    assert trainer.step(trainer.loader.raw_batch(1)).isnan()
    after = trainer.state.model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_a_run_ends_at_the_step_whose_loss_is_nan_and_keeps_the_last_good_state(tiny_job: Path) -> None:
    job = load_job(tiny_job, ["checkpoint.every_steps=3", "log.every_steps=1"])
    with patch("fer_ddp.training.loop.summed_loss", nan_from_forward(7)), pytest.raises(RunError) as raised:
        train(job, torch.device("cpu"))
    run = Path(job.run)
    status = json.loads((run / "status.json").read_text())
    assert str(raised.value) == MESSAGE
    assert (status["state"], status["message"]) == ("failed", MESSAGE)
    assert (saved_step(run), len((run / "steps.jsonl").read_text().splitlines())) == (6, 7)


def test_two_ranks_end_with_one_message_where_the_loss_of_one_is_nan(tiny_job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    overrides = [f"run={run}", "checkpoint.every_steps=3", "log.every_steps=1"]
    done = run_forked(2, "tests/support/diverging.py", "7", str(tiny_job), *overrides)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()[-2:]) == [f"rank 0: {MESSAGE}", f"rank 1: {MESSAGE}"]
    assert (saved_step(run), len((run / "steps.jsonl").read_text().splitlines())) == (6, 8)
