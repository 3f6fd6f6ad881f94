"""A teacher's probabilities: where they come from, what the loss makes of them, and that a run keeps them."""

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from cpu_options import TEACHER, with_teacher
from interrupting import same_files
from stop_after import FlagAt

import fer_ddp
from fer_ddp import distributed
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import Interrupted, JobError, RunError
from fer_ddp.evaluation import evaluate
from fer_ddp.metrics.calibration import apply_temperature
from fer_ddp.optim.distillation import softened
from fer_ddp.runs.checkpoint import save_checkpoint
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import read_predictions, write_predictions
from fer_ddp.training.run import train
from fer_ddp.training.setup import build_trainer, resolve_auto
from fer_ddp.training.teacher import _in_order, compute_teacher
from shards.files import sha256_of

CPU = torch.device("cpu")


def untrained_run(tiny_job: Path, path: Path, seed: int) -> Path:
    """A run folder with the initial weights as its best."""
    job = load_job(tiny_job, [f"seed={seed}", f"run={path}"])
    dataset = FERDataset(job.data.path, "train")
    job, run = resolve_auto(job, dataset.manifest, CPU), RunFolder(path)
    run.create()
    run.save_config(job.to_dict())
    save_checkpoint(run.checkpoints / "best.safetensors", build_trainer(job, dataset, 1, CPU).state.weights())
    return path


def table(tiny_job: Path, *teachers: Path) -> np.ndarray:
    job = load_job(tiny_job, [f"distillation.teacher=[{', '.join(map(str, teachers))}]"])
    return compute_teacher(job, FERDataset(job.data.path, "train"), CPU)


def test_the_loss_is_that_of_a_reference_also_of_mixed_images(tiny_job: Path) -> None:
    weight, temperature = 0.7, 3.0
    overrides = [f"distillation={{teacher: {TEACHER}, weight: {weight}, temperature: {temperature}}}"]
    overrides += ["augment.mixup_alpha=1", "precision=float64", "loss.label_smoothing=0.1", "model.arguments.dropout=0"]
    job = load_job(tiny_job, with_teacher(overrides, tiny_job))
    trainer = build_trainer(job, FERDataset(job.data.path, "train"), 1, CPU)
    batch, raw = trainer.loader[0], trainer.loader.raw_batch(0)
    with torch.no_grad():
        logits = trainer.state.model(batch.images).numpy()
    powers = read_predictions(tiny_job.parent / "teacher.csv", as_float64=True).probabilities ** (1 / temperature)
    taught = (powers / powers.sum(axis=1, keepdims=True))[batch.indices]
    labels, targets = batch.labels.numpy(), batch.targets.numpy()
    other = np.arange(len(labels)) ^ 1
    shares = np.where(labels != labels[other], targets[np.arange(len(labels)), labels], np.nan)[:, None]
    mixed = shares * taught + (1 - shares) * taught[other]
    assert batch.teacher is not None
    known = ~np.isnan(shares[:, 0])
    np.testing.assert_allclose(batch.teacher.numpy()[known], mixed[known], rtol=1e-9)
    soft = logits / temperature
    imitation = -(batch.teacher.numpy() * (soft - np.log(np.exp(soft).sum(axis=1, keepdims=True)))).sum(axis=1)
    smoothed = 0.9 * targets + 0.1 / 7
    on_labels = -(smoothed * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1)
    expected = ((1 - weight) * on_labels + weight * temperature**2 * imitation).mean()
    assert trainer.forward_backward(raw).item() == pytest.approx(expected, rel=1e-12)


def test_a_temperature_of_one_leaves_probabilities_also_zero() -> None:
    probabilities = torch.tensor([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(softened(probabilities, 1.0), probabilities, rtol=1e-12, atol=1e-300)


def test_runs_and_ensembles_predict_each_image_as_it_is_and_are_averaged(tiny_job: Path, tmp_path: Path) -> None:
    runs = [untrained_run(tiny_job, tmp_path / f"seed{seed}", seed) for seed in (1, 2)]
    images = FERDataset(load_job(tiny_job, []).data.path, "train").images[:, 0].numpy()
    single = [fer_ddp.load(run, "cpu").predict(images).probabilities for run in runs]
    np.testing.assert_allclose(table(tiny_job, runs[0]), single[0], atol=1e-6)
    np.testing.assert_allclose(table(tiny_job, *runs), (single[0] + single[1]) / 2, atol=1e-6)
    ensemble = tmp_path / "ensemble"
    ensemble.mkdir()
    members = [{"run": str(run), "config_sha256": sha256_of(run / "config.yaml")} for run in runs]
    (ensemble / "members.json").write_text(json.dumps({"temperature": 2.0, "members": members}))
    mean = apply_temperature((single[0] + single[1]) / 2, 2.0)
    np.testing.assert_allclose(table(tiny_job, ensemble), mean, atol=1e-6)


def test_files_of_folds_cover_the_split_together_in_any_order_of_classes(tiny_job: Path, tmp_path: Path) -> None:
    with_teacher([TEACHER], tiny_job)
    whole = read_predictions(tiny_job.parent / "teacher.csv", as_float64=True)
    names, probabilities = list(whole.class_names), np.asarray(whole.probabilities)

    def file(name: str, rows: slice, order: list[int], probabilities: np.ndarray = probabilities) -> Path:
        path, labels = tmp_path / f"{name}.csv", np.argsort(order)[whole.labels[rows]]
        write_predictions(path, whole.keys[rows], labels, probabilities[rows][:, order], [names[i] for i in order])
        return path

    first = file("first", slice(0, 100), [1, 2, 3, 4, 5, 6, 0])
    second = file("second", slice(100, 240), list(range(7)))
    np.testing.assert_allclose(table(tiny_job, first, second), probabilities, rtol=1e-15)
    even = file("even", slice(0, 240), list(range(7)), np.full_like(probabilities, 1 / 7))
    averaged = table(tiny_job, first, even)
    np.testing.assert_allclose(averaged[:100], (probabilities[:100] + 1 / 7) / 2, rtol=1e-12)
    np.testing.assert_allclose(averaged[100:], 1 / 7, rtol=1e-12)
    with pytest.raises(JobError) as missing:
        table(tiny_job, first)
    assert str(missing.value) == (
        f"distillation.teacher: has no probabilities of 140 training images, such as {whole.keys[100]}; add the files "
        f"that hold them"
    )


def test_a_teacher_of_other_classes_and_what_is_no_teacher_are_refused(tiny_job: Path, tmp_path: Path) -> None:
    keys = FERDataset(load_job(tiny_job, []).data.path, "train").keys
    write_predictions(tmp_path / "t.csv", keys, np.zeros(240, np.int64), np.full((240, 2), 0.5), ["happy", "sad"])
    with pytest.raises(JobError, match=r"t\.csv has the classes happy, sad; the data have angry, .* the same classes$"):
        table(tiny_job, tmp_path / "t.csv")
    names = FERDataset(load_job(tiny_job, []).data.path, "train").class_names
    write_predictions(tmp_path / "d.csv", [*keys, keys[0]], np.zeros(241, np.int64), np.full((241, 7), 1 / 7), names)
    with pytest.raises(JobError, match=rf"d\.csv has two rows for {keys[0]}; each image has one row in a file$"):
        table(tiny_job, tmp_path / "d.csv")
    with pytest.raises(JobError, match=r"^distillation\.teacher: .*/nothing is not a run, an ensemble or a CSV"):
        table(tiny_job, tmp_path / "nothing")
    job = load_job(tiny_job, [f"distillation.teacher={tmp_path}/t.csv"])
    with pytest.raises(JobError):
        train(job, CPU)
    assert not (Path(job.run) / "config.yaml").exists()


def test_a_run_keeps_what_its_teacher_predicts_and_resumes_to_the_same_bytes_without_it(
    tiny_job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_draw", lambda *arguments: None)
    teacher = untrained_run(tiny_job, tmp_path / "teacher", 1)
    digest = sha256_of(teacher / "checkpoints" / "best.safetensors")
    overrides = [f"distillation.teacher={teacher}", "augment.mixup_alpha=0.2"]
    whole, resumed = (load_job(tiny_job, [*overrides, f"run={tmp_path}/{name}"]) for name in ("whole", "resumed"))
    train(whole, CPU)
    with patch.object(distributed, "StopConsensus", lambda: FlagAt(5)), pytest.raises(Interrupted):
        train(resumed, CPU)
    shutil.rmtree(teacher)
    kept = Path(resumed.run) / "teacher.csv"
    content = kept.read_text()
    kept.write_text(content.replace("0.1", "0.2", 1))
    with pytest.raises(RunError, match=r"teacher\.csv: is not what .*teacher\.json records; remove both"):
        train(resumed, CPU)
    kept.write_text(content)
    train(resumed, CPU)
    same_files(Path(resumed.run), Path(whole.run))
    (source,) = json.loads((Path(whole.run) / "teacher.json").read_text())["sources"]
    assert source == {"path": str(teacher / "checkpoints" / "best.safetensors"), "sha256": digest}


def test_two_classes_of_one_meaning_keep_their_own_columns() -> None:
    ordered = _in_order(np.array([[0.7, 0.3]]), ["happiness", "happy"], ["happy", "happiness"], Path("t.csv"))
    assert ordered.tolist() == [[0.3, 0.7]]
