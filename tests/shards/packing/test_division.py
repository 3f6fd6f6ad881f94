"""``pack --val-fraction``, ``--test-fraction`` and ``--folds``: who is on which side."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DataError
from shards.leakage.find import find_leakage
from shards.packing.division import Division, assign
from shards.packing.packer import Packed, pack
from shards.reading.reader import read_split
from shards.sources.registry import source_of
from shards.sources.scan import SourceScan
from shards.sources.synthetic_faces import draw_faces

FACES = draw_faces(np.arange(84) % 7, np.random.default_rng(0))
NOISE = np.random.default_rng(1).integers(0, 9, FACES.shape, np.uint8)
NOISY = np.minimum(FACES, 240) + NOISE
TRAIN = [
    *((place % 7, FACES[place]) for place in range(70)),
    *((place % 7, FACES[place]) for place in range(0, 21)),  # equal
    *((place % 7, NOISY[place][:, ::-1]) for place in range(7, 28)),  # nearly, and mirrored
]


@pytest.fixture
def faces(write_faces: Callable[..., Path]) -> Path:
    rest = [(place % 7, FACES[place], usage) for place, usage in ((70, "PublicTest"), (71, "PrivateTest"))]
    return write_faces([*((label, face, "Training") for label, face in TRAIN), *rest])


@pytest.fixture
def train_alone(write_faces: Callable[..., Path]) -> Path:
    return write_faces([(label, face, "Training") for label, face in TRAIN])


def fifth(name: str) -> Division:
    return Division(**{name: Fraction(1, 5)})  # type: ignore[arg-type]


def crossing_pairs(folder: Path) -> int:
    """Pairs of equal or near images on two sides."""
    leakage = find_leakage(folder)
    repeats = np.arange(len(leakage.first))
    first = np.concatenate([leakage.first, leakage.near.first])
    second = np.concatenate([repeats, leakage.near.second])
    return int((leakage.splits[first] != leakage.splits[second]).sum())


def keys(folder: Path, split: str) -> set[str]:
    return set(read_split(folder, split).keys)


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_fraction_of_every_class_becomes_val_and_equal_and_near_images_stay_together(
    train_alone: Path, tmp_path: Path
) -> None:
    division = Division(val_fraction=Fraction(1, 5), test_fraction=Fraction(1, 10))
    packed = pack(source_of(train_alone), tmp_path / "out", division=division)
    splits = packed.manifest.splits
    totals = [sum(split.class_counts[label] for split in splits.values()) for label in range(7)]
    assert totals == [16] * 7
    assert {3, 4} >= set(splits["val"].class_counts)
    assert {1, 2} >= set(splits["test"].class_counts)
    assert crossing_pairs(tmp_path / "out") == 0
    assert packed.manifest.options == {
        **{"seed": 0, "shard_samples": 2048, "val_fraction": "0.2", "test_fraction": "0.1"}
    }
    assert packed.notes[0].startswith("kept on one side: 70 samples of train in 28 groups")
    assert packed.notes[0].endswith("the largest of 3")


@pytest.fixture
def folds(faces: Path, tmp_path: Path) -> Packed:
    return pack(source_of(faces), tmp_path / "folds", division=Division(folds=4))


def test_each_training_sample_is_in_one_folds_val_and_every_other_folds_train(folds: Packed, tmp_path: Path) -> None:
    all_keys = {f"row-{row:07d}" for row in range(1, len(TRAIN) + 1)}
    paths = [tmp_path / "folds" / f"fold{fold}" for fold in range(4)]
    assert Counter(key for path in paths for key in keys(path, "val")) == Counter(all_keys)
    assert [keys(path, "train") | keys(path, "val") for path in paths] == [all_keys] * 4
    assert [len(keys(path, "train")) + len(keys(path, "val")) for path in paths] == [len(TRAIN)] * 4
    assert [split.splits["val"].class_counts for split in folds.folds] == [(4,) * 7] * 4
    assert [crossing_pairs(path) for path in paths] == [0] * 4


def test_every_fold_has_the_test_of_the_source_and_none_its_val(folds: Packed, tmp_path: Path) -> None:
    assert [keys(tmp_path / "folds" / f"fold{fold}", "test") for fold in range(4)] == [
        {f"row-{len(TRAIN) + 2:07d}"}
    ] * 4
    assert "the source's val, 1 samples, is in no fold" in folds.notes
    assert folds.folds[2].options == {"seed": 0, "shard_samples": 2048, "folds": 4, "fold": 2}


def test_folds_are_the_same_bytes_for_any_number_of_workers_and_are_whole_or_absent(
    faces: Path, folds: Packed, tmp_path: Path
) -> None:
    pack(source_of(faces), tmp_path / "again", division=Division(folds=4), workers=4)
    assert contents(tmp_path / "again") == contents(tmp_path / "folds")
    assert not pack(source_of(faces), tmp_path / "folds", division=Division(folds=4)).created
    with pytest.raises(DataError, match=r"folds/fold0: exists and is another data set"):
        pack(source_of(faces), tmp_path / "folds", division=Division(folds=3))


def test_leaks_can_be_left_out_of_the_test_of_every_fold(write_faces: Callable[..., Path], tmp_path: Path) -> None:
    samples = [(label, face, "Training") for label, face in TRAIN]
    source = source_of(write_faces([*samples, (0, NOISY[0], "PrivateTest"), (1, FACES[71], "PrivateTest")]))
    packed = pack(source, tmp_path / "folds", without_leaks=True, division=Division(folds=2))
    assert [fold.splits["test"].samples for fold in packed.folds] == [1, 1]
    assert crossing_pairs(tmp_path / "folds" / "fold1") == 0


def with_subjects(source: Path, work: Path, pool: object, workers: int) -> SourceScan:
    scan = source_of(source)(work, pool, workers)  # type: ignore[arg-type]
    return replace(scan, table=scan.table.assign(subject=[f"person {row // 14}" for row in range(len(scan.table))]))


def test_the_samples_of_a_subject_stay_together(train_alone: Path, tmp_path: Path) -> None:
    packed = pack(partial(with_subjects, train_alone), tmp_path / "folds", division=Division(folds=2))
    sides = [
        {(int(key[-7:]) - 1) // 14 for key in keys(tmp_path / "folds" / "fold0", split)} for split in ("train", "val")
    ]
    assert sides[0] & sides[1] == set()
    assert sum(fold.splits["val"].samples for fold in packed.folds) == len(TRAIN)


@pytest.mark.parametrize("seed", range(5))
def test_every_side_has_its_share_of_every_class_to_within_one_sample(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 8, 3000)
    groups = np.where(np.arange(3000) < 800, generator.integers(0, 300, 3000), np.arange(3000))
    shares = [Fraction(7, 10), Fraction(1, 5), Fraction(1, 10)] if seed % 2 else [Fraction(1, 5)] * 5
    sides = assign(groups, labels, shares, seed)
    counts = np.array([np.bincount(labels[sides == side], minlength=8) for side in range(len(shares))])
    exact = np.array([float(share) for share in shares])[:, None] * np.bincount(labels)
    assert np.abs(counts - exact).max() < 1
    assert all(len(set(sides[groups == group].tolist())) == 1 for group in np.unique(groups))
    if not seed % 2:
        assert np.ptp(counts.sum(axis=1)) <= 1


@pytest.mark.parametrize(
    ("division", "message"),
    [
        (fifth("val_fraction"), "--val-fraction: the source has a val already, of 1 samples; leave out --val-fraction"),
        (Division(val_fraction=Fraction(3, 2)), r"--val-fraction is 1.5; it should be between 0 and 1"),
        (
            Division(val_fraction=Fraction(1, 5), test_fraction=Fraction(4, 5)),
            "--val-fraction and --test-fraction leave nothing for",
        ),
        (Division(folds=1), "--folds is 1; it should be 2 to 100"),
        (Division(folds=90), "val would get no sample: train has 70 groups"),
        (
            Division(folds=2, val_fraction=Fraction(1, 5)),
            "--folds makes the val of each fold; leave out --val-fraction",
        ),
    ],
)
def test_a_division_that_cannot_be_made_is_refused(
    division: Division, message: str, faces: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        pack(source_of(faces), tmp_path / "out", division=division)
    assert not (tmp_path / "out").exists()


def test_where_a_split_would_be_empty_the_reason_is_the_true_one(
    write_csv: Callable[..., Path], tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    rows = [" ".join(map(str, generator.integers(0, 256, 2304))) for _ in range(4)]
    source = source_of(write_csv([f"3,{row},Training" for row in rows]))
    few = "val would get no sample: train has only 4 samples, of which each side gets its share of every class; "
    with pytest.raises(DataError, match=few + "take another fraction$"):
        pack(source, tmp_path / "out", division=Division(val_fraction=Fraction(1, 10)))
    with pytest.raises(DataError, match=few + "take fewer folds$"):
        pack(source, tmp_path / "out", division=Division(folds=5))
    one = source_of(write_csv([f"3,{rows[0]},Training"] * 4))
    with pytest.raises(DataError, match="train has 1 group of samples that are kept together .*; take another"):
        pack(one, tmp_path / "out", division=fifth("val_fraction"))


def test_a_source_with_test_alone_is_a_data_set_to_evaluate_on(write_csv: Callable[..., Path], tmp_path: Path) -> None:
    source = write_csv(["3,0 0 255 255,PrivateTest"])
    manifest = pack(source_of(source), tmp_path / "out").manifest
    assert (list(manifest.splits), manifest.mean) == (["test"], (0.5,))


def test_all_of_train_can_become_test(train_alone: Path, tmp_path: Path) -> None:
    manifest = pack(source_of(train_alone), tmp_path / "out", division=Division(test_fraction=Fraction(1))).manifest
    assert {name: split.samples for name, split in manifest.splits.items()} == {"test": len(TRAIN)}
