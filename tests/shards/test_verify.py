"""``verify``: whatever does not match the manifest is found."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.manifest import read_manifest
from shards.verify import verify


@pytest.fixture
def copy(small_set, tmp_path):
    return Path(shutil.copytree(small_set, tmp_path / "copy"))


def change_manifest(folder: Path, change) -> None:
    fields = json.loads((folder / "manifest.json").read_bytes())
    change(fields)
    (folder / "manifest.json").write_text(json.dumps(fields))


def test_a_whole_data_set_passes(small_set):
    assert verify(small_set) == read_manifest(small_set)


def test_a_truncated_tar_is_named(copy):
    path = copy / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"train-000001\.tar: has \d+ bytes, the manifest says"):
        verify(copy)


def test_a_flipped_bit_is_named(copy):
    content = bytearray((copy / "test-000000.tar").read_bytes())
    content[700] ^= 1
    (copy / "test-000000.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"test-000000\.tar: its sha256"):
        verify(copy)


def test_a_tar_that_the_manifest_does_not_name_is_found(copy):
    shutil.copy(copy / "val-000000.tar", copy / "val-000001.tar")
    with pytest.raises(DataError, match=r"val-000001\.tar: is not in the manifest"):
        verify(copy)


def swap_counts(fields):
    counts = fields["splits"]["val"]["class_counts"]
    counts[0], counts[1] = counts[0] + 1, counts[1] - 1


def one_sample_more(fields):
    split = fields["splits"]["val"]
    split["shards"][0]["samples"] += 1
    split["samples"] += 1
    split["class_counts"][0] += 1


def another_mean(fields):
    fields["mean"][0] += 0.001


def another_shape(fields):
    fields["image_shape"] = [1, 8, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_counts, "val has .* samples of its classes, the manifest says"),
        (one_sample_more, r"val-000000\.tar: holds 14 samples, the manifest says 15"),
        (another_mean, "train's mean and standard deviation are"),
        (another_shape, "8 x 8 grey; the data set's images are 9 x 8 grey"),
    ],
)
def test_a_manifest_that_says_otherwise_is_found(change, message, copy):
    change_manifest(copy, change)
    with pytest.raises(DataError, match=message):
        verify(copy)


def test_a_sample_that_appears_in_two_shards_is_found(copy):
    path = copy / "train-000001.tar"
    shutil.copy(copy / "train-000000.tar", path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def tell_the_manifest(fields):
        shard = fields["splits"]["train"]["shards"][1]
        shard["bytes"], shard["sha256"] = path.stat().st_size, sha256

    change_manifest(copy, tell_the_manifest)
    with pytest.raises(DataError, match=r"train-000001\.tar: sample row-\d+ appears twice in the data set"):
        verify(copy)
