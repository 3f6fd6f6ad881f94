"""model.int8.onnx: model.onnx with int8 convolutions and linear layers. Needs the extra ``onnx``.

onnxruntime's static quantization: weights by output channel, activations by their ranges on training images. It is kept
only where it is as accurate on val as model.onnx, which is measured with both files as they are written.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_ddp.data.dataset import DataConfig, FERDataset, open_split
from fer_ddp.data.stream import StreamedSplit
from fer_ddp.deploy.onnx import ONNX
from fer_ddp.errors import JobError
from fer_ddp.hardware import processor_name
from fer_ddp.runs.environment import read_data_digest
from fer_ddp.text import percent
from shards.errors import UserError
from shards.reading.scan import load_or_scan_manifest

INT8 = "model.int8.onnx"
_CALIBRATION_IMAGES = 512
_MAX_LOSS_THOUSANDTHS = 3
"""Of the val images that may be classified wrongly in addition: 0.3 points of accuracy."""
_BATCH_SIZES = (1, 32)
"""With which speed is measured; accuracy is with the last of them."""
_SECONDS = 1.0
"""CPU time of each file for each batch size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationData:
    """What a run's model is quantized with, and what decides about the result."""

    train: FERDataset | StreamedSplit
    val: FERDataset | StreamedSplit


def open_calibration_data(run: Path, config: DataConfig) -> CalibrationData:
    """The train and val splits of ``run``. Raises JobError if they are not there or not those it was trained on."""
    try:
        manifest = load_or_scan_manifest(Path(config.path))
        if manifest.digest != read_data_digest(run):
            raise JobError(f"{config.path}: has changed since {run} was trained")
        if "val" not in manifest.splits:
            raise JobError(f"{config.path}: has no val split, on which the accuracy is measured")
        train, val = (open_split(config, split, torch.device("cpu"), manifest) for split in ("train", "val"))
    except (UserError, OSError) as error:
        raise JobError(f"--int8 needs the run's data: {error}. Put them back, or export without --int8") from None
    return CalibrationData(train=train, val=val)


def write_int8(path: Path, float32: Path, data: CalibrationData) -> tuple[dict[str, Any] | None, str | None]:
    """Quantize the model in ``float32``, and keep the result at ``path`` if it is as accurate.

    Returns what ``model.json`` has of both files, or None, and why nothing was kept, or None.
    """
    chosen = np.random.default_rng(0).permutation(len(data.train))[:_CALIBRATION_IMAGES]
    images = np.stack([np.asarray(data.train.images[index]) for index in sorted(chosen.tolist())])
    _quantize(path, float32, np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    sessions = {file.name: _session(file) for file in (float32, path)}
    correct = _count_correct(sessions, data.val)
    accuracy = {name: count / len(data.val) for name, count in correct.items()}
    if not is_as_accurate(correct[path.name], correct[float32.name], len(data.val)):
        path.unlink()
        return None, (
            f"{INT8} is not kept: its accuracy on val is {percent(accuracy[path.name], 2)}, and that of {ONNX} "
            f"{percent(accuracy[float32.name], 2)}; it may be at most 0.3 points less"
        )
    speed = _images_per_second(sessions, data.val)
    return {
        "calibration_images": len(chosen),
        "val_images": len(data.val),
        "onnxruntime": _version(),
        "processor": processor_name(),
        "files": {
            file.name: {
                "precision": precision,
                "bytes": file.stat().st_size,
                "val_accuracy": accuracy[file.name],
                "images_per_second": speed[file.name],
            }
            for file, precision in ((float32, "float32"), (path, "int8"))
        },
    }, None


def is_as_accurate(int8_correct: int, float32_correct: int, samples: int) -> bool:
    """Whether int8 is at most 0.3 points of accuracy below float32; of ``samples`` images so many are correct."""
    return 1000 * (float32_correct - int8_correct) <= _MAX_LOSS_THOUSANDTHS * samples


def _quantize(path: Path, float32: Path, images: NDArray[np.uint8]) -> None:
    """images: uint8 (n, height, width, channels)."""
    import onnx
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.starts = iter(range(0, len(images), _BATCH_SIZES[-1]))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            start = next(self.starts, None)
            return None if start is None else {"images": images[start : start + _BATCH_SIZES[-1]]}

    model = onnx.load(float32)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    # What the pre-processing does that onnxruntime would recommend in a warning, torch has done.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    quantization.quantize_static(
        model,
        path,
        Images(),
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        # Weights of 7 bits: with 8, CPUs without VNNI saturate the sums of two products (int16), and would have
        # another accuracy than the one measured here.
        reduce_range=True,
    )
    quantized: onnx.ModelProto = onnx.load(path)
    del quantized.graph.value_info[:]
    onnx.helper.set_model_props(quantized, metadata)
    path.write_bytes(quantized.SerializeToString(deterministic=True))


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _batches(split: FERDataset | StreamedSplit) -> Iterator[NDArray[np.uint8]]:
    """All images, uint8 (at most 32, height, width, channels)."""
    for batch in split.images.split(_BATCH_SIZES[-1]):
        yield np.ascontiguousarray(batch.numpy().transpose(0, 2, 3, 1))


def _count_correct(sessions: dict[str, Any], split: FERDataset | StreamedSplit) -> dict[str, int]:
    """Of each file, the number of images of ``split`` whose most probable class is their label."""
    correct = dict.fromkeys(sessions, 0)
    for images, labels in zip(_batches(split), split.labels.split(_BATCH_SIZES[-1]), strict=True):
        for name, session in sessions.items():
            correct[name] += int((session.run(None, {"images": images})[0].argmax(axis=1) == labels.numpy()).sum())
    return correct


def _images_per_second(sessions: dict[str, Any], split: FERDataset | StreamedSplit) -> dict[str, dict[str, float]]:
    """By file and batch size, the median of what one thread does in a second of its CPU time.

    The files take turns, so that whatever else runs on this machine slows both.
    """
    some = next(_batches(split))
    speed: dict[str, dict[str, float]] = {name: {} for name in sessions}
    for size in _BATCH_SIZES:
        images = some[np.arange(size) % len(some)]
        seconds: dict[str, list[float]] = {name: [] for name in sessions}
        while any(len(each) < 3 or sum(each) < _SECONDS for each in seconds.values()):
            for name, session in sessions.items():
                started = time.thread_time()
                session.run(None, {"images": images})
                seconds[name].append(time.thread_time() - started)
        for name in sessions:
            speed[name][str(size)] = round(size / median(seconds[name]), 1)
    return speed
