"""Trainings as a user starts them: several ranks, two of them by torchrun, run folders looked at afterwards."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb_file
import yaml
from cpu_options import ON_ANY_RANKS, SMALL, with_teacher
from forking import run_forked
from launching import ROOT, run_files, torchrun

from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.runs.checkpoint import load_checkpoint, save_checkpoint
from fer_ddp.runs.predictions import read_predictions
from fer_ddp.training.loop import Trainer
from fer_ddp.training.run import train
from fer_ddp.training.setup import build_trainer

RECIPES = sorted(str(path) for path in (ROOT / "jobs").glob("*.yaml"))
EVERYTHING = {
    "augment": {"flip": 0.5, "rotation_degrees": 10.0, "shift": 0.1, "erasing_probability": 0.3, "mixup_alpha": 0.2},
    "model": {"arguments": {"batch_norm": True, "block_dropout": 0.1}},
    "ema": {"decay": 0.9},
    "schedule": {"name": "onecycle"},
    "loss": {
        "name": "focal",
        "focal_gamma": 1.0,
        "label_smoothing": 0.1,
        "class_weights": "balanced",
        "logit_adjustment": 0.5,
    },
    "log": {"every_steps": 1},
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def everything_job(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job with every mechanism in it, two epochs of ten steps, in float64."""
    folder = tmp_path_factory.mktemp("everything")
    job = EVERYTHING | {
        "data": {"path": str(faces)},
        "model": {"name": "plain_cnn", "arguments": {"channels": [4, 8], "hidden": 16, "batch_norm": True}},
        "optimizer": {"name": "adamw", "lr": 0.003, "gradient_clip_norm": 1.0},
        "epochs": 2,
        "global_batch_size": 24,
        "precision": "float64",
        "memory_format": "channels_last",
    }
    path = folder / "everything.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


class _Runs(dict[int, Path]):
    """Runs of a job on some numbers of ranks, each made when it is first asked for."""

    def __init__(self, job: Path) -> None:
        self._job = job

    def __missing__(self, ranks: int) -> Path:
        self[ranks] = self._job.parent / f"ranks{ranks}"
        wandb = "wandb.mode=offline" if ranks == 2 else "wandb.mode=disabled"
        start = torchrun if ranks == 2 else run_forked
        done = start(ranks, "-m", "fer_ddp", "train", str(self._job), f"run={self[ranks]}", wandb)
        assert done.returncode == 0, done.stderr
        return self[ranks]


@pytest.fixture(scope="module")
def finished(everything_job: Path) -> dict[int, Path]:
    """Runs of the job with everything in it, by the number of ranks."""
    return _Runs(everything_job)


# Three ranks show nothing that two and four don't, and take half a minute.
RANKS = [2, pytest.param(3, marks=pytest.mark.long), 4]


@pytest.mark.parametrize("ranks", RANKS)
def test_every_step_has_the_loss_of_one_rank(finished: dict[int, Path], ranks: int) -> None:
    alone, together = (np.array([line["loss"] for line in lines(finished[n] / "steps.jsonl")]) for n in (1, ranks))
    assert len(alone) == 20
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=0)


@pytest.mark.parametrize("ranks", RANKS)
def test_the_final_predictions_are_those_of_one_rank(finished: dict[int, Path], ranks: int) -> None:
    alone, together = (read_predictions(finished[n] / "predictions" / "test.csv") for n in (1, ranks))
    assert together.keys == alone.keys
    np.testing.assert_allclose(together.probabilities, alone.probabilities, rtol=0, atol=1e-7)


def test_a_run_folder_has_its_documented_files(finished: dict[int, Path]) -> None:
    assert sorted(run_files(finished[2])) == [
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
        "config.yaml",
        "figures/confusion_test.png",
        "figures/confusion_val.png",
        "figures/curves.png",
        "figures/per_class_test.png",
        "figures/per_class_val.png",
        "figures/worst_errors_test.png",
        "figures/worst_errors_val.png",
        "metrics.csv",
        "metrics.jsonl",
        "predictions/test.csv",
        "predictions/val.csv",
        "steps.jsonl",
        "summary.json",
    ]


def test_an_epoch_line_holds_train_and_val_figures(finished: dict[int, Path]) -> None:
    first, second = lines(finished[2] / "metrics.jsonl")
    assert list(first) == ["epoch", "step", "lr", "train", "val", "crc32"]
    assert list(first["train"]) == ["loss", "accuracy"]
    assert list(first["val"]) == ["loss", "accuracy", "macro_f1", "balanced_accuracy"]
    assert (first["step"], second["step"]) == (10, 20)


def test_an_epochs_train_loss_is_the_mean_of_its_steps(finished: dict[int, Path]) -> None:
    steps = [line["loss"] for line in lines(finished[2] / "steps.jsonl")]
    epochs = [line["train"]["loss"] for line in lines(finished[2] / "metrics.jsonl")]
    assert epochs == pytest.approx([np.mean(steps[:10]), np.mean(steps[10:])], rel=1e-12)


def test_the_summary_agrees_with_the_predictions(finished: dict[int, Path]) -> None:
    summary = json.loads((finished[2] / "summary.json").read_text())
    predictions = read_predictions(finished[2] / "predictions" / "test.csv")
    assert summary["test"]["n"] == len(predictions.labels) == 70
    assert summary["test"]["accuracy"] == np.mean(predictions.predicted == predictions.labels)


def test_evaluate_gives_the_same_results_again(finished: dict[int, Path]) -> None:
    before = run_files(finished[1])
    (finished[1] / "predictions" / "test.csv").unlink()
    (finished[1] / "summary.json").unlink()
    done = run_forked(1, "-m", "fer_ddp", "evaluate", str(finished[1]))
    assert done.returncode == 0, done.stderr
    assert run_files(finished[1]) == before


def test_wandb_holds_one_run_with_every_epoch_the_confusion_matrix_and_the_config(finished: dict[int, Path]) -> None:
    (file,) = (finished[2] / "wandb").glob("offline-run-*/*.wandb")
    rows = wandb_file.history(file)
    timing = {line["epoch"]: line for line in lines(finished[2] / "timing.jsonl")}
    for line in lines(finished[2] / "metrics.jsonl"):
        (row,) = (row for row in rows if row.get("epoch") == line["epoch"])
        assert (row["train/loss"], row["val/accuracy"], row["lr"], row["images_per_second"]) == (
            line["train"]["loss"],
            line["val"]["accuracy"],
            line["lr"],
            timing[line["epoch"]]["images_per_second"],
        )
    (confusion,) = (file.parent / "files" / "media" / "table" / "test").glob("confusion_matrix_table_*.json")
    cells = json.loads(confusion.read_text())["data"]
    assert (len(cells), sum(cell[2] for cell in cells)) == (49, 70)
    config = wandb_file.config(file)
    assert {key: config[key] for key in ("seed", "epochs", "optimizer")} == {
        key: yaml.safe_load((finished[2] / "config.yaml").read_text())[key] for key in ("seed", "epochs", "optimizer")
    }


def test_a_finished_run_is_reported_as_such_and_not_changed(finished: dict[int, Path], everything_job: Path) -> None:
    before = run_files(finished[2])
    done = run_forked(1, "-m", "fer_ddp", "train", str(everything_job), f"run={finished[2]}")
    assert (done.returncode, done.stdout) == (
        0,
        f"{finished[2]}: this run is finished; choose another run= to train again\n",
    )
    assert run_files(finished[2]) == before


def test_every_recipe_trains_two_steps_on_two_ranks_and_evaluates(tmp_path: Path) -> None:
    from shards.packing.packer import pack
    from shards.sources.synthetic_faces import Faces, scan_faces

    pack(partial(scan_faces, Faces(train=16, val=7, test=7)), tmp_path / "few")
    done = run_forked(2, "tests/support/every_recipe.py", str(tmp_path), *RECIPES, timeout=400)
    assert done.returncode == 0, done.stderr
    summaries = {Path(r).stem: json.loads((tmp_path / Path(r).stem / "summary.json").read_text()) for r in RECIPES}
    seen = {name: (s["steps"], s["world_size"], s["test"]["n"]) for name, s in summaries.items()}
    assert seen == dict.fromkeys(summaries, (2, 2, 7))


@pytest.fixture(scope="module")
def together(everything_job: Path) -> dict[str, Any]:
    """What two ranks saw in ``two_ranks.py``."""
    out = everything_job.parent / "seen.json"
    done = run_forked(2, "tests/support/two_ranks.py", str(everything_job), str(out))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(out.read_text()))


def test_ranks_have_equal_weights_after_three_steps(together: dict[str, Any]) -> None:
    first, second = together["weights"]
    assert first == second


def test_ranks_would_differ_without_the_exchange_of_gradients(together: dict[str, Any]) -> None:
    first, second = together["weights_without_exchange"]
    assert first != second


def test_an_error_on_one_rank_is_raised_on_all_with_its_number(together: dict[str, Any]) -> None:
    assert together["failure"] == "rank 1: this shard is damaged"


def test_all_ranks_learn_of_a_flag_at_the_same_step(together: dict[str, Any]) -> None:
    assert together["consensus"] == [[False, False, True, False]] * 2


def test_the_result_of_a_rank_zero_call_is_returned_on_every_rank(together: dict[str, Any]) -> None:
    assert together["from_rank_zero"] == 0


def alone(job: Job) -> Trainer:
    """What a world of one trains ``job`` with."""
    return build_trainer(job, FERDataset(job.data.path, "train"), 1, torch.device("cpu"))


def test_the_focal_loss_with_weights_prior_and_smoothing_is_that_of_a_float64_reference(
    together: dict[str, Any], everything_job: Path
) -> None:
    job = load_job(everything_job, ["precision=float64"])
    trainer = alone(job)
    batch = trainer.loader[0]
    trainer.positions.set(batch.positions)
    with torch.no_grad():
        logits = trainer.state.model(batch.images).numpy()
    counts = np.array(FERDataset(job.data.path, "train").manifest.splits["train"].class_counts)
    weights = counts.sum() / (7 * counts)
    targets = 0.9 * batch.targets.numpy() + 0.1 / 7
    logits += 0.5 * np.log(counts / counts.sum())
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    reference = -(weights * targets * (1 - probabilities) * np.log(probabilities)).sum() / len(logits)
    assert together["first_loss"] == pytest.approx(reference, rel=1e-12)


@pytest.mark.parametrize("option", ON_ANY_RANKS)
def test_an_option_gives_two_ranks_the_losses_of_one(
    together: dict[str, Any], everything_job: Path, option: str
) -> None:
    trainer = alone(load_job(everything_job, [*SMALL, *with_teacher(ON_ANY_RANKS[option], everything_job)]))
    losses = [trainer.step(trainer.loader.raw_batch(step)).item() for step in range(4)]
    np.testing.assert_allclose(together["losses"][option], losses, rtol=1e-9, atol=0)


def convolution_outputs(job: Job) -> list[torch.Tensor]:
    """The outputs of the convolutions of ``job``'s model in a training step."""
    trainer = alone(job)
    seen: list[torch.Tensor] = []
    for module in trainer.state.model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    trainer.step(trainer.loader.raw_batch(0))
    return seen


def test_under_bf16_a_convolutions_output_is_bf16(tiny_job: Path) -> None:
    outputs = convolution_outputs(load_job(tiny_job, ["precision=bf16"]))
    assert {output.dtype for output in outputs} == {torch.bfloat16}


def test_under_float32_a_convolutions_output_is_float32(tiny_job: Path) -> None:
    assert {output.dtype for output in convolution_outputs(load_job(tiny_job, []))} == {torch.float32}


def test_activations_are_channels_last(tiny_job: Path) -> None:
    outputs = convolution_outputs(load_job(tiny_job, ["memory_format=channels_last"]))
    assert [output.is_contiguous(memory_format=torch.channels_last) for output in outputs] == [True, True]


def test_activations_are_contiguous_where_that_is_asked_for(tiny_job: Path) -> None:
    outputs = convolution_outputs(load_job(tiny_job, ["memory_format=contiguous"]))
    assert [output.is_contiguous() for output in outputs] == [True, True]


def test_an_fp16_overflow_skips_its_step_and_lowers_the_scale(tiny_job: Path) -> None:
    trainer = alone(load_job(tiny_job, ["precision=fp16"]))
    trainer.step(trainer.loader.raw_batch(0))
    before = {name: tensor.clone() for name, tensor in trainer.state.model.state_dict().items()}
    trainer.state.scaler._scale.fill_(2.0**40)  # type: ignore[union-attr]
    trainer.step(trainer.loader.raw_batch(1))
    after = trainer.state.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trainer.state.scaler.get_scale() == 2.0**39


def test_fp16_trains_where_nothing_overflows(tiny_job: Path) -> None:
    trainer = alone(load_job(tiny_job, ["precision=fp16"]))
    before = {name: tensor.clone() for name, tensor in trainer.state.model.state_dict().items()}
    trainer.step(trainer.loader.raw_batch(0))
    assert not torch.equal(before["head.1.weight"], trainer.state.model.state_dict()["head.1.weight"])


def test_micro_batches_give_the_gradients_of_the_whole_batch(tiny_job: Path) -> None:
    weights = []
    for size in ("null", "7"):
        trainer = alone(load_job(tiny_job, ["precision=float64", f"micro_batch_size={size}", "optimizer.name=sgd"]))
        trainer.step(trainer.loader.raw_batch(0))
        weights.append(trainer.state.model.state_dict()["head.1.weight"])
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", ["{name: adamw, lr: 0.01}", "{name: sgd, lr: 0.01, momentum: 0.9}"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_state_that_was_saved_and_loaded_trains_to_the_same_bytes(
    tiny_job: Path, tmp_path: Path, memory_format: str, optimizer: str
) -> None:
    overrides = [f"memory_format={memory_format}", f"optimizer={optimizer}"]
    trainer = alone(load_job(tiny_job, overrides))
    for number in range(3):
        trainer.step(trainer.loader.raw_batch(number))
    save_checkpoint(tmp_path / "state.safetensors", trainer.state.state_dict())
    again = alone(load_job(tiny_job, overrides))
    again.state.load_state_dict(load_checkpoint(tmp_path / "state.safetensors"))
    for each in (trainer, again):
        for number in range(3, 6):
            each.step(each.loader.raw_batch(number))
    weights, same = trainer.state.model.state_dict(), again.state.model.state_dict()
    assert [name for name in weights if not torch.equal(weights[name], same[name])] == []


def test_the_average_of_the_weights_is_what_best_holds(tiny_job: Path) -> None:
    job = load_job(tiny_job, ["ema.decay=0.8", "data.order=class_balanced"])
    train(job, torch.device("cpu"))
    best, last = (load_checkpoint(Path(job.run) / "checkpoints" / f"{n}.safetensors") for n in ("best", "last"))
    assert all(torch.equal(best["network"][name], last["ema"][f"module.{name}"]) for name in best["network"])
    assert not torch.equal(best["network"]["head.1.weight"], last["network"]["head.1.weight"])


def test_the_last_weights_are_evaluated_where_last_is_selected(tiny_job: Path) -> None:
    job = load_job(tiny_job, ["select=last", "epochs=2", "optimizer.lr=0.05"])
    train(job, torch.device("cpu"))
    summary = json.loads((Path(job.run) / "summary.json").read_text())
    last_line = lines(Path(job.run) / "metrics.jsonl")[-1]
    figures = summary["steps"], summary["epochs"], summary["val"]["accuracy"]
    assert figures == (20, 2, last_line["val"]["accuracy"])  # the state is written before the last evaluation


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_state(
    tiny_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_forked(1, "-m", "fer_ddp", "train", str(tiny_job), "optimizer.lr=1000", "optimizer.name=sgd", "epochs=3")
    status = json.loads((tiny_job.parent / "run" / "status.json").read_text())
    assert (done.returncode, status["state"]) == (1, "failed")
    assert done.stderr.startswith("error: the loss was not finite at step ")
    assert "Traceback" not in done.stderr


def test_early_stopping_ends_the_run(tiny_job: Path) -> None:
    job = load_job(tiny_job, ["epochs=9", "early_stopping.patience_epochs=1", "optimizer.lr=1e-9"])
    train(job, torch.device("cpu"))
    assert len(lines(Path(job.run) / "metrics.jsonl")) == 2


def test_without_a_val_split_a_run_has_no_val_figures(tiny_job: Path, tmp_path: Path) -> None:
    from shards.packing.packer import pack
    from shards.sources.synthetic_faces import Faces, scan_faces

    pack(partial(scan_faces, Faces(train=48, val=0, test=14)), tmp_path / "no_val")
    job = load_job(tiny_job, [f"data.path={tmp_path}/no_val", "select=last"])
    train(job, torch.device("cpu"))
    summary = json.loads((Path(job.run) / "summary.json").read_text())
    assert ("val" in summary, summary["test"]["n"], "val" in lines(Path(job.run) / "metrics.jsonl")[0]) == (
        False,
        14,
        False,
    )
