"""The options of training: a saved state continues to the same bytes, and what excludes another is refused."""

import json
from pathlib import Path

import pytest
import torch
from cpu_options import ON_ANY_RANKS, ON_ONE_RANK, SMALL, with_teacher

from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import JobError
from fer_ddp.runs.checkpoint import load_checkpoint, save_checkpoint
from fer_ddp.training.checks import check_job
from fer_ddp.training.cuda_graph import disabled_by
from fer_ddp.training.run import train
from fer_ddp.training.setup import build_trainer, resolve_auto

OPTIONS = ON_ANY_RANKS | ON_ONE_RANK


@pytest.mark.parametrize("overrides", OPTIONS.values(), ids=list(OPTIONS))
def test_a_saved_state_continues_to_the_same_bytes(tiny_job: Path, tmp_path: Path, overrides: list[str]) -> None:
    job = load_job(tiny_job, [*SMALL, "memory_format=channels_last", *with_teacher(overrides, tiny_job)])
    whole, resumed = (build_trainer(job, FERDataset(job.data.path, "train"), 1, torch.device("cpu")) for _ in "ab")
    for step in range(4):
        assert whole.step(whole.loader.raw_batch(step)).isfinite()
        if step == 1:
            save_checkpoint(tmp_path / "two.safetensors", whole.state.state_dict())
    resumed.state.load_state_dict(load_checkpoint(tmp_path / "two.safetensors"))
    for step in (2, 3):
        resumed.step(resumed.loader.raw_batch(step))
    for name, trainer in (("whole", whole), ("resumed", resumed)):
        save_checkpoint(tmp_path / f"{name}.safetensors", trainer.state.state_dict())
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "resumed.safetensors").read_bytes()


def test_images_grow_and_mixing_ends_at_their_steps(tiny_job: Path) -> None:
    job = load_job(tiny_job, ["image_size.sides=[32]", "augment.mixup_alpha=0.2", "augment.mixing_until=0.7"])
    loader = build_trainer(job, FERDataset(job.data.path, "train"), 1, torch.device("cpu")).loader
    batches = [loader[step] for step in range(10)]
    assert [batch.images.shape[-1] for batch in batches] == [32] * 5 + [48] * 5
    assert [bool((batch.targets.max(dim=1).values < 1).any()) for batch in batches] == [True] * 7 + [False] * 3


def test_corrected_targets_give_the_loss_from_the_start_epoch_on(tiny_job: Path) -> None:
    correction = ["label_correction.momentum=0.75", "label_correction.start_epoch=1", "precision=float64"]
    job = load_job(tiny_job, [*correction, "model.arguments.dropout=0"])
    trainer = build_trainer(job, FERDataset(job.data.path, "train"), 1, torch.device("cpu"))
    state, raw = trainer.state, trainer.loader.raw_batch(0)
    batch = trainer.loader.augmented(raw)
    with torch.no_grad():
        logits = state.model(batch.images)
    targets = 0.75 * batch.targets + 0.25 * logits.softmax(dim=1)
    on_labels, on_targets = (-(each * logits.log_softmax(dim=1)).sum(dim=1).mean() for each in (batch.targets, targets))
    torch.testing.assert_close(trainer.forward_backward(raw), on_labels, rtol=1e-12, atol=0)
    state.epoch = 1
    torch.testing.assert_close(trainer.forward_backward(raw), on_targets, rtol=1e-12, atol=0)
    assert state.label_correction is not None
    torch.testing.assert_close(state.label_correction.targets[raw.indices], targets, rtol=1e-12, atol=0)


def test_val_is_evaluated_every_so_many_epochs_and_after_the_last(tiny_job: Path) -> None:
    job = load_job(tiny_job, ["epochs=3", "evaluate.every_epochs=2"])
    train(job, torch.device("cpu"))
    lines = [json.loads(line) for line in (Path(job.run) / "metrics.jsonl").read_text().splitlines()]
    assert ["val" in line for line in lines] == [False, True, True]
    best = max(line["val"]["accuracy"] for line in lines[1:])
    assert json.loads((Path(job.run) / "summary.json").read_text())["val"]["accuracy"] == best


REFUSED = {
    "label correction on two ranks": (
        ["label_correction.momentum=0.9"],
        "label_correction.momentum: one rank keeps all targets, and there are 2; train on one rank",
    ),
    "label correction with mixing": (
        ["label_correction.momentum=0.9", "augment.cutmix_alpha=1"],
        "label_correction.momentum: needs predictions of single images; set augment.mixup_alpha and "
        "augment.cutmix_alpha to 0",
    ),
    "label correction of repeated images": (
        ["label_correction.momentum=0.9", "data.repeats=2"],
        "label_correction.momentum: moves a target once for each image, and data.repeats=2; set it to 1",
    ),
    "repeats that do not divide the batch": (
        ["data.repeats=5"],
        "data.repeats: 5 does not divide global_batch_size, which is 24; choose a batch size that is a multiple of it",
    ),
    "label correction with sam": (
        ["label_correction.momentum=0.9", "optimizer.sam_radius=0.05"],
        "label_correction.momentum: the second pass of a sharpness-aware step would move targets again; set one of "
        "label_correction.momentum and optimizer.sam_radius",
    ),
    "more groups of batch norm than the ranks share": (
        ["model.batch_norm_groups=3"],
        "model.batch_norm_groups: 2 ranks can't share 3 groups evenly; choose a multiple of 2",
    ),
    "groups of batch norm that do not divide the batch": (
        ["model.batch_norm_groups=5"],
        "model.batch_norm_groups: 5 groups of 2 images or more can't share a batch of 24 evenly; choose fewer",
    ),
    "groups of batch norm of micro-batches": (
        ["model.batch_norm_groups=2", "micro_batch_size=4"],
        "model.batch_norm_groups: micro_batch_size already makes groups for batch norm; set one of the two",
    ),
    "images that would be made larger": (
        ["image_size.sides=[32,64]"],
        "image_size.sides: is [32, 64]; the images are 48 x 48, so give 48 or less",
    ),
    "a plateau schedule that is not evaluated": (
        ["evaluate.every_epochs=2", "schedule.name=plateau"],
        "evaluate.every_epochs: schedule.name=plateau needs the val metrics of every epoch; set it to 1",
    ),
    "early stopping that is not evaluated": (
        ["evaluate.every_epochs=2", "early_stopping.patience_epochs=3"],
        "evaluate.every_epochs: early_stopping.patience_epochs needs the val metrics of every epoch; set it to 1",
    ),
}


@pytest.mark.parametrize(("overrides", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_excludes_another_option_is_refused(tiny_job: Path, overrides: list[str], message: str) -> None:
    job, world_size = load_job(tiny_job, overrides), 2 if "there are 2" in message or "2 ranks" in message else 1
    manifest = FERDataset(job.data.path, "train").manifest
    with pytest.raises(JobError) as refused:
        check_job(job, manifest, world_size)
    assert str(refused.value) == message


def test_a_model_that_can_not_take_smaller_images_is_refused(tiny_job: Path) -> None:
    job = load_job(tiny_job, ["image_size.sides=[40]"])
    with pytest.raises(JobError, match=r"^image_size.sides: plain_cnn can't take images of 40 x 40 with the weights"):
        resolve_auto(job, FERDataset(job.data.path, "train").manifest, torch.device("cpu"))


def test_options_that_make_steps_different_disable_the_cuda_graph(tiny_job: Path) -> None:
    assert disabled_by(load_job(tiny_job, ["augment.mixing_until=0.5"])) is None
    keys = ["image_size.sides=[32]", "label_correction.momentum=0.9", "augment={mixup_alpha: 1, mixing_until: 0.5}"]
    assert [disabled_by(load_job(tiny_job, [key])) for key in keys] == [
        "image_size.sides",
        "label_correction.momentum",
        "augment.mixing_until",
    ]
