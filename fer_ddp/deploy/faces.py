"""Finds the faces in a photograph, and cuts each out as FER2013's are. Needs the extra ``faces``.

The detector is MTCNN: K. Zhang, Z. Zhang, Z. Li and Y. Qiao, "Joint face detection and alignment using multitask
cascaded convolutional networks", IEEE Signal Processing Letters 23 (10), 2016. Its three networks, of which each looks
closer at what the one before it takes for a face, are written for torch here; their trained weights lie in the wheel of
the package ``mtcnn``, whose own code needs TensorFlow.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from fer_ddp.deploy.pictures import Box
from fer_ddp.errors import JobError

MISSING = "faces are found with the weights in mtcnn's wheel, which is not installed; pip install 'fer-ddp[faces]'"
CROP_SIDE = 1.07
"""Side of the square that is cut out, as a multiple of the mean of the detector's width and height: with it, faces of
FER2013 that are pasted into photographs are cut out as large as they were (docs/predict.md)."""
MIN_SIDE, MIN_SHARE = 20, 0.02
"""The least side of a face that is searched for: in pixels, and as a share of the image's longer side."""
_LARGEST_SIDE = 1280
"""Pixels. A larger image is reduced to it before it is searched."""
_PROPOSE, _REFINE, _DECIDE = 12, 24, 48
"""Side in pixels of what each network looks at."""
_LEAST_PROBABILITY = (0.6, 0.7, 0.7)
"""Of a face, by each network, as the authors have it."""
_PYRAMID_FACTOR = 0.709
"""Size of an image of the pyramid, as a multiple of the one before it."""


class FaceDetector:
    """Finds faces: ``FaceDetector()(image)`` for a PIL image, 8-bit grey or RGB, returns square boxes, largest first.

    scale: side of the boxes; 1 is as tight as FER2013's images are, 1.3 has 15 % more on each side. A box that would
    reach beyond the image is moved inside. Raises JobError if the package with the weights is not installed.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale
        folder = _weights_folder()
        self._propose = _Network(((3, 10, 3, 2), (10, 16, 3, 0), (16, 32, 3, 0)), None, (4, 2))
        self._refine = _Network(((3, 28, 3, 3), (28, 48, 3, 3), (48, 64, 2, 0)), (576, 128), (4, 2))
        stages = ((3, 32, 3, 3), (32, 64, 3, 3), (64, 64, 3, 2), (64, 128, 2, 0))
        self._decide = _Network(stages, (1152, 256), (4, 10, 2))
        for network, name in ((self._propose, "pnet"), (self._refine, "rnet"), (self._decide, "onet")):
            network.load(folder / f"{name}.lz4")

    def __call__(self, image: Image.Image) -> list[Box]:
        """The faces in ``image``: left, top, right, bottom in its pixels."""
        searched = image.convert("RGB")
        reduction = max(1.0, max(image.size) / _LARGEST_SIDE)
        if reduction > 1:
            width, height = (max(1, round(side / reduction)) for side in image.size)
            searched = searched.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        with torch.inference_mode():
            found = self._found(searched) * reduction
        sides = (found[:, 2:] - found[:, :2]).mean(dim=1) * CROP_SIDE * self._scale
        centres = (found[:, 2:] + found[:, :2]) / 2
        boxes = [
            _square(float(x), float(y), float(side), image.size) for (x, y), side in zip(centres, sides, strict=True)
        ]
        return sorted(boxes, key=lambda box: box[0] - box[2])

    def _found(self, image: Image.Image) -> Tensor:
        """Boxes (faces, 4) of an RGB image, in its pixels."""
        boxes, scores = self._proposed(image)
        pixels = _pixels(image)
        for network, side, least in zip(
            (self._refine, self._decide), (_REFINE, _DECIDE), _LEAST_PROBABILITY[1:], strict=True
        ):
            boxes = _squared(boxes)
            if not len(boxes):
                return boxes
            offsets, scores = network(roi_align(pixels, [boxes], side, aligned=True))
            boxes = boxes + offsets * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
            likely = scores >= least
            boxes, scores = boxes[likely], scores[likely]
            kept = nms(boxes, scores, 0.7)
            boxes, scores = boxes[kept], scores[kept]
        return boxes[_not_inside_another(boxes)]

    def _proposed(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        """Boxes (n, 4) that may be faces, and their probabilities (n,), from all sizes of the image."""
        scale = _PROPOSE / max(MIN_SIDE, MIN_SHARE * max(image.size))
        boxes, scores = [torch.empty(0, 4)], [torch.empty(0)]
        while min(image.size) * scale >= _PROPOSE:
            width, height = (round(side * scale) for side in image.size)
            smaller = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
            offsets, probabilities = self._propose(_pixels(smaller))
            places = (probabilities[0] >= _LEAST_PROBABILITY[0]).nonzero()
            corners = 2 * places.flip(1).float()  # x, y; the network moves by 2 pixels
            found = torch.cat([corners, corners + _PROPOSE], dim=1)
            found = found + _PROPOSE * offsets[0][:, places[:, 0], places[:, 1]].T
            probable = probabilities[0][places[:, 0], places[:, 1]]
            kept = nms(found, probable, 0.5)
            boxes.append(found[kept] / scale)
            scores.append(probable[kept])
            scale *= _PYRAMID_FACTOR
        every_box, every_score = torch.cat(boxes), torch.cat(scores)
        kept = nms(every_box, every_score, 0.7)
        return every_box[kept], every_score[kept]


class _Network(nn.Module):
    """Convolutions, perhaps a hidden layer, and heads, of which the first is offsets and the last face or not.

    stages: (inputs, outputs, kernel, pooling; 0 is none) of each convolution. hidden: (inputs, outputs); None is none,
    then the heads are convolutions.
    """

    def __init__(
        self, stages: Sequence[tuple[int, int, int, int]], hidden: tuple[int, int] | None, heads: Sequence[int]
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, pooling in stages:
            layers += [nn.Conv2d(inputs, outputs, kernel), nn.PReLU(outputs)]
            if pooling:
                layers.append(nn.MaxPool2d(pooling, 2, ceil_mode=True))
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Sequential() if hidden is None else nn.Sequential(nn.Linear(*hidden), nn.PReLU(hidden[1]))
        self.heads = nn.ModuleList(
            nn.Conv2d(stages[-1][1], size, 1) if hidden is None else nn.Linear(hidden[1], size) for size in heads
        )
        self.requires_grad_(False)

    def load(self, path: Path) -> None:
        """Take the weights of a Keras model with the same layers, in their order."""
        import joblib

        for parameter, values in zip(self.parameters(), joblib.load(path), strict=True):
            weights = torch.from_numpy(np.asarray(values, np.float32))
            # Keras: (height, width, inputs, outputs) and (inputs, outputs).
            order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(parameter.ndim)
            parameter.copy_(weights.permute(order) if order else weights.flatten())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of images (n, 3, height, width): the corners' offsets (n, 4, ...), the probability (n, ...) of a face."""
        values = self.body(images)
        if len(self.hidden):
            values = self.hidden(values.permute(0, 3, 2, 1).flatten(1))
        outputs = [head(values) for head in self.heads]
        return outputs[0], outputs[-1].softmax(dim=1)[:, 1]


def _weights_folder() -> Path:
    """Where the package's weights are. Raises JobError if it is not installed."""
    package = find_spec("mtcnn")  # not imported, since that needs TensorFlow
    folders = package.submodule_search_locations if package else None
    if not folders or find_spec("lz4") is None:
        raise JobError(MISSING)
    return Path(folders[0]) / "assets" / "weights"


def _pixels(image: Image.Image) -> Tensor:
    """An RGB image as the networks take it: (1, 3, height, width)."""
    return ((torch.from_numpy(np.array(image)).permute(2, 0, 1).float() - 127.5) / 128)[None]


def _squared(boxes: Tensor) -> Tensor:
    """Squares with the same centres and the longer sides."""
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True) / 2
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    return torch.cat([centres - half, centres + half], dim=1)


def _not_inside_another(boxes: Tensor) -> list[int]:
    """The indices of boxes, the most probable first, of which at most 70 % is inside one before them or around it."""
    kept: list[int] = []
    for index, (left, top, right, bottom) in enumerate(boxes.tolist()):
        for other in kept:
            x, y, x_end, y_end = boxes[other].tolist()
            shared = max(0.0, min(right, x_end) - max(left, x)) * max(0.0, min(bottom, y_end) - max(top, y))
            if shared > 0.7 * min((right - left) * (bottom - top), (x_end - x) * (y_end - y)):
                break
        else:
            kept.append(index)
    return kept


def _square(x: float, y: float, side: float, size: tuple[int, int]) -> Box:
    """The square around (x, y), moved into an image of ``size`` and no larger than it."""
    whole = max(1, min(round(side), *size))
    left, top = (
        min(max(0, round(centre - whole / 2)), limit - whole) for centre, limit in zip((x, y), size, strict=True)
    )
    return left, top, left + whole, top + whole
