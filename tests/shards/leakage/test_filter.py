"""``pack --without-leaks``: val and test lose what also appears in train, train loses nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.leakage.find import leaking_keys
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.registry import source_of
from shards.sources.synthetic_faces import draw_faces
from shards.votes import CATEGORIES

FACES = draw_faces(np.arange(7), np.random.default_rng(0))
NOISY = np.minimum(FACES, 240) + np.random.default_rng(1).integers(0, 9, FACES.shape, np.uint8)
USAGES = ("Training", "PublicTest", "PrivateTest")
SAMPLES = [
    *((place, FACES[place], "Training") for place in range(3)),
    *(
        (place, picture, "PublicTest")
        for place, picture in ((0, FACES[0]), (1, NOISY[1]), (3, FACES[3]), (4, FACES[4]))
    ),
    *((place, picture, "PrivateTest") for place, picture in ((2, NOISY[2][:, ::-1]), (3, FACES[3]), (5, FACES[5]))),
]


@pytest.fixture
def source(write_faces: Callable[..., Path]) -> Path:
    return write_faces(SAMPLES)


def test_what_appears_in_train_is_left_out_of_val_and_test(source: Path, tmp_path: Path) -> None:
    pack(source_of(source), tmp_path / "clean", without_leaks=True)
    kept = {split: sorted(read_split(tmp_path / "clean", split).keys) for split in ("train", "val", "test")}
    assert kept == {
        "train": ["row-0000001", "row-0000002", "row-0000003"],
        "val": ["row-0000006", "row-0000007"],
        "test": ["row-0000009", "row-0000010"],
    }
    assert leaking_keys(tmp_path / "clean") == {"val": frozenset(), "test": frozenset()}


def test_trains_bytes_stay_as_they_are(source: Path, tmp_path: Path) -> None:
    whole = pack(source_of(source), tmp_path / "whole", shard_samples=2).manifest
    clean = pack(source_of(source), tmp_path / "clean", shard_samples=2, without_leaks=True).manifest
    assert clean.splits["train"] == whole.splits["train"]
    assert (clean.mean, clean.std) == (whole.mean, whole.std)


def test_the_manifest_says_what_was_left_out(source: Path, tmp_path: Path) -> None:
    manifest = pack(source_of(source), tmp_path / "clean", without_leaks=True).manifest
    assert manifest.options == {
        **{"seed": 0, "shard_samples": 2048},
        **{"without_leaks": "distance up to 0.08", "left_out_val": 2, "left_out_test": 1},
    }
    assert manifest.duplicates.across == {"train/val": 0, "train/test": 0, "val/test": 1}


def test_any_number_of_workers_gives_the_same_data_set(source: Path, tmp_path: Path) -> None:
    one, two = (
        pack(source_of(source), tmp_path / str(workers), workers=workers, without_leaks=True).manifest
        for workers in (1, 2)
    )
    assert one == two


def test_each_sample_keeps_its_own_votes(source: Path, tmp_path: Path) -> None:
    lines = [",".join(["Usage", "Image name", *CATEGORIES])]
    for row, (_, _, usage) in enumerate(SAMPLES, 1):
        lines.append(f"{usage},fer{row}.png,{row}" + ",0" * 9)
    (tmp_path / "votes.csv").write_text("\n".join(lines) + "\n")
    pack(source_of(source, votes=tmp_path / "votes.csv"), tmp_path / "clean", without_leaks=True)
    tar = str(tmp_path / "clean" / "test-000000.tar")
    votes = {
        sample["__key__"]: json.loads(sample["votes.json"])["neutral"]
        for sample in webdataset.WebDataset([tar], shardshuffle=False)
    }
    assert votes == {"row-0000009": 9, "row-0000010": 10}


def test_a_split_that_leaks_altogether_is_left_out(write_faces: Callable[..., Path], tmp_path: Path) -> None:
    source = write_faces([(0, FACES[0], "Training"), (0, FACES[0], "PublicTest")])
    manifest = pack(source_of(source), tmp_path / "clean", without_leaks=True).manifest
    assert (list(manifest.splits), manifest.options["left_out_val"]) == (["train"], 1)


def test_folders_of_images_are_compared_too(tmp_path: Path) -> None:
    pictures = {"train/happy/one.png": FACES[0], "val/happy/copy.jpg": FACES[0], "val/happy/other.jpg": FACES[1]}
    for name, picture in pictures.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC).save(path)
    manifest = pack(source_of(tmp_path / "images"), tmp_path / "clean", without_leaks=True).manifest
    assert read_split(tmp_path / "clean", "val").keys == ["val-happy-other"]
    assert manifest.options["left_out_val"] == 1
