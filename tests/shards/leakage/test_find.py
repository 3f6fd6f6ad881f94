"""Leakage: copies within and across splits are found, listed and counted, and so are contradicting labels."""

import csv
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DataError
from shards.leakage.find import (
    COLUMNS,
    Leakage,
    Repeats,
    count_repeats,
    describe_leakage,
    find_leakage,
    leaking_keys,
    ledger_path,
    write_ledger,
)
from shards.manifest import read_manifest
from shards.packing.packer import pack
from shards.sources.registry import source_of
from shards.sources.synthetic_faces import draw_faces

FACES = draw_faces(np.arange(7), np.random.default_rng(0))
_NOISE = np.random.default_rng(1).integers(0, 9, FACES.shape, np.uint8)
NOISY = np.minimum(FACES, 240) + _NOISE
SAMPLES = [
    (3, FACES[0], "Training"),
    (1, FACES[1], "Training"),
    (4, FACES[1], "Training"),
    (2, FACES[2], "Training"),
    (3, NOISY[0], "Training"),
    (5, FACES[0], "PublicTest"),
    (2, NOISY[2], "PublicTest"),
    (6, FACES[3], "PublicTest"),
    (2, NOISY[2], "PrivateTest"),
    (6, FACES[3][:, ::-1], "PrivateTest"),
    (0, NOISY[1], "PrivateTest"),
    (0, FACES[4], "PrivateTest"),
]


@pytest.fixture
def source(write_faces: Callable[..., Path]) -> Path:
    return write_faces(SAMPLES)


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    pack(source_of(source), tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def leakage(folder: Path) -> Leakage:
    return find_leakage(folder)


def read(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_the_ledger_lists_every_copy_with_its_labels(leakage: Leakage, tmp_path: Path) -> None:
    count = write_ledger(leakage, tmp_path / "ledger.csv")
    header, *rows = read(tmp_path / "ledger.csv")
    assert tuple(header) == COLUMNS
    assert count == len(rows)
    assert [" ".join(row[:7] + row[8:]) for row in rows] == [
        "train row-0000001 happy train row-0000005 happy near no no",
        "train row-0000001 happy val row-0000006 surprise exact no yes",
        "train row-0000002 disgust train row-0000003 sad exact no yes",
        "train row-0000002 disgust test row-0000011 angry near no yes",
        "train row-0000004 fear val row-0000007 fear near no no",
        "val row-0000007 fear test row-0000009 fear exact no no",
        "val row-0000008 neutral test row-0000010 neutral near yes no",
    ]
    distances = {row[6]: [float(row[7])] for row in rows}
    assert distances["exact"] == [0.0]
    assert 0 <= distances["near"][0] <= 0.08


def test_copies_are_counted_within_and_across_splits(leakage: Leakage) -> None:
    assert count_repeats(leakage) == {
        "train": Repeats(exact=1, near=1),
        "val": Repeats(exact=0, near=0),
        "test": Repeats(exact=0, near=0),
        "train/val": Repeats(exact=1, near=1),
        "train/test": Repeats(exact=0, near=2),
        "val/test": Repeats(exact=1, near=1),
    }


def test_exact_copies_are_those_of_the_manifest(leakage: Leakage, folder: Path) -> None:
    counts = {name: repeats.exact for name, repeats in count_repeats(leakage).items()}
    duplicates = read_manifest(folder).duplicates
    assert counts == duplicates.within | duplicates.across


def test_samples_of_val_and_test_leak_if_they_appear_in_train(folder: Path) -> None:
    assert leaking_keys(folder) == {
        "val": frozenset({"row-0000006", "row-0000007"}),
        "test": frozenset({"row-0000009", "row-0000011"}),
    }


def test_only_exact_copies_leak_when_near_ones_are_not_asked_for(folder: Path) -> None:
    assert leaking_keys(folder, near=False) == {"val": frozenset({"row-0000006"}), "test": frozenset()}


def test_the_summary_says_what_was_counted(leakage: Leakage, folder: Path) -> None:
    lines = describe_leakage(leakage).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "identical near",
        "train: images that repeat an earlier one 1 1",
        "val: images that repeat an earlier one 0 0",
        "test: images that repeat an earlier one 0 0",
        "val: images also in train 1 1",
        "test: images also in train 0 2",
        "test: images also in val 1 1",
        "groups of identical images with different labels: all 2, train 1, val 0, test 0",
        "near pairs of images: 4, with different labels 1",
        "val leaks: 2 of 3 images (66.7 %) also appear in train",
        "test leaks: 2 of 4 images (50.0 %) also appear in train",
    ]
    assert read_manifest(folder).duplicates.conflicting_groups == {"all": 2, "train": 1, "val": 0, "test": 0}


def test_different_faces_are_not_leakage(write_faces: Callable[..., Path], tmp_path: Path) -> None:
    usages = ["Training"] * 4 + ["PublicTest"] * 3
    pack(source_of(write_faces(list(zip(range(7), FACES, usages, strict=True)))), tmp_path / "set")
    assert write_ledger(find_leakage(tmp_path / "set"), tmp_path / "ledger.csv") == 0
    assert read(tmp_path / "ledger.csv") == [list(COLUMNS)]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_ledger_does_not_depend_on_workers_or_on_the_shards(
    workers: int, source: Path, leakage: Leakage, tmp_path: Path
) -> None:
    pack(source_of(source), tmp_path / "other", seed=5, shard_samples=2)
    for name, found in (("one", leakage), ("other", find_leakage(tmp_path / "other", workers))):
        write_ledger(found, tmp_path / f"{name}.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()


def test_the_data_set_stays_as_it_is(folder: Path) -> None:
    def contents() -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    before = contents()
    write_ledger(find_leakage(folder), ledger_path(folder))
    assert contents() == before
    assert ledger_path(folder).parent == folder.parent


def test_a_folder_without_a_manifest_is_compared_too(folder: Path, tmp_path: Path) -> None:
    keys = leaking_keys(folder)
    shutil.copytree(folder, tmp_path / "foreign")
    (tmp_path / "foreign" / "manifest.json").unlink()
    assert leaking_keys(tmp_path / "foreign") == keys


def test_a_damaged_shard_is_named(folder: Path) -> None:
    (folder / "val-000000.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"val-000000\.tar: has 0 bytes"):
        find_leakage(folder)


def test_a_ledger_that_cannot_be_written_is_named(leakage: Leakage, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/ledger\.csv: the ledger cannot be written \(No such file") as caught:
        write_ledger(leakage, tmp_path / "nowhere" / "ledger.csv")
    assert caught.value.exit_status == 2


def test_a_folder_in_the_ledgers_place_is_left_alone(leakage: Leakage, tmp_path: Path) -> None:
    (tmp_path / "ledger.csv").mkdir()
    with pytest.raises(DataError, match="the ledger cannot be written"):
        write_ledger(leakage, tmp_path / "ledger.csv")
    assert not list(tmp_path.glob(".ledger*"))
