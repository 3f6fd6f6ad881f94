"""PNGs without compression, as Pillow reads them."""

import io

import numpy as np
import pytest
from PIL import Image

from shards.images import decode_image
from shards.png import encode_pngs, stored_prefix, stored_size


def random_image(channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, channels, height, width), dtype=np.uint8)


@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 48, 48), (3, 5, 7), (1, 1, 1), (3, 224, 224), (1, 300, 300)]
)
def test_pillow_reads_the_pixels_back(channels, height, width):
    images = random_image(channels, height, width)
    files = encode_pngs(images)
    assert all(np.array_equal(decode_image(file)[0], image) for file, image in zip(files, images, strict=True))
    assert [len(file) for file in files] == [stored_size(channels, height, width)] * 2


def test_an_image_in_one_block_has_its_rows_behind_the_prefix():
    image = random_image(1, 48, 48)[:1]
    prefix = stored_prefix(1, 48, 48)
    file = encode_pngs(image)[0]
    rows = np.frombuffer(file[len(prefix) :][: 48 * 49], np.uint8).reshape(48, 49)
    assert file.startswith(prefix)
    assert np.array_equal(rows[:, 1:], image[0, 0])


def test_an_image_of_many_blocks_has_no_prefix():
    assert stored_prefix(3, 224, 224) is None


def test_checksums_are_right():
    """Pillow checks a chunk's CRC when it verifies."""
    with Image.open(io.BytesIO(encode_pngs(random_image(3, 9, 9))[0])) as image:
        image.verify()
