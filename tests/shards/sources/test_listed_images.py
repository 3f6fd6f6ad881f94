"""Images of a listing get one form, and what does not have it is refused with the flags that give it."""

import os
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.errors import DataError
from shards.images import ImageOptions
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.listed_images import ImageFile, scan_listing
from shards.sources.listing import Box, Folder, ListedImage, Listing, SourceOptions
from shards.sources.registry import source_of
from shards.sources.scan import SourceScan


class HerePool:
    """Does what a pool of processes does, here and at once."""

    def map(self, work: Callable[..., Any], *items: Any) -> Any:
        return map(work, *items)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*arguments))
        return future


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes random pixels of a shape to a file in ``tmp_path``; returns its name."""

    def written(name: str, shape: tuple[int, ...] = (6, 6)) -> str:
        pixels = np.random.default_rng(len(name)).integers(1, 256, shape, dtype=np.uint8)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
        return name

    return written


def scan(root: Path, names: list[str], options: ImageOptions | None = None, box: Box | None = None) -> SourceScan:
    images = [
        ListedImage(location=name, name=name, place=name, label="happy", split="train", box=box) for name in names
    ]
    listing = Listing(root=root, images=images, container=Folder(root=root), source_format="test")
    return scan_listing(listing, HerePool(), 1, options or ImageOptions())  # type: ignore[arg-type]


def test_mixed_images_are_refused_with_their_counts_and_the_flags_that_pack_them(tmp_path, write):
    names = [write(f"grey{number}.png") for number in range(5)]
    names += [write(f"colour{number}.png", (6, 6, 3)) for number in range(4)]
    with pytest.raises(
        DataError,
        match="5 are 6 x 6 grey, 4 are 6 x 6 RGB; images should be square and of one shape: pack with --grey or --rgb$",
    ):
        scan(tmp_path, names)
    names += [write(f"large{number}.png", (8, 6)) for number in range(4)]
    with pytest.raises(DataError, match=re.escape("--pad (black bars), and --size N, and --grey or --rgb")):
        scan(tmp_path, names)
    assert scan(tmp_path, names, ImageOptions(size=5, channels=1, fit="crop")).image_shape == (1, 5, 5)


def test_images_of_many_sizes_are_counted_and_not_listed(tmp_path, write):
    names = [write(f"{side}.png", (side, side)) for side in range(4, 12)]
    with pytest.raises(DataError, match="1 is 4 x 4 grey, .* and 5 have other shapes; .*: pack with --size N$"):
        scan(tmp_path, names)


def test_a_flag_that_was_given_is_not_asked_for(tmp_path, write):
    names = [write(f"{width}.png", (4, width)) for width in range(4, 12)]
    with pytest.raises(DataError, match=re.escape("pack with --crop (their centre) or --pad (black bars)") + "$"):
        scan(tmp_path, names, ImageOptions(size=4))


def test_images_that_are_not_square_are_refused_since_training_needs_square_ones(tmp_path, write):
    names = [write(f"{number}.jpg", (8, 6)) for number in range(3)]
    message = "3 are 6 x 8 grey; images should be square: pack with --crop (their centre) or --pad (black bars)"
    with pytest.raises(DataError, match=re.escape(message)):
        scan(tmp_path, names)
    with pytest.raises(DataError, match=re.escape(message)):
        scan(tmp_path, names, ImageOptions(size=4))
    assert scan(tmp_path, names, ImageOptions(fit="pad")).image_shape == (1, 8, 8)


def test_a_few_images_of_another_shape_are_rejects(tmp_path, write):
    names = [write(f"{number}.png") for number in range(4)] + [write("odd.png", (6, 6, 3))]
    (reject,) = scan(tmp_path, names).rejects
    assert reject.place == "odd.png"
    assert reject.reason == "is 6 x 6 RGB; most of the images are 6 x 6 grey, all should be: pack with --grey or --rgb"


def test_the_manifest_records_the_options_that_were_used(tmp_path, write):
    names = [write("a.png", (8, 6))]
    assert scan(tmp_path, [write("b.png")]).options == {}
    used = ImageOptions(size=4, channels=3, fit="pad")
    assert scan(tmp_path, names, used).options == {"size": 4, "channels": 3, "fit": "pad"}


def test_a_box_outside_the_image_is_a_reject(tmp_path, write):
    found = scan(tmp_path, [write("large.png", (9, 9)), write("b.png", (4, 9))], box=Box(3, 4, 7, 8))
    assert found.image_shape == (1, 4, 4)
    assert [reject.reason for reject in found.rejects] == [
        "has nothing in its box 3, 4 to 7, 8; the image has 9 x 4 pixels"
    ]


def test_what_is_stored_has_the_pixels_that_were_scanned(tmp_path, write):
    for number in range(3):
        write(f"faces/train/sad/{number}.jpg", (8 + number, 9, 3))
    options = SourceOptions(images=ImageOptions(size=6, channels=1, fit="crop"))
    pack(source_of(tmp_path / "faces", options=options), tmp_path / "out")
    stored = read_split(tmp_path / "out", "train").images
    assert stored.shape == (3, 1, 6, 6)
    samples = list(webdataset.WebDataset([str(tmp_path / "out" / "train-000000.tar")], shardshuffle=False))
    assert all("png" in sample for sample in samples)
    with Image.open(tmp_path / "faces/train/sad/0.jpg") as image:
        expected = image.convert("L").crop((0, 0, 8, 8)).resize((6, 6), Image.Resampling.BILINEAR)
    assert any(np.array_equal(image[0], np.asarray(expected)) for image in stored)


def test_a_jpeg_that_is_kept_is_not_decoded_again(tmp_path, write, monkeypatch):
    found = scan(tmp_path, [write("a.jpg")])
    (location,) = found.table.location
    assert location == ImageFile("a.jpg", None, True)
    monkeypatch.setattr("shards.sources.listed_images.decode_image", None)
    assert list(found.images.files([location])) == [("jpg", (tmp_path / "a.jpg").read_bytes())]


def test_a_file_that_cannot_be_read_does_not_cost_those_after_it(tmp_path, write):
    names = ["absent.png", write("a.png"), "pipe.png", write("b.png"), write("c.png")]
    os.mkfifo(tmp_path / "pipe.png")
    found = scan(tmp_path, names)
    assert found.table.key.tolist() == ["a", "b", "c"]
    assert [(reject.place, reject.reason) for reject in found.rejects] == [
        ("absent.png", "cannot be read (No such file or directory)"),
        ("pipe.png", "cannot be read (is a named pipe, not a file)"),
    ]
