"""Training on FER+'s votes: which samples are shown, with which targets, on any number of ranks."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from fer_ddp.data.cache_folder import cache_folder
from fer_ddp.data.dataset import FERDataset, open_split
from fer_ddp.data.targets import draw_class, vote_shares, vote_targets
from fer_ddp.errors import JobError
from fer_ddp.randomness import sample_keys
from fer_ddp.training.checks import check_job
from fer_ddp.training.setup import build_trainer
from shards.labels import FERPLUS, LABEL_SCHEMES
from shards.manifest import read_manifest
from shards.packing.classes import ClassChoice
from shards.packing.packer import pack
from shards.sources.listing import SourceOptions
from shards.sources.registry import source_of

CPU = torch.device("cpu")
CATEGORIES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
# Each with its targets by majority, by probabilities and as a set, in FER+'s order of classes.
KINDS = [
    ("0,9,0,0,1,0,0,0,0,0", [0, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]),
    ("4,0,0,0,0,0,6,0,0,0", [0, 0, 0, 0, 0, 0, 1, 0], [0.4, 0, 0, 0, 0, 0, 0.6, 0], [1, 0, 0, 0, 0, 0, 1, 0]),
    ("0,0,2,0,0,0,0,8,0,0", [0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1]),
    ("5,0,5,0,0,0,0,0,0,0", None, [0.5, 0, 0.5, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0]),
    ("1,0,2,4,2,0,0,0,1,0", None, [0, 0, 0.25, 0.5, 0.25, 0, 0, 0], None),
    ("4,0,1,1,0,0,0,0,4,0", None, None, [1, 0, 0, 0, 0, 0, 0, 0]),
]
RULES = {"majority": 1, "probability": 2, "cross_entropy": 2, "multi_target": 3}


def pack_votes(folder: Path, name: str, scheme: str = "ferplus", classes: tuple[str, ...] = ()) -> Path:
    """``KINDS`` in turn on 60 training images and on 12 each for val and test."""
    usages = ["Training"] * 60 + ["PublicTest"] * 12 + ["PrivateTest"] * 12
    rng = np.random.default_rng(0)
    rows = [f"{n % 7},{' '.join(map(str, rng.integers(0, 256, 256)))},{usage}" for n, usage in enumerate(usages)]
    votes = [f"{usage},fer.png,{KINDS[n % len(KINDS)][0]}" for n, usage in enumerate(usages)]
    for file, header, lines in (
        ("fer.csv", "emotion,pixels,Usage", rows),
        ("votes.csv", f"Usage,Image name,{CATEGORIES}", votes),
    ):
        (folder / file).write_text("\n".join([header, *lines]) + "\n")
    options = SourceOptions(scheme=LABEL_SCHEMES[scheme])
    source = source_of(folder / "fer.csv", votes=folder / "votes.csv", options=options)
    with pytest.MonkeyPatch.context() as patch:  # the labels are arbitrary, which the packer would notice
        patch.setattr("shards.sources.ferplus_votes._FEWEST", 1000)
        pack(source, folder / name, classes=ClassChoice(classes=classes))
    return folder / name


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set labelled by votes."""
    return pack_votes(tmp_path_factory.mktemp("votes"), "voted")


@pytest.fixture
def voted_job(voted: Path, tiny_job: Path) -> Path:
    job = yaml.safe_load(tiny_job.read_text())
    job |= {"data": {"path": str(voted)}, "global_batch_size": 10, "precision": "float64"}
    tiny_job.write_text(yaml.safe_dump(job))
    return tiny_job


def row_of(key: str) -> int:
    return int(key.removeprefix("row-")) - 1


def loader_of(job: Job, ranks: int = 1) -> Any:
    manifest = read_manifest(Path(job.data.path))
    return build_trainer(job, open_split(job.data, "train", CPU, manifest), ranks, CPU).loader


@pytest.mark.parametrize("rule", RULES)
def test_the_samples_with_a_target_have_that_of_the_rule(voted: Path, rule: Any) -> None:
    dataset = FERDataset(voted, "train")
    targets = vote_targets(rule, str(voted), dataset, torch.float64)
    expected = [KINDS[row_of(key) % len(KINDS)][RULES[rule]] for key in dataset.keys]
    assert dataset.class_names == FERPLUS.class_names
    assert targets.used.tolist() == [index for index, target in enumerate(expected) if target is not None]
    for row, target in zip(targets.table, expected, strict=True):
        assert row.tolist() == pytest.approx(target or [0] * 8)


def test_seven_classes_train_on_votes_without_contempt(tmp_path: Path) -> None:
    folder = pack_votes(tmp_path, "seven", classes=("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"))
    dataset = FERDataset(folder, "train")
    targets = vote_targets("cross_entropy", str(folder), dataset, torch.float64)
    assert len(dataset) == 50  # 10 are contempt
    assert targets.table.sum(dim=1)[targets.used].tolist() == pytest.approx([1] * len(targets.used))
    afraid = next(index for index, key in enumerate(dataset.keys) if row_of(key) % len(KINDS) == 1)
    assert targets.table[afraid].tolist() == pytest.approx([0, 0, 0.6, 0, 0, 0, 0.4])


@pytest.mark.parametrize("order", ["shuffled", "class_balanced"])
def test_only_samples_with_a_target_are_shown_each_once_an_epoch(voted_job: Path, order: str) -> None:
    loader = loader_of(load_job(voted_job, ["data.targets=majority", f"data.order={order}"]))
    assert loader.steps.samples == 30
    batches = [loader[step] for step in range(3)]
    labels = torch.cat([batch.labels for batch in batches])
    assert torch.equal(torch.cat([batch.targets for batch in batches]).argmax(dim=1), labels)
    assert labels.bincount(minlength=8).tolist() == [0, 10, 0, 0, 0, 0, 10, 10]


@pytest.mark.parametrize(
    ("rule", "mode"),
    [
        ("probability", "resident"),
        ("probability", "stream"),
        ("cross_entropy", "resident"),
        ("multi_target", "resident"),
    ],
)
def test_two_ranks_together_have_the_batches_of_one(
    voted_job: Path, rule: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = load_job(voted_job, [f"data.targets={rule}", f"data.mode={mode}", "data.workers=1"])
    alone, parts = loader_of(load_job(voted_job, [f"data.targets={rule}"])), []
    for rank in ("0", "1"):
        monkeypatch.setattr("fer_ddp.distributed.rank", lambda rank=rank: int(rank))
        loader = loader_of(job, 2)
        parts.append([loader[step] for step in (0, 7, 40)])
    monkeypatch.setattr("fer_ddp.distributed.rank", lambda: 0)
    for step, first, second in zip((0, 7, 40), *parts, strict=True):
        for name in ("images", "targets", "labels"):
            assert torch.equal(torch.cat([getattr(first, name), getattr(second, name)]), getattr(alone[step], name))


def test_a_class_is_drawn_as_often_as_its_share_of_the_votes_and_independently_each_time() -> None:
    shares = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]], dtype=torch.float64).expand(20000, 5)
    keys = sample_keys(3, "targets/class", torch.arange(20000))
    drawn = draw_class(shares, keys)
    assert torch.equal(drawn.sum(dim=1), torch.ones(20000, dtype=torch.float64))
    assert drawn.mean(dim=0).tolist() == pytest.approx([0, 0.3, 0, 0.7, 0], abs=0.015)
    assert not torch.equal(drawn, draw_class(shares, sample_keys(4, "targets/class", torch.arange(20000))))
    assert torch.equal(draw_class(shares[:5], keys[100:105]), drawn[100:105])


def test_soft_targets_are_mixed_and_stay_probabilities(voted_job: Path) -> None:
    overrides = ["data.targets=cross_entropy", "augment.mixup_alpha=1"]
    batch = loader_of(load_job(voted_job, overrides))[0]
    assert batch.targets.sum(dim=1).tolist() == pytest.approx([1] * 10)
    assert int((batch.targets > 0).sum(dim=1).max()) > 2


def first_loss(job: Job) -> tuple[float, Tensor, Any]:
    trainer = build_trainer(job, FERDataset(job.data.path, "train"), 1, CPU)
    batch = trainer.loader[0]
    trainer.positions.set(batch.positions)
    with torch.no_grad():
        probabilities = trainer.state.model(batch.images).softmax(dim=1)
    return float(trainer.step(trainer.loader.raw_batch(0))), probabilities, batch


def test_a_step_on_sets_has_the_loss_of_the_best_of_each_set(voted_job: Path) -> None:
    loss, probabilities, batch = first_loss(load_job(voted_job, ["data.targets=multi_target"]))
    scores = (0.999 * batch.targets + 0.001) * probabilities
    assert loss == pytest.approx(float(-scores.max(dim=1).values.log().mean()), rel=1e-12)


def test_a_step_on_votes_has_the_weights_and_the_prior_of_the_samples_shown(voted_job: Path) -> None:
    overrides = ["data.targets=majority", "loss.class_weights=balanced", "loss.logit_adjustment=1", "loss.name=focal"]
    loss, probabilities, batch = first_loss(load_job(voted_job, overrides))
    counts = torch.tensor([0, 10, 0, 0, 0, 0, 10, 10])  # so all weights are 1, and one counts for none
    adjusted = probabilities * counts.clamp(min=1)
    chosen = (adjusted / adjusted.sum(dim=1, keepdim=True)).gather(1, batch.labels[:, None])
    assert loss == pytest.approx(float((-((1 - chosen) ** 2) * chosen.log()).mean()), rel=1e-12)


def test_the_votes_are_read_from_the_shards_once_and_again_if_the_cached_file_is_damaged(
    voted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = FERDataset(voted, "train")
    first = vote_targets("majority", str(voted), dataset, torch.float32)
    with monkeypatch.context() as patch:
        patch.setattr("fer_ddp.data.cache.read_votes", lambda *_: pytest.fail("the votes were read again"))
        assert torch.equal(vote_targets("majority", str(voted), dataset, torch.float32).table, first.table)
    (file,) = (cache_folder() / dataset.manifest.digest[:32]).glob("train-votes/votes.npy")
    os.truncate(file, 200)
    assert torch.equal(vote_targets("majority", str(voted), dataset, torch.float32).table, first.table)


def test_the_votes_on_the_images_of_each_label_are_what_it_is_smoothed_by(voted: Path) -> None:
    dataset = FERDataset(voted, "train")
    counts = np.zeros((8, 8))
    for label, key in zip(dataset.labels.tolist(), dataset.keys, strict=True):
        votes = dict(zip(CATEGORIES.split(","), map(int, KINDS[row_of(key) % len(KINDS)][0].split(",")), strict=True))
        counts[label] += [votes[name] for name in list(votes)[:8]]
    named = [index for index in range(8) if counts[index].any()]
    assert 2 < len(named) < 8
    expected = np.eye(8)
    expected[named] = counts[named] / counts[named].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(vote_shares(str(voted), dataset).numpy(), expected, rtol=1e-12)


def test_smoothing_by_votes_without_votes_is_refused(tiny_job: Path) -> None:
    job = load_job(tiny_job, ["loss={label_smoothing: 0.1, smoothing_matrix: votes}"])
    assert refusal(job) == (
        f"loss.smoothing_matrix: votes needs FER+'s votes, and {job.data.path} has no votes; pack FER2013's CSV with "
        f"--votes fer2013new.csv, or give the matrix"
    )


def test_a_step_is_smoothed_by_the_votes(voted_job: Path) -> None:
    overrides = ["loss={label_smoothing: 0.25, smoothing_matrix: votes}", "augment.mixup_alpha=1"]
    job = load_job(voted_job, overrides)
    loss, probabilities, batch = first_loss(job)
    spread = batch.targets @ vote_shares(job.data.path, FERDataset(job.data.path, "train"))
    targets = 0.75 * batch.targets + 0.25 * spread
    assert loss == pytest.approx(float(-(targets * probabilities.log()).sum(dim=1).mean()), rel=1e-12)


def refusal(job: Job) -> str:
    with pytest.raises(JobError) as caught:
        check_job(job, read_manifest(Path(job.data.path)), 1)
    return str(caught.value)


def test_votes_beside_fer2013s_own_labels_are_refused_with_what_to_pack(voted_job: Path, tmp_path: Path) -> None:
    folder = pack_votes(tmp_path, "own", "fer2013")
    assert refusal(load_job(voted_job, [f"data.path={folder}", "data.targets=majority"])) == (
        f"data.targets: majority needs a data set that is labelled by FER+'s votes, and {folder} is not; pack "
        f"FER2013's CSV with --votes fer2013new.csv --scheme ferplus, or set data.targets=label"
    )


@pytest.mark.parametrize("override", ["loss.label_smoothing=0.1", "augment.mixup_alpha=0.2", "loss.name=focal"])
def test_what_the_loss_of_sets_can_not_have_is_refused(voted_job: Path, override: str) -> None:
    message = refusal(load_job(voted_job, ["data.targets=multi_target", override]))
    assert message.startswith(f"{override if 'focal' in override else override.split('=')[0]}: ")
    assert "choose data.targets=cross_entropy" in message
