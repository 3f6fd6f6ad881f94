"""``pack --classes`` and ``--merge``: which class each sample has in the end."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.errors import DataError
from shards.labels import FER2013_CLASSES, FERPLUS
from shards.manifest import Manifest
from shards.packing.classes import ClassChoice, map_classes
from shards.packing.packer import Packed, pack
from shards.reading.reader import read_split
from shards.reading.votes import read_votes
from shards.sources.registry import source_of
from shards.votes import CATEGORIES


@pytest.mark.parametrize(
    ("merge", "classes", "names", "becomes"),
    [
        ((), ("Happiness", "sad"), ("happy", "sad"), (None, "happy", None, "sad", None, None, None, None)),
        (
            ("contempt=neutral",),
            (),
            FERPLUS.class_names[:7],
            (*FERPLUS.class_names[:7], "neutral"),
        ),
        (
            ("anger,disgust,fear,sad,contempt=negative",),
            ("negative", "happy"),
            ("negative", "happy"),
            (None, "happy", None, "negative", "negative", "negative", "negative", "negative"),
        ),
        (
            ("sad,angry=negative", "negative,fear=bad"),
            (),
            ("neutral", "happy", "surprise", "bad", "disgust", "contempt"),
            ("neutral", "happy", "surprise", "bad", "bad", "disgust", "bad", "contempt"),
        ),
    ],
    ids=["in-the-order-given", "into-a-class", "into-a-new-one", "one-after-another"],
)
def test_each_class_becomes_another_or_none(merge, classes, names, becomes) -> None:
    assert map_classes(FERPLUS.class_names, ClassChoice(merge=merge, classes=classes)) == (names, becomes)


@pytest.mark.parametrize(
    ("merge", "classes", "message"),
    [
        ((), ("happy", "saad"), "--classes: 'saad' is not one of the classes (did you mean sad?): angry, disgust"),
        (("contempt=sad",), (), "--merge: 'contempt' is not one of the classes: angry, disgust"),
        (("angry",), (), "--merge angry: should be the classes to merge and the class they become"),
        (("sad=angry=fear",), (), "--merge sad=angry=fear: should be the classes to merge and the class they become"),
        (("sad=3",), (), "--merge sad=3: should be the classes to merge and the class they become"),
        (("sad=angry",), ("sad",), "--classes: 'sad' is not one of the classes: angry"),
        ((), ("sad", "sadness"), "--classes: names sad twice"),
    ],
)
def test_names_that_are_no_classes_are_refused(merge, classes, message) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        map_classes(FER2013_CLASSES, ClassChoice(merge=merge, classes=classes))


def labels_by_key(folder: Path) -> dict[str, str]:
    names = ("negative", "happy")
    return {
        key: names[label]
        for split in ("train", "val", "test")
        for part in [read_split(folder, split)]
        for key, label in zip(part.keys, part.labels.tolist(), strict=True)
    }


@pytest.fixture
def chosen(small_csv: Path, tmp_path: Path) -> Packed:
    choice = ClassChoice(merge=("angry,disgust,fear,sad=negative",), classes=("negative", "happy"))
    return pack(source_of(small_csv), tmp_path / "chosen", classes=choice)


def test_every_sample_has_the_class_that_its_own_became(chosen, rows, tmp_path) -> None:
    meant = ("negative", "negative", "negative", "happy", "negative", None, None)
    assert labels_by_key(tmp_path / "chosen") == {
        f"row-{row:07d}": meant[label] for row, label in enumerate(rows.labels, 1) if meant[label]
    }
    assert chosen.manifest.splits["train"].class_counts == (40, 10)


def test_what_was_merged_and_left_out_is_told_and_recorded(chosen) -> None:
    assert chosen.notes == (
        *(f"merged: 14 samples of {name} into negative" for name in ("angry", "disgust", "fear", "sad")),
        "left out by --classes: 14 of surprise, 14 of neutral",
    )
    assert chosen.manifest.options == {
        **{"seed": 0, "shard_samples": 2048, "merge": "angry,disgust,fear,sad=negative"},
        **{"classes": "negative, happy", "dropped_surprise": 14, "dropped_neutral": 14},
    }


def test_mean_and_images_are_those_of_the_samples_that_are_left(chosen, rows, tmp_path) -> None:
    mask = np.isin(rows.labels, [0, 1, 2, 3, 4])
    assert chosen.manifest.mean == pytest.approx([(rows.images[:70][mask[:70]] / 255).mean()], abs=1e-12)
    test = read_split(tmp_path / "chosen", "test")
    order = np.argsort(test.keys)
    assert np.array_equal(test.images[order, 0], rows.images[84:][mask[84:]])


def test_a_choice_that_leaves_no_sample_is_refused(write_csv: Callable[..., Path], tmp_path: Path) -> None:
    source = source_of(write_csv(["3,1 2 3 4,Training"]))
    with pytest.raises(DataError, match="no sample is left: --classes keeps sad"):
        pack(source, tmp_path / "out", classes=ClassChoice(classes=("sad",)))


def test_votes_for_a_merged_class_are_votes_for_what_it_became(write_csv: Callable[..., Path], tmp_path: Path) -> None:
    source = write_csv(["0,1 2 3 4,Training"])
    votes = tmp_path / "votes.csv"
    votes.write_text(",".join(["Usage", "Image name", *CATEGORIES]) + "\nTraining,fer1.png,1,2,0,0,4,3,0,0,0,0\n")

    def packed(merge: str) -> Manifest:
        choice = ClassChoice(merge=(merge,))
        return pack(source_of(source, votes=votes), tmp_path / "out", classes=choice).manifest

    with pytest.raises(DataError, match="--merge: 'bad' is not an expression that FER\\+'s votes name"):
        packed("angry,disgust=bad")
    manifest = packed("disgust=angry")
    assert read_votes(tmp_path / "out", "train", manifest, ["row-0000001"]).tolist() == [[1, 2, 0, 0, 7, 0, 0, 0, 0, 0]]
