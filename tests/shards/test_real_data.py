"""The real FER2013: what is known of it must come out."""

import os
import runpy
from pathlib import Path

import numpy as np
import pandas
import pytest
import webdataset

from shards.leakage.find import Repeats, count_repeats, find_leakage, leaking
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.registry import source_of
from shards.votes import CATEGORIES, describe_votes, majority_targets, multi_targets, probability_targets

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("fer2013") / "fer2013.csv"
    runpy.run_path(str(Path(os.environ["FER2013_DATA"]) / "make_csv.py"))["main"](path)
    return path


@pytest.fixture(scope="module")
def packed(csv, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "fer2013"
    votes = Path(os.environ["FER2013_DATA"]) / "fer2013new.csv"
    return out, pack(source_of(csv, votes=votes), out, workers=2).manifest


def test_counts_are_the_published_ones(packed):
    splits = packed[1].splits
    assert splits["train"].class_counts == (3995, 436, 4097, 7215, 4830, 3171, 4965)
    assert splits["val"].class_counts == (467, 56, 496, 895, 653, 415, 607)


def test_mean_and_standard_deviation_are_known(packed):
    assert (round(packed[1].mean[0], 4), round(packed[1].std[0], 4)) == (0.5077, 0.2550)


def test_duplicates_are_known(packed):
    duplicates = packed[1].duplicates
    assert duplicates.across == {"train/val": 280}
    assert (duplicates.conflicting_groups["all"], duplicates.conflicting_groups["train"]) == (47, 39)


def test_near_duplicates_are_known(packed):
    """Not published anywhere; docs/leakage.md describes how they were inspected."""
    leakage = find_leakage(packed[0], workers=2)
    assert count_repeats(leakage) == {
        "train": Repeats(exact=1236, near=2552),
        "val": Repeats(exact=26, near=74),
        "train/val": Repeats(exact=280, near=542),
    }
    assert leaking(leakage).sum() == 822


def test_rows_without_votes_are_counted(packed):
    assert packed[1].votes == {"with": 32140, "without": 158}


def test_every_pixel_and_label_is_that_of_the_csv_through_plain_webdataset(csv, packed):
    table = pandas.read_csv(csv)
    paths = sorted(str(path) for path in packed[0].glob("*.tar"))
    wrong = 0
    count = 0
    for sample in webdataset.WebDataset(paths, shardshuffle=False).decode("l8"):
        row = table.iloc[int(sample["__key__"].removeprefix("row-")) - 1]
        same = " ".join(map(str, sample["png"].ravel().tolist())) == row.pixels and sample["cls"] == row.emotion
        wrong += not same
        count += 1
    assert (count, wrong) == (32298, 0)


def test_the_reader_gives_all_of_train(packed):
    assert read_split(packed[0], "train", workers=2).images.shape == (28709, 1, 48, 48)


def test_ferplus_votes_amount_to_what_the_documents_state():
    rows = pandas.read_csv(Path(os.environ["FER2013_DATA"]) / "fer2013new.csv", keep_default_na=False)
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for usage, split in (("Training", "train"), ("PublicTest", "val")):
        chosen = rows[rows.Usage == usage]
        votes = np.where((chosen["Image name"] != "").to_numpy()[:, None], chosen[list(CATEGORIES)].to_numpy(), 0)
        assert f"FER+ votes of {split}: {describe_votes(votes)}; " in text
        if split == "train":
            for rule in (majority_targets, probability_targets, multi_targets):
                assert f"| {rule(votes).any(axis=1).sum():,} |" in text
