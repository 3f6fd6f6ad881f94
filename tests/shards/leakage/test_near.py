"""Near-duplicates: copies are found whatever was done to them, different faces are not copies."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from shards.leakage import near
from shards.leakage.near import MAX_DISTANCE, find_near, thumbnails
from shards.sources.synthetic_faces import draw_faces

COUNT = 21
FACES = draw_faces(np.arange(COUNT) % 7, np.random.default_rng(0))


def each(change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(face))) for face in FACES])


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


def noisy() -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 4, FACES.shape)
    return np.clip(np.rint(FACES + noise), 0, 255).astype(np.uint8)


COPIES = {
    "saved as a JPEG": each(as_jpeg),
    "with noise": noisy(),
    "brighter": np.minimum(FACES, 225) + 30,
    "with less contrast": (FACES * 0.7 + 40).astype(np.uint8),
    "two pixels to the side": np.pad(FACES, ((0, 0), (0, 0), (2, 0)), mode="edge")[:, :, :48],
    "one pixel up and left": np.pad(FACES, ((0, 0), (0, 1), (0, 1)), mode="edge")[:, 1:, 1:],
    "cropped by a pixel on each side": each(
        lambda face: face.resize((48, 48), Image.Resampling.BICUBIC, (1, 1, 47, 47))
    ),
    "made small and large again": each(lambda face: face.resize((32, 32)).resize((48, 48), Image.Resampling.BICUBIC)),
}


def test_different_faces_are_not_pairs() -> None:
    assert len(find_near(FACES).first) == 0


@pytest.mark.parametrize("copies", COPIES.values(), ids=COPIES)
def test_copies_are_found(copies: np.ndarray) -> None:
    pairs = find_near(np.concatenate([FACES, copies]))
    assert pairs.first.tolist() == list(range(COUNT))
    assert pairs.second.tolist() == list(range(COUNT, 2 * COUNT))
    assert not pairs.flipped.any()


def test_mirrored_copies_are_found_and_marked_as_flipped() -> None:
    pairs = find_near(np.concatenate([FACES, COPIES["with noise"][:, :, ::-1]]))
    assert pairs.second.tolist() == list(range(COUNT, 2 * COUNT))
    assert pairs.flipped.all()


def test_the_distance_of_equal_pictures_is_zero() -> None:
    assert find_near(FACES[[0, 0]]).distance.tolist() == [0.0]


def test_a_pair_that_is_near_both_ways_is_listed_once_with_the_lesser_distance() -> None:
    almost_symmetric = np.concatenate([FACES[:1, :, :24], COPIES["with noise"][:1, :, 23::-1]], axis=2)
    with_noise = np.minimum(almost_symmetric, 250) + np.random.default_rng(2).integers(0, 5, (1, 48, 48), np.uint8)
    as_it_is = find_near(np.concatenate([almost_symmetric, with_noise]))
    mirrored = find_near(np.concatenate([almost_symmetric, with_noise[:, :, ::-1]]))
    assert [as_it_is.flipped.tolist(), mirrored.flipped.tolist()] == [[False], [True]]
    assert as_it_is.distance.tolist() == mirrored.distance.tolist()


def test_blank_pictures_match_no_other() -> None:
    blank = np.full((4, 48, 48), 9, np.uint8)
    blank[2:, 0, 0] = (10, 11)
    assert len(find_near(blank).first) == 0


def test_no_pictures_and_one_picture_make_no_pairs() -> None:
    assert [len(find_near(FACES[:count]).first) for count in (0, 1)] == [0, 0]


def test_the_order_of_the_pictures_changes_nothing() -> None:
    pictures = np.concatenate([FACES, COPIES["cropped by a pixel on each side"]])
    last = len(pictures) - 1
    here, there = find_near(pictures), find_near(pictures[::-1])
    turned = sorted(zip(last - there.second, last - there.first, there.distance, strict=True))
    assert turned == list(zip(here.first, here.second, here.distance, strict=True))


def test_blocks_of_any_size_give_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.concatenate([FACES, COPIES["with noise"]])
    whole = find_near(pictures)
    for name, size in (("_ROWS_AT_ONCE", 5), ("_COLUMNS_AT_ONCE", 4), ("_PAIRS_AT_ONCE", 3)):
        monkeypatch.setattr(near, name, size)
    blocks = find_near(pictures)
    assert (blocks.first.tolist(), blocks.second.tolist()) == (whole.first.tolist(), whole.second.tolist())
    assert blocks.distance.tolist() == whole.distance.tolist()


def test_a_looser_limit_finds_more() -> None:
    pictures = np.concatenate([FACES, each(lambda face: face.rotate(4, Image.Resampling.BICUBIC))])
    assert len(find_near(pictures, 4 * MAX_DISTANCE).first) > len(find_near(pictures).first)


def test_a_picture_of_that_size_stays_as_it_is() -> None:
    assert np.array_equal(thumbnails(FACES[:, None]), FACES)


def test_a_larger_image_becomes_the_means_of_its_areas() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 96, 144), dtype=np.uint8)
    means = image[0, 0].reshape(48, 2, 48, 3).mean(axis=(1, 3))
    assert np.array_equal(thumbnails(image)[0], np.rint(means).astype(np.uint8))


def test_a_smaller_image_is_enlarged() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
    assert np.array_equal(thumbnails(image)[0], image[0, 0].repeat(6, axis=0).repeat(6, axis=1))


def test_an_rgb_image_becomes_grey() -> None:
    image = np.zeros((1, 3, 48, 48), np.uint8)
    image[0, 1] = 200
    assert (thumbnails(image) == 117).all()
