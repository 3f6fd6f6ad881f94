"""Images are read upright."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from shards.images import BadImage, ImageOptions, decode_image, fitted_pixels, upright_image

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
    assert np.array_equal(fitted_pixels(upright_image(Image.open(io.BytesIO(file))), ImageOptions()), UPRIGHT[None])


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


GREY = np.random.default_rng(1).integers(0, 256, (6, 6), dtype=np.uint8)
RGB = np.random.default_rng(2).integers(0, 256, (6, 6, 3), dtype=np.uint8)
GREY[0, 1] = 0
WIDE = GREY.astype(np.uint16) * 257
HALF = np.where(np.arange(36).reshape(6, 6) % 2, 255, 0).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (encoded(np.dstack([RGB, HALF])), np.where(HALF[..., None] == 255, RGB, 255)),
        (encoded(np.dstack([RGB, HALF]), "WEBP", lossless=True), np.where(HALF[..., None] == 255, RGB, 255)),
        (encoded(Image.merge("LA", [*map(Image.fromarray, (GREY, HALF))])), np.where(HALF == 255, GREY, 255)),
        (encoded(GREY, transparency=int(GREY[0, 0])), np.where(GREY[0, 0] == GREY, 255, GREY)),
        (encoded(Image.fromarray(GREY).convert("P"), transparency=0), np.dstack([np.where(GREY == 0, 255, GREY)] * 3)),
        (encoded(Image.fromarray(HALF).convert("1")), HALF),
        (encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"), RGB),
        (encoded(WIDE), GREY),
        (encoded(np.array([[0, 128, 129, 65535]], np.uint16)), np.array([[0, 0, 1, 255]])),
        (encoded(WIDE, transparency=int(WIDE[0, 0])), np.where(GREY[0, 0] == GREY, 255, GREY)),
        (encoded(WIDE, "PPM"), GREY),
        (encoded(GREY.astype(np.int32) * 257, "TIFF"), GREY),
        (encoded((GREY / 255).astype(np.float32), "TIFF"), GREY),
        (encoded(GREY.astype(np.float32), "TIFF"), GREY),
        (encoded(GREY, "BMP"), GREY),
        (encoded(RGB, "PPM"), RGB),
        (encoded(RGB, "TIFF", compression="tiff_lzw"), RGB),
        (encoded(GREY, "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]), GREY),
        (encoded(Image.fromarray(RGB).quantize(64), "GIF"), RGB),
    ],
    ids=[
        *("RGBA", "RGBA-webp", "LA", "grey-with-one-transparent", "palette-with-transparency", "one-bit", "CMYK"),
        *("sixteen-bit", "sixteen-bit-rounded", "sixteen-bit-with-transparency", "sixteen-bit-pgm", "thirty-two-bit"),
        *("float-to-1", "float-to-255", "bmp", "ppm", "tiff", "grey-gif-first-frame", "gif"),
    ],
)  # fmt: skip
def test_every_kind_of_image_becomes_8_bit_grey_or_rgb_by_the_stated_rule(file: bytes, expected: np.ndarray) -> None:
    pixels, kept = decode_image(file)
    assert np.array_equal(pixels, expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1))
    assert not kept


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, 300.0]], np.float32), "has values from 0 to 300; floats should be 0 to 1, or 0 to 255"),
        (np.array([[np.nan, 1.0]], np.float32), "has values from nan to nan; floats should be 0 to 1, or 0 to 255"),
        (np.array([[-1, 70000]], np.int32), "has values from -1 to 70000; 16-bit values are 0 to 65535"),
    ],
)
def test_values_that_no_rule_covers_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(BadImage, match=message):
        decode_image(encoded(values, "TIFF"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; copy or download it again"),
        (b"\0\0\0\x18ftypheic" + bytes(500), "is a HEIC photograph, which cannot be read; save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypisom" + bytes(500), "is a video; save its frames as PNG or JPEG"),
        (b"RIFF\0\0\0\0AVI LIST", "is a video; save its frames as PNG or JPEG"),
        (b"\x93NUMPY\1\0", r"is a NumPy array \(.npy\); write its images to PNG files"),
        (b"PK\3\4", "is a zip archive; unpack it"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing; save it as PNG"),
        (b"P5 60000 60000 255\n", "has too many pixels to be decoded; make it smaller"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer and not the file itself; run `git lfs"),
        (encoded(GREY)[:60], "is damaged "),
    ],
)
def test_what_is_not_an_image_is_named_with_what_to_do(content: bytes, message: str) -> None:
    with pytest.raises(BadImage, match=message):
        decode_image(content)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_damaged_avif_is_named_as_damaged() -> None:
    head, mark, data = encoded(GREY, "AVIF").partition(b"mdat")
    with pytest.raises(BadImage, match="is damaged"):
        decode_image(head + mark + bytes(len(data)))


def test_size_resizes_as_pillow_does_with_antialiased_bilinear_filtering() -> None:
    wide = np.random.default_rng(3).integers(0, 256, (40, 40), dtype=np.uint8)
    resized = Image.fromarray(wide).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(decode_image(encoded(wide), ImageOptions(size=8))[0][0], np.asarray(resized))


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_crop_keeps_the_square_in_the_centre_and_pad_adds_black(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(4).integers(1, 256, shape, dtype=np.uint8)
    cropped = decode_image(encoded(image), ImageOptions(fit="crop"))[0][0]
    assert np.array_equal(cropped, image[1:6] if shape[0] == 8 else image[:, 1:6])
    padded = decode_image(encoded(image), ImageOptions(fit="pad"))[0][0]
    assert np.array_equal(padded, np.pad(image, ((0, 0), (1, 2)) if shape[0] == 8 else ((1, 2), (0, 0))))
    assert decode_image(encoded(image), ImageOptions(size=4))[0].shape == (1, *shape)  # neither: it is not distorted
    assert decode_image(encoded(image), ImageOptions(size=4, fit="pad"))[0].shape == (1, 4, 4)


def test_grey_is_itu_r_601_and_rgb_repeats_grey() -> None:
    grey = decode_image(encoded(RGB), ImageOptions(channels=1))[0]
    assert np.abs(grey[0] - RGB @ [0.299, 0.587, 0.114]).max() <= 0.51
    assert np.array_equal(decode_image(encoded(GREY), ImageOptions(channels=3))[0], np.stack([GREY] * 3))


def test_a_box_is_cut_out_of_the_upright_image_before_anything_else() -> None:
    turned = image_file(STORED[6], 6)
    assert np.array_equal(decode_image(turned, box=(1, 2, 4, 5))[0][0], UPRIGHT[2:5, 1:4])
    assert np.array_equal(decode_image(turned, box=(-3, -3, 2, 99))[0][0], UPRIGHT[:, :2])
    assert np.array_equal(
        decode_image(turned, ImageOptions(fit="crop"), (1, 0, 7, 2))[0][0],
        UPRIGHT[:2, 3:5],
    )
    with pytest.raises(BadImage, match="has nothing in its box 7, 0 to 9, 3; the image has 7 x 5 pixels"):
        decode_image(turned, box=(7, 0, 9, 3))


@pytest.mark.parametrize(
    ("options", "box", "kept"),
    [
        (ImageOptions(), None, True),
        (ImageOptions(size=6, channels=1, fit="crop"), (0, 0, 6, 6), True),
        (ImageOptions(size=5), None, False),
        (ImageOptions(channels=3), None, False),
        (ImageOptions(), (0, 0, 5, 5), False),
    ],
)
def test_the_bytes_of_a_jpeg_are_kept_if_nothing_changes_its_pixels(
    options: ImageOptions, box: tuple[int, int, int, int] | None, kept: bool
) -> None:
    assert decode_image(encoded(GREY, "JPEG"), options, box)[1] is kept
    assert not decode_image(encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"))[1]
