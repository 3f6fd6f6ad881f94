"""The samples in one shard's bytes: keys, labels, pixels."""

from collections.abc import Iterator

import numpy as np

from shards.errors import DataError
from shards.images import BadImage, decode_image, shape_in_words
from shards.png import stored_prefix, stored_size
from shards.tar_index import Member, index_tar

IMAGE_EXTENSIONS = ("png", "jpg", "jpeg")


class Content:
    """A shard in memory. ``name`` is what errors call it.

    Raises :class:`DataError` if the tar is cut short, or a sample has no image or no label.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._content = content
        self._name = name
        samples = list(_samples(index_tar(content, name), name))
        self.keys = [key for key, _, _ in samples]
        self._images = [image for _, image, _ in samples]
        self._labels = [label for _, _, label in samples]

    def labels(self) -> np.ndarray:
        """int64, (samples,). Raises :class:`DataError` for a ``.cls`` that holds no whole number."""
        texts = [self._content[member.offset : member.offset + member.size] for member in self._labels]
        for text, member in zip(texts, self._labels, strict=True):
            if not text.isdigit() or len(text) > 9:
                raise DataError(f"{self._name}: {member.name} holds {text[:20]!r}; it should be a label such as 3")
        return np.array([int(text) for text in texts], np.int64)

    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the first image."""
        channels, height, width = self._decode(self._images[0]).shape
        return channels, height, width

    def pixels(self, shape: tuple[int, int, int]) -> np.ndarray:
        """uint8, (samples, channels, height, width). Raises :class:`DataError` naming an image of another shape."""
        channels, height, width = shape
        images = np.empty((len(self.keys), *shape), np.uint8)
        prefix, size, row = stored_prefix(*shape), stored_size(*shape), 1 + width * channels
        for place, member in enumerate(self._images):
            # One of our own PNGs: its rows stand uncompressed behind a beginning that is always the same.
            if prefix and member.size == size and self._content.startswith(prefix, member.offset):
                start = member.offset + len(prefix)
                rows = np.frombuffer(self._content, np.uint8, height * row, start).reshape(height, row)
                if not rows[:, 0].any():
                    images[place] = rows[:, 1:].reshape(height, width, channels).transpose(2, 0, 1)
                    continue
            pixels = self._decode(member)
            if pixels.shape != shape:
                raise DataError(
                    f"{self._name}: {member.name} is {shape_in_words(pixels.shape)}; "
                    f"the data set's images are {shape_in_words(shape)}"
                )
            images[place] = pixels
        return images

    def _decode(self, member: Member) -> np.ndarray:
        try:
            return decode_image(self._content[member.offset : member.offset + member.size])[0]
        except BadImage as error:
            raise DataError(f"{self._name}: {member.name} {error}") from error


def _samples(members: list[Member], name: str) -> Iterator[tuple[str, Member, Member]]:
    """Each sample as (key, image, label). As in WebDataset, a key ends at the first dot of a file's name."""
    key, parts = "", dict[str, Member]()
    for member in members:
        folder, slash, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        if folder + slash + stem != key and parts:
            yield _sample(key, parts, name)
            parts = {}
        key = folder + slash + stem
        parts[extension.lower()] = member
    if parts:
        yield _sample(key, parts, name)


def _sample(key: str, parts: dict[str, Member], name: str) -> tuple[str, Member, Member]:
    for extension in IMAGE_EXTENSIONS:
        if extension in parts and "cls" in parts:
            return key, parts[extension], parts["cls"]
    raise DataError(f"{name}: sample {key} has .{', .'.join(parts)}; it should have .cls and one of .png, .jpg, .jpeg")
