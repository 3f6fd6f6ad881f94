"""``manifest.json``."""

import hashlib
import json

import pytest

from shards.errors import DataError
from shards.manifest import read_manifest


def test_what_is_read_writes_the_same_bytes(small_set):
    assert read_manifest(small_set).to_bytes() == (small_set / "manifest.json").read_bytes()


def test_the_digest_is_that_of_the_file(small_set):
    expected = hashlib.sha256((small_set / "manifest.json").read_bytes()).hexdigest()
    assert read_manifest(small_set).digest == expected


def test_the_labels_stand_in_the_csvs_order(small_set):
    expected = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert read_manifest(small_set).class_names == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        (json.dumps({"schema_version": 99}), "has schema version 99, this program reads 1"),
    ],
)
def test_a_damaged_manifest_is_refused(text, sentence, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=f"manifest.json: {sentence}"):
        read_manifest(tmp_path)


def test_a_folder_without_one_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no manifest\.json") as caught:
        read_manifest(tmp_path)
    assert caught.value.exit_status == 2
