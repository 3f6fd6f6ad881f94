"""Other data than a model was trained on: their classes by name, their images in the model's channels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ddp.errors import JobError
from shards.labels import class_meaning
from shards.manifest import Manifest
from shards.packing.classes import ClassChoice, known_class, map_classes


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassOptions:
    """What to do with classes of the data that the model does not have; names in any spelling."""

    merge: tuple[str, ...] = ()
    """``contempt=neutral``: its samples count as the other class."""
    drop: tuple[str, ...] = ()
    """Classes whose samples are left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMapping:
    """Which class of the model each class of the data is."""

    data_classes: tuple[str, ...]
    model_classes: tuple[str, ...]
    becomes: tuple[str | None, ...]
    """The class of the model, for each of ``data_classes``; None for one whose samples are left out."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The model's label of each label of the data, -1 for one that is left out: (data classes,)."""
        return np.array([-1 if name is None else self.model_classes.index(name) for name in self.becomes], np.int64)

    def lines(self, counts: Mapping[str, Sequence[int]]) -> list[str]:
        """What was merged, left out and put in another order, for the terminal; none if the classes are the model's.

        counts: for each split, the samples of each class of the data.
        """
        lines = []
        for label, (name, new) in enumerate(zip(self.data_classes, self.becomes, strict=True)):
            if new is None or class_meaning(new) != class_meaning(name):
                what = f"left out: {name}" if new is None else f"merged: {name} into {new}"
                numbers = ", ".join(f"{split} {each[label]:,}" for split, each in counts.items())
                lines.append(f"{what} ({numbers} samples)")
        absent = [name for name in self.model_classes if name not in self.becomes]
        if absent:
            lines.append(f"not in these data: {', '.join(absent)}; predicting one of them counts as a mistake")
        if self.data_classes != self.model_classes:
            order = ", ".join(self.data_classes)
            lines.append(f"classes mapped by name: the data have {order}; the model {', '.join(self.model_classes)}")
        return lines


def map_to_model(
    manifest: Manifest, path: str, model_classes: tuple[str, ...], options: ClassOptions, splits: Iterable[str]
) -> ClassMapping:
    """The mapping of the classes of the data at ``path`` by name (:func:`shards.labels.class_meaning`).

    Raises JobError for a class with samples in ``splits`` that the model does not have and ``options`` do not name,
    DataError for names in ``options`` that are no classes of the data.
    """
    names, becomes = map_classes(manifest.class_names, ClassChoice(merge=options.merge))
    dropped = {known_class(name, names, "--drop-classes") for name in options.drop}
    by_meaning = {class_meaning(name): name for name in model_classes}
    mapped = [None if new is None or new in dropped else by_meaning.get(class_meaning(new)) for new in becomes]
    for label, (name, new) in enumerate(zip(becomes, mapped, strict=True)):
        samples = sum(manifest.splits[split].class_counts[label] for split in splits)
        if new is None and name not in dropped and samples:
            raise JobError(
                f"{path}: its class {name}, of {samples:,} samples, is not one of the model's "
                f"({', '.join(model_classes)}); leave those samples out with --drop-classes {name}, or count them as "
                f"another class with --merge {name}={model_classes[-1]} or the like"
            )
    return ClassMapping(data_classes=manifest.class_names, model_classes=model_classes, becomes=tuple(mapped))


class ImageBatches(Protocol):
    """A split's images, in memory or streamed."""

    def split(self, size: int, /) -> Iterable[Tensor]:
        """uint8 (at most ``size``, channels, height, width) each."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class InChannels:
    """Images with the channels that a model takes: RGB made grey as ``pack --grey`` does it, grey repeated as RGB."""

    images: ImageBatches
    channels: int

    def split(self, size: int, /) -> Iterator[Tensor]:
        """uint8 (at most ``size``, ``channels``, height, width) each."""
        return (in_channels(batch, self.channels) for batch in self.images.split(size))


def in_channels(images: Tensor, channels: int) -> Tensor:
    """uint8 (n, 1 or 3, height, width) as uint8 (n, ``channels``, height, width)."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32).reshape(3, 1, 1)  # Pillow's mode L: ITU-R 601
    return ((images.to(torch.int32) * weights).sum(dim=1, keepdim=True) + 2**15 >> 16).to(torch.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectedImages:
    """Some of a split's images, each read where it is used; for the figures, which show few of them."""

    images: Any
    """An array (samples, channels, height, width), or what is indexed like one."""
    indices: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples, channels, height, width)."""
        return (len(self.indices), *self.images.shape[1:])

    @property
    def ndim(self) -> int:
        """4."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self.images[self.indices[index]]
        return image
