"""Hugging Face's Parquet files; and that one set of faces is the same as folders, tars and Parquet."""

import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shards.errors import DataError
from shards.labels import FER2013, FER2013_CLASSES
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.listing import Listing, SourceOptions
from shards.sources.parquet import list_parquet
from shards.sources.registry import source_of

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FACES = np.random.default_rng(0).integers(0, 256, (8, 6, 6), dtype=np.uint8)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(FACES[number]).save(file, "PNG")
    return file.getvalue()


def write(path: Path, columns: dict[str, Any], names: tuple[str, ...] | dict[str, str] = (), **options: Any) -> Path:
    """As Hugging Face's datasets write it; ``names`` are those of the class label in the column ``label``."""
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def embedded(count: int) -> pa.Array:
    return pa.array([{"bytes": png(number), "path": f"{number}.png"} for number in range(count)], IMAGE)


def listed(source: Path, tmp_path: Path, **options: Any) -> Listing:
    work = tmp_path / "work"
    work.mkdir()
    return list_parquet(source, SourceOptions(work=work, **options))


BY_NUMBER = {str(number): name for number, name in enumerate(FER2013_CLASSES)}
NAMES = pa.array(["happy", "angry", "surprise"])
LABELS = {
    "class-label": ({"label": pa.array([3, 0, 5])}, {"names": FER2013_CLASSES}, {}),
    "names-by-number": ({"label": pa.array([3, 0, 5])}, {"names": BY_NUMBER}, {}),
    "text": ({"emotion": pa.array([" happy", "angry", "surprise"])}, {}, {}),
    "category": ({"label": NAMES.dictionary_encode()}, {}, {}),
    "field": (
        {"label": pa.array([1, 1, 1]), "mood": NAMES},
        {},
        {"label_field": "mood"},
    ),
    "scheme": ({"labels": pa.array([3, 0, 5], pa.int8())}, {}, {"scheme": FER2013}),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_numbers_that_the_file_names_or_names(kind, tmp_path):
    columns, names, options = LABELS[kind]
    path = write(
        tmp_path / "train-00000-of-00001.parquet", {"image": embedded(3), **columns}, row_group_size=2, **names
    )
    listing = listed(path, tmp_path, **options)
    labels = [FER2013_CLASSES[int(each.label)] if each.label.isdigit() else each.label for each in listing.images]
    assert labels == ["happy", "angry", "surprise"]
    assert list(listing.container.contents([each.location for each in listing.images])) == [png(i) for i in range(3)]
    assert listing.images[2].place == "row 3 of train-00000-of-00001.parquet"


@pytest.mark.parametrize(
    "column", [embedded(2), pa.array([png(0), png(1)]), pa.array([png(0), png(1)], pa.large_binary())]
)
def test_images_are_a_struct_or_plain_bytes(column, tmp_path):
    path = write(tmp_path / "a.parquet", {"img": column, "label": pa.array(["sad", "happy"])})
    listing = listed(path, tmp_path)
    assert list(listing.container.contents([each.location for each in listing.images])) == [png(0), png(1)]


@pytest.mark.parametrize("names", [("image", "mask"), ("face", "image"), ("label", "photo")])
def test_of_several_columns_of_bytes_the_one_that_must_be_the_image_is_taken(names, tmp_path):
    """By its name, or as the one that the file says is an image."""
    other = pa.array([b"?"])
    columns = {name: embedded(1) if name in ("image", "photo") else other for name in names} | {"hash": other}
    features = {"photo": {"_type": "Image"}, "mask": {"_type": "Image"}, "class": {"_type": "ClassLabel"}}
    table = pa.table(columns | {"class": pa.array(["sad"])})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    listing = listed(tmp_path / "a.parquet", tmp_path)
    assert list(listing.container.contents([listing.images[0].location])) == [png(0)]


def test_splits_are_those_of_the_files_or_of_their_folders(tmp_path):
    for name in (
        "data/train-00000-of-00002",
        "data/train-00001-of-00002",
        "data/validation-00000-of-00001",
        "test/0000",
    ):
        write(tmp_path / f"set/{name}.parquet", {"image": embedded(1), "label": pa.array(["sad"])})
    assert [each.split for each in listed(tmp_path / "set", tmp_path).images] == ["train", "train", "val", "test"]


@pytest.mark.parametrize(
    ("cell", "label", "reason"),
    [
        ({"bytes": None, "path": "a.png"}, 0, "has no image in it, only the path a.png; write the file again"),
        (None, 0, "has no image in it, none; write"),
        ({"bytes": png(0), "path": None}, 7, "has 7 in the column label; it should be 0 to 6"),
        ({"bytes": png(0), "path": None}, -1, "has -1 in the column label; it should be 0 to 6"),
        ({"bytes": png(0), "path": None}, float("nan"), "has nan in the column label; it should be 0 to 6"),
        ({"bytes": png(0), "path": None}, None, "has None in the column label; it should be 0 to 6"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_reject(cell, label, reason, tmp_path):
    columns = {"image": pa.array([{"bytes": png(1), "path": None}, cell], IMAGE), "label": pa.array([3, label])}
    listing = listed(write(tmp_path / "a.parquet", columns, FER2013_CLASSES), tmp_path)
    assert [each.label for each in listing.images] == ["happy"]
    ((place, found),) = [(each.place, each.reason) for each in listing.rejects]
    assert place == "row 2 of a.parquet"
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": pa.array([1])}, r"has no columns of images, its columns are label \(int64\); it should have one"),
        ({"image": embedded(1), "k": pa.array([1])}, "has no one column that must be the label's"),
        ({"image": embedded(1), "label": pa.array([1.5])}, "the class '1.5' is the only one"),
        (
            {"image": embedded(1), "label": pa.array([1]), "emotion": pa.array(["sad"])},
            "has no one column that must be the label's.*name the label's with --label-field",
        ),
        (
            {"image": embedded(1), "label": pa.array([1])},
            "row 1 of a.parquet has the label '1'.*--label-field",
        ),
    ],
    ids=["no-image", "no-label", "no-class", "two-labels", "number"],
)
def test_other_columns_are_refused_with_those_there_are(columns, message, tmp_path):
    with pytest.raises(DataError, match=message):
        listed(write(tmp_path / "a.parquet", columns), tmp_path)


def test_what_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(DataError, match=r"a\.parquet: is not a Parquet file that can be read \(.*download it again"):
        listed(tmp_path / "a.parquet", tmp_path)


def test_text_that_is_not_utf_8_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet", {"image": embedded(1), "label": pa.array([b"\xff"]).view(pa.string())})
    with pytest.raises(DataError, match=r"a\.parquet: is not a Parquet file that can be read \('utf-8' codec"):
        listed(path, tmp_path)


def test_without_pyarrow_the_message_tells_how_to_install_it(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", {"image": embedded(1), "label": pa.array(["sad"])})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=re.escape("install it with `pip install 'fer-ddp[parquet]'`")):
        listed(path, tmp_path)


def test_one_set_is_the_same_as_folders_as_tars_and_as_parquet(tmp_path):
    splits = {"train": range(5), "val": range(4, 8)}
    for split, numbers in splits.items():
        names = [FER2013_CLASSES[number % 4] for number in numbers]
        images = [{"bytes": png(number), "path": None} for number in numbers]
        labels = pa.array([number % 4 for number in numbers])
        write(
            tmp_path / f"parquet/{split}-0.parquet",
            {"image": pa.array(images, IMAGE), "label": labels},
            FER2013_CLASSES,
        )
        (tmp_path / "tars").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / f"tars/{split}-0.tar", "w") as tar:
            for number, name in zip(numbers, names, strict=True):
                path = tmp_path / f"folders/{split}/{name}/{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(number))
                (tmp_path / "label").write_text(name)
                tar.add(path, f"{number}.png")
                tar.add(tmp_path / "label", f"{number}.cls")
    packed = []
    for form in ("folders", "tars", "parquet"):
        manifest = pack(source_of(tmp_path / form), tmp_path / f"{form}-out").manifest
        samples = []
        for split in manifest.splits:
            read = read_split(tmp_path / f"{form}-out", split)
            pairs = zip(read.labels.tolist(), read.images, strict=True)
            samples.append(sorted((label, image.tobytes()) for label, image in pairs))
        counts = {split: each.class_counts for split, each in manifest.splits.items()}
        packed.append((samples, counts, manifest.class_names, manifest.mean, manifest.std, manifest.duplicates))
    assert packed[0] == packed[1] == packed[2]
    assert packed[0][1] == {"train": (2, 1, 1, 1, 0, 0, 0), "val": (1, 1, 1, 1, 0, 0, 0)}
