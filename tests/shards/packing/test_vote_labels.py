"""Sets that are labelled by FER+'s votes."""

from pathlib import Path

from shards.inspection import inspect
from shards.labels import FERPLUS, read_scheme
from shards.packing.classes import ClassChoice
from shards.packing.packer import Packed, pack
from shards.reading.reader import read_split
from shards.sources.listing import SourceOptions
from shards.sources.registry import source_of

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTES = {
    "clear": "0,9,0,0,1,0,0,0,0,0",
    "contempt": "3,0,0,1,0,1,0,5,0,0",
    "tied": "5,0,5,0,0,0,0,0,0,0",
    "unknown": "3,1,0,0,0,0,0,0,6,0",
    "no face": "0,0,0,0,0,0,0,0,0,9",
    "removed": "0,0,0,0,0,0,0,0,0,10",
}


def pack_by_votes(folder: Path, write_csv, scheme: str = "ferplus") -> Packed:  # type: ignore[no-untyped-def]
    """Every kind of votes once in each split, on images that FER2013 calls angry."""
    usages = [usage for usage in ("Training", "PublicTest", "PrivateTest") for _ in VOTES]
    rows = [f"0,{number} 2 3 4,{usage}" for number, usage in enumerate(usages)]
    votes = [
        f"{usage},{'' if kind == 'removed' else 'fer.png'},{counts}"
        for usage, (kind, counts) in zip(usages, list(VOTES.items()) * 3, strict=True)
    ]
    source = source_of(
        write_csv(rows),
        votes=write_csv(votes, HEADER, "votes.csv"),
        options=SourceOptions(scheme=read_scheme(scheme)),
    )
    return pack(source, folder / "out")


def test_train_keeps_what_a_way_of_training_can_use_and_val_and_test_what_has_a_majority(tmp_path, write_csv):
    manifest = pack_by_votes(tmp_path, write_csv).manifest
    assert manifest.class_names == FERPLUS.class_names
    found = {}
    for split in ("train", "val", "test"):
        read = read_split(tmp_path / "out", split)
        found[split] = sorted(manifest.class_names[label] for label in read.labels)
    assert found == {
        "train": ["contempt", "happy", "neutral"],
        "val": ["contempt", "happy"],
        "test": ["contempt", "happy"],
    }


def test_pack_and_inspect_tell_how_many_have_a_majority(tmp_path, write_csv):
    packed = pack_by_votes(tmp_path, write_csv)
    counts = "majority 2, no majority 1 (1 of them tied), unknown 1, not a face 1, without votes 1"
    assert packed.notes[:2] == (
        f"FER+ votes of train: {counts}; 3 kept",
        f"FER+ votes of val: {counts}; 2 kept",
    )
    assert set(packed.notes) <= set(inspect(tmp_path / "out").splitlines())


def test_labels_of_fer2013_stay_where_the_scheme_is_not_ferplus(tmp_path, write_csv):
    packed = pack_by_votes(tmp_path, write_csv, "fer2013")
    assert packed.manifest.splits["train"].class_counts == (6, 0, 0, 0, 0, 0, 0)
    counts = "majority 2, no majority 1 (1 of them tied), unknown 1, not a face 1, without votes 1"
    assert packed.notes[0] == f"FER+ votes of train: {counts}"
    assert set(packed.notes) <= set(inspect(tmp_path / "out").splitlines())
    assert "labels" not in packed.manifest.options


def test_where_classes_are_merged_the_merged_votes_give_the_label(tmp_path, write_csv):
    votes = write_csv(["Training,fer.png,0,4,0,0,3,3,0,0,0,0"], HEADER, "votes.csv")
    source = source_of(write_csv(["0,1 2 3 4,Training"]), votes=votes, options=SourceOptions(scheme=FERPLUS))
    packed = pack(source, tmp_path / "out", classes=ClassChoice(merge=("disgust=angry",)))
    (label,) = read_split(tmp_path / "out", "train").labels
    assert packed.manifest.class_names[label] == "angry"
