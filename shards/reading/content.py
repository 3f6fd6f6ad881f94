"""The samples in one shard's bytes: keys, labels, pixels."""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from shards.errors import DataError
from shards.images import BadImage, decode_image, shape_in_words
from shards.png import stored_pixels, stored_prefix, stored_size
from shards.reading.tar_index import Member, index_tar
from shards.text import printable

IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp")
_MAX_LABEL_BYTES = 64
_OTHER_FORMS = "`fer-ddp pack` reads other forms of tars"
_AT_ONCE = 256
"""Images copied at once; of 48 x 48 pixels they fit the processor's cache."""


class Content:
    """A shard in memory. ``name`` is its name in errors.

    Raises :class:`DataError` if the tar is cut short, or a sample has no image or no label.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._content = content
        self._name = name
        samples = list(_samples(index_tar(content, name), name))
        self.keys = [key for key, _, _ in samples]
        self._images = [image for _, image, _ in samples]
        self._labels = [label for _, _, label in samples]
        # Where each image's file begins in the tar, and its bytes: int64, (samples,).
        self.image_offsets = np.array([image.offset for image in self._images], np.int64)
        self.image_sizes = np.array([image.size for image in self._images], np.int64)

    def labels(self) -> np.ndarray:
        """int64, (samples,). Raises :class:`DataError` for a ``.cls`` that does not hold a whole number."""
        texts = []
        for member in self._labels:
            text = self._content[member.offset : member.offset + min(member.size, _MAX_LABEL_BYTES)].strip()
            if not text.isdigit() or len(text) > 9 or member.size > _MAX_LABEL_BYTES:
                raise DataError(
                    f"{self._name}: {member.name} holds {text[:20]!r}; it should be a label such as 3 ({_OTHER_FORMS})"
                )
            texts.append(text)
        return np.array([int(text) for text in texts], np.int64)

    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the first image."""
        channels, height, width = self._decode(self._images[0]).shape
        return channels, height, width

    def pixels(self, shape: tuple[int, int, int], out: np.ndarray | None = None) -> np.ndarray:
        """uint8, (samples, channels, height, width), written into ``out`` if that is given.

        Raises :class:`DataError` naming an image of another shape, or one that cannot be decoded.
        """
        images = np.empty((len(self.keys), *shape), np.uint8) if out is None else out
        for index in self._copy_stored(shape, images):
            member = self._images[index]
            pixels = self._decode(member)
            if pixels.shape != shape:
                raise DataError(
                    f"{self._name}: {member.name} is {shape_in_words(pixels.shape)}; "
                    f"the data set's images are {shape_in_words(shape)}"
                )
            images[index] = pixels
        return images

    def _copy_stored(self, shape: tuple[int, int, int], images: np.ndarray) -> list[int]:
        """Copy the pixels of our own PNGs, whose rows are stored as they are; returns the indices of the others."""
        size = stored_size(*shape)
        is_other = np.ones(len(images), bool)
        if stored_prefix(*shape) and len(self._content) >= size:
            candidates = np.flatnonzero(self.image_sizes == size)
            files = sliding_window_view(np.frombuffer(self._content, np.uint8), size)
            for start in range(0, len(candidates), _AT_ONCE):
                indices = candidates[start : start + _AT_ONCE]
                pixels, found = stored_pixels(files[self.image_offsets[indices]], shape)
                images[indices[found]] = pixels[found]
                is_other[indices[found]] = False
        return np.flatnonzero(is_other).tolist()

    def _decode(self, member: Member) -> np.ndarray:
        try:
            return decode_image(self._content[member.offset : member.offset + member.size])[0]
        except BadImage as error:
            raise DataError(f"{self._name}: {member.name} {error}") from error


def _samples(members: list[Member], name: str) -> Iterator[tuple[str, Member, Member]]:
    """Each sample as (key, image, label). As in WebDataset, a key ends at the first dot of a file's name.

    ``image.jpg`` and ``label.cls``, names in use for the parts of a sample, count as ``jpg`` and ``cls``.
    """
    key, parts = "", dict[str, Member]()
    for member in members:
        folder, slash, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        if folder + slash + stem != key and parts:
            yield _sample(key, parts, name)
            parts = {}
        key = folder + slash + stem
        part = extension.lower().removeprefix("image.").removeprefix("label.")
        if part in parts and part in (*IMAGE_EXTENSIONS, "cls"):
            both = f"{parts[part].name} and {member.name}"
            raise DataError(f"{name}: holds {both}; a sample should have one of them ({_OTHER_FORMS})")
        parts[part] = member
    if parts:
        yield _sample(key, parts, name)


def _sample(key: str, parts: dict[str, Member], name: str) -> tuple[str, Member, Member]:
    if any("\ud800" <= letter <= "\udfff" for letter in key):  # tarfile's form of other bytes; no CSV could hold it
        raise DataError(f"{name}: sample {printable(key)} has a name that is not UTF-8 ({_OTHER_FORMS})")
    for extension in IMAGE_EXTENSIONS:
        if extension in parts and "cls" in parts:
            return key, parts[extension], parts["cls"]
    raise DataError(
        f"{name}: sample {key} has .{', .'.join(parts)}; it should have .cls and one of "
        f".{', .'.join(IMAGE_EXTENSIONS)} ({_OTHER_FORMS})"
    )
