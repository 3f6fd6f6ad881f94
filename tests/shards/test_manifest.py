"""``manifest.json``."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.manifest import read_manifest
from shards.reading.scan import load_or_scan_manifest


def test_what_is_read_writes_the_same_bytes(small_set):
    assert read_manifest(small_set).to_bytes() == (small_set / "manifest.json").read_bytes()


def test_the_digest_is_that_of_the_file(small_set):
    expected = hashlib.sha256((small_set / "manifest.json").read_bytes()).hexdigest()
    assert read_manifest(small_set).digest == expected


def test_the_labels_are_in_the_csvs_order(small_set):
    expected = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert read_manifest(small_set).class_names == expected


def refusal(folder: Path, text: str) -> str:
    """The message with which ``text`` is refused as a manifest, without the file's path and the advice."""
    path = folder / "manifest.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_manifest(folder)
    assert caught.value.exit_status == 1
    return str(caught.value).removeprefix(f"{path}: ").removesuffix("; correct it, or pack the data set again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"votes": 7',
            "is not whole JSON (Expecting ',' delimiter: line 1 column 12 (char 11)); pack the data set again",
        ),
        ("[]", "is []; it should be keys and values"),
        ("{}", "schema_version: is missing"),
        ('{"schema_version": 99}', "has schema version 99, this program reads 1; pack the data set again"),
    ],
)
def test_what_is_not_a_manifest_is_refused(text, message, tmp_path):
    assert refusal(tmp_path, text) == message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("votes", 7, "votes: is 7; it should be keys and values"),
        ("votes", {"with": "x"}, 'votes.with: is "x"; it should be a whole number'),
        ("class_names", "angry", 'class_names: is "angry"; it should be a list'),
        ("class_names", ["a", 2], "class_names[1]: is 2; it should be text"),
        ("image_shape", [1, 8], "image_shape: is [1, 8]; it should be a list of 3"),
        ("mean", [None], "mean[0]: is null; it should be a number"),
        ("rejects", 1.5, "rejects: is 1.5; it should be a whole number"),
        ("options", {"seed": None}, "options.seed: is null; it should be a whole number or text"),
        ("splits", {"train": []}, "splits.train: is []; it should be keys and values"),
        ("splits", {"train": {"shards": [{"name": "a.tar"}]}}, "splits.train.shards[0].samples: is missing"),
        ("duplicates", "x" * 80, f'duplicates: is "{"x" * 59}...; it should be keys and values'),
        ("image_shape", [2, 8, 8], "image_shape: is [2, 8, 8]; it should be [1 or 3, height, width]"),
        ("std", [1, 1, 1], "std: has 3 numbers; it should have 1, one for each channel"),
        ("class_names", ["a"], "splits.train.class_counts: has 7 numbers; it should have 1, one for each class"),
        (
            "splits",
            {"dev": {"shards": [], "samples": 0, "class_counts": []}},
            "splits.dev: is not a split; the splits are train, val, test",
        ),
        (
            "splits",
            {"val": {"shards": [], "samples": 0, "class_counts": [0, 0, 0, 0, 0, 0, -1]}},
            "splits.val: counts less than 0 samples; counts should be 0 or more",
        ),
        *(
            (
                "splits",
                {"val": {"shards": [{"name": name, "samples": 0, "bytes": 0, "sha256": ""}],
                         "samples": 0, "class_counts": [0] * 7}},
                f"splits.val.shards: names {name!r}; it should be a tar in the manifest's own folder",
            )
            for name in ("pipe:touch x; cat a.tar", "../a.tar", "/a.tar", "s3://host/a.tar", "a")
        ),
    ],
)  # fmt: skip
def test_a_key_that_cannot_be_is_refused_by_its_name(key, value, message, small_set, tmp_path):
    fields = json.loads((small_set / "manifest.json").read_text())
    assert refusal(tmp_path, json.dumps(fields | {key: value})) == message


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("class_names", 1), "angry", "class_names: has the class 'angry' twice; each class should have a name"),
        (("class_names", 1), "\x1b[31m", r"class_names: has the class '\\x1b\[31m'; a name should be printable text"),
        (("image_shape",), [1, 10**20, 8], "height and width should be at most 4096"),
        (("std",), [0.0], r"std: is \[0.0\]; each should be a number over 0"),
        (("splits",), {}, "splits: is empty; it should have one of train, val, test"),
        (("splits", "train", "shards"), [], "splits.train.shards: is empty"),
        (("splits", "train", "shards", 0, "name"), "a\0.tar", "it should be a tar in the manifest's own folder"),
        (("splits", "train", "shards", 0, "name"), "val-000000.tar", "splits: name val-000000.tar twice"),
        (("splits", "train", "shards", 0, "bytes"), 7 << 30, "it should have at most 4,294,967,296"),
        (("splits", "train", "shards", 0, "bytes"), 0, "it should have at least one, and 2048 bytes for each"),
        (("splits", "train", "shards", 0, "samples"), 10**30, "it should have at least one, and 2048 bytes for each"),
        (("splits", "train", "samples"), -5, "splits.train.samples: is -5; its shards have"),
        (("splits", "train", "class_counts", 0), 10**18, "splits.train.samples: is "),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_true_are_refused_before_a_shard_is_looked_at(
    place, value, message, small_set, tmp_path
):
    fields = json.loads((small_set / "manifest.json").read_text())
    inner = fields
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert re.search(message, refusal(tmp_path, json.dumps(fields)))


def test_a_folder_of_data_sets_is_refused_with_one_of_them(small_set, tmp_path):
    for name in ("fold0", "fold1"):
        shutil.copytree(small_set, tmp_path / name)
    for read in (read_manifest, load_or_scan_manifest):
        with pytest.raises(DataError, match=r"holds several data sets \(fold0, fold1\); give one, such as .*/fold0"):
            read(tmp_path)


def test_a_folder_without_one_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no manifest\.json") as caught:
        read_manifest(tmp_path)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fer.csv", "is a CSV; pack it first with `fer-ddp pack {path} OUT`, and give the folder OUT"),
        ("a.tar", "is one tar; pack it first with `fer-ddp pack {path} OUT`, and give the folder OUT"),
        ("a-{{0..3}}.tar", "is a pattern of files; pack them first with `fer-ddp pack '{path}' OUT`, and give OUT"),
    ],
)
def test_what_is_no_folder_is_refused_with_what_to_do(name, message, tmp_path):
    path = tmp_path / name.format()
    if "{" not in path.name:
        path.write_text("x")
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    assert str(caught.value) == f"{path}: {message.format(path=path)}"
    assert caught.value.exit_status == 2


def test_a_file_inside_a_data_set_is_refused_with_its_folder(small_set):
    with pytest.raises(DataError, match=f"is a file of a data set; give its folder, {small_set}"):
        read_manifest(small_set / "train-000000.tar")
