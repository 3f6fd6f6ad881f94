"""``python -m bench.predict``: `predict` on many image files against a plain PyTorch loop, alternating.

The loop does what tutorials do: for each file, open it with Pillow, make it grey, resize it, and call the model with a
batch of one.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from bench.timing import in_turns, seconds_of
from fer_ddp.augment.views import ViewsConfig
from fer_ddp.deploy.export import FromPixels
from fer_ddp.deploy.predict import Predictor, predict_files
from fer_ddp.models.registry import create_model
from shards.labels import FER2013_CLASSES
from shards.sources.synthetic_faces import draw_faces

MEAN, STD = 0.5, 0.25


def write_files(folder: Path, count: int, side: int) -> list[Path]:
    """``count`` drawn faces: PNGs of 48 pixels, or JPEGs of another side."""
    faces = draw_faces(np.arange(count) % len(FER2013_CLASSES), np.random.default_rng(0))
    paths = []
    for number, face in enumerate(faces):
        paths.append(folder / f"{number}.{'png' if side == 48 else 'jpg'}")
        image = Image.fromarray(face)
        (image if side == 48 else image.resize((side, side)).convert("RGB")).save(paths[-1])
    return paths


def plain_loop(model: nn.Module, paths: list[Path]) -> np.ndarray:
    """(images, classes)."""
    rows = []
    with torch.no_grad():
        for path in paths:
            image = Image.open(path).convert("L").resize((48, 48), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image))[None, None].float().div(255).sub(MEAN).div(STD)
            rows.append(model(pixels).softmax(dim=1)[0])
    return torch.stack(rows).numpy()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.predict", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    print("| model | files | plain loop, images/s | predict, images/s | ratio |")
    print("|---|---|---|---|---|")
    for name in ("plain_cnn", "compact_cnn"):
        network = create_model(name, {}, in_channels=1, image_size=48, num_classes=7).eval()
        whole = FromPixels(network, torch.full((1, 1, 1), MEAN), torch.full((1, 1, 1), STD), ViewsConfig()).eval()
        predictor = Predictor(
            class_names=tuple(FER2013_CLASSES), image_shape=(1, 48, 48), probabilities=_without_gradients(whole)
        )
        for side in (48, 600):
            with tempfile.TemporaryDirectory() as folder:
                paths = write_files(Path(folder), options.images, side)
                assert np.allclose(
                    predict_files(predictor, paths[:50]).predictions.probabilities,
                    plain_loop(network, paths[:50]),
                    atol=1e-5,
                )
                sides = (partial(plain_loop, network, paths), partial(predict_files, predictor, paths))
                loop, ours = in_turns([partial(seconds_of, side) for side in sides], options.repeats)
            ratio = statistics.median(a / b for a, b in zip(loop, ours, strict=True))
            speeds = " | ".join(f"{options.images / statistics.median(seconds):.0f}" for seconds in (loop, ours))
            files = "PNG, 48 px" if side == 48 else f"JPEG, {side} px"
            print(f"| `{name}` | {files} | {speeds} | {ratio:.1f} |", flush=True)
    return 0


def _without_gradients(model: nn.Module) -> Callable[[torch.Tensor], np.ndarray]:
    def probabilities(images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(images))

    return probabilities


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
