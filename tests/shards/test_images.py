"""Images are read upright."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from shards.images import decode_image, pixels_of

UPRIGHT = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)
# What a camera stores for each orientation, by the definition of EXIF: which sides of the scene row 0 and column 0 are.
STORED = {
    1: UPRIGHT,  # top, left
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: UPRIGHT.T,  # left, top
    6: UPRIGHT[:, ::-1].T,  # right, top
    7: UPRIGHT[::-1, ::-1].T,  # right, bottom
    8: UPRIGHT[::-1].T,  # left, bottom
}


def image_file(pixels: np.ndarray, orientation: int | None, kind: str = "PNG") -> bytes:
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_an_image_is_read_as_the_camera_saw_it(orientation: int, kind: str) -> None:
    file = image_file(STORED[orientation], orientation, kind)
    assert np.array_equal(decode_image(file)[0], UPRIGHT[None])
    assert np.array_equal(pixels_of(Image.open(io.BytesIO(file))), UPRIGHT[None])


def test_an_image_without_an_orientation_or_with_one_that_does_not_exist_stays_as_it_is() -> None:
    for orientation in (None, 0, 9):
        assert np.array_equal(decode_image(image_file(UPRIGHT, orientation))[0], UPRIGHT[None])


@pytest.mark.parametrize(("orientation", "kept"), [(None, True), (1, True), (3, False), (6, False)])
def test_the_bytes_of_a_jpeg_can_be_kept_if_nothing_turns_it(orientation: int | None, kept: bool) -> None:
    assert decode_image(image_file(UPRIGHT, orientation, "JPEG"))[1] is kept


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0nothing that EXIF has"])
def test_damaged_exif_data_do_not_cost_the_image(exif: bytes) -> None:
    file = io.BytesIO()
    Image.fromarray(UPRIGHT).save(file, "JPEG", exif=exif)
    plain = image_file(UPRIGHT, None, "JPEG")
    pixels, kept = decode_image(file.getvalue())
    assert kept
    assert np.array_equal(pixels, decode_image(plain)[0])
