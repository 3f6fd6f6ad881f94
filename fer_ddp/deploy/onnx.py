"""model.onnx: a model as onnxruntime takes it, from images of any size to probabilities. Needs the extra ``onnx``."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.export import ExportedProgram

from fer_ddp.errors import RunError
from shards.images import ImageOptions, fitted_pixels

if TYPE_CHECKING:
    import onnx

ONNX = "model.onnx"
MISSING = (
    f"{ONNX} is not written: it needs onnx, onnxruntime and onnxscript; pip install 'fer-ddp[onnx]' and export again"
)
_TOLERANCE = 1e-4
_OTHER_SIZES = ((61, 77), (30, 20))
"""(height, width) of the random images with which resizing is checked."""

# Grey becomes RGB, and both become grey, where the model takes grey, by the integers of Pillow's convert("L"), which
# leave grey as it is. The largest square in the centre is kept, as `shards.images.ImageOptions` has it for ``crop``.
# Resize is Pillow's bilinear filter: antialiased, with weights beyond the border left out.
_PREPARATION = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
prepare (uint8[batch, height, width, channels] images) => (uint8[batch, {channels}, {height}, {width}] pixels) {{
    channels_first = Transpose <perm = [0, 3, 1, 2]> (images)
    rgb_shape = Constant <value_ints = [1, 3, 1, 1]> ()
    rgb = Expand (channels_first, rgb_shape)
    {steps}
    sides = Shape <start = 2, end = 4> ({last})
    side = ReduceMin <keepdims = 1> (sides)
    left_over = Sub (sides, side)
    two = Constant <value_ints = [2]> ()
    first = Div (left_over, two)
    end = Add (first, side)
    side_axes = Constant <value_ints = [2, 3]> ()
    square = Slice ({last}, first, end, side_axes)
    size = Constant <value_ints = [{height}, {width}]> ()
    pixels = Resize <mode = "linear", antialias = 1, exclude_outside = 1, axes = [2, 3]> (square, , , size)
}}
"""
_TO_GREY = """
    weights = Constant <value = int32[1, 3, 1, 1] {19595, 38470, 7471}> ()
    half = Constant <value = int32 {32768}> ()
    whole = Constant <value = int32 {65536}> ()
    channel_axis = Constant <value_ints = [1]> ()
    wide = Cast <to = 6> (rgb)
    weighted = Mul (wide, weights)
    sum = ReduceSum (weighted, channel_axis)
    rounded = Add (sum, half)
    wide_grey = Div (rounded, whole)
    grey = Cast <to = 2> (wide_grey)
"""


def write_onnx(
    path: Path,
    program: ExportedProgram,
    model: Callable[[Tensor], Tensor],
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
) -> str | None:
    """Write ``program`` to ``path``, preceded by what makes images of any size those that it takes.

    model: what ``program`` was made of: uint8 (batch, *image_shape) to probabilities. The file takes uint8 (batch,
    height, width, 1 or 3), as NumPy and Pillow hold images, and returns float32 (batch, classes); ``class_names`` are
    in its metadata. Returns None, or why there is no file: the packages are not installed, or torch can't translate
    the model. Raises RunError if onnxruntime's results are not those of ``model`` and Pillow.
    """
    try:
        import onnx.compose
        import onnxruntime
        import onnxscript  # noqa: F401  torch needs it
    except ImportError:
        return MISSING
    try:
        core = _translated(program)
    except torch.onnx.OnnxExporterError as error:
        return f"{ONNX} is not written: torch can't translate this model ({str(error).splitlines()[0]})"
    preparation = _preparation(image_shape, core)
    whole = onnx.compose.merge_models(preparation, core, io_map=[("pixels", "pixels")])
    del whole.opset_import[1:]  # each part names the same one, and onnxruntime's quantization refuses two
    onnx.helper.set_model_props(whole, {"class_names": json.dumps(list(class_names), ensure_ascii=False)})
    onnx.checker.check_model(whole, full_check=True)
    content = whole.SerializeToString(deterministic=True)

    def session(serialized: bytes) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        opened = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
        return lambda images: opened.run(None, {"images": images})[0]

    _check_preparation(path, session(preparation.SerializeToString()), image_shape)
    _check_probabilities(path, session(content), model, image_shape)
    path.write_bytes(content)
    return None


def _translated(program: ExportedProgram) -> "onnx.ModelProto":
    """``program`` in ONNX, its input called pixels; without what torch records of this machine's paths."""
    translated = torch.onnx.export(
        program, verbose=False, external_data=False, input_names=["pixels"], output_names=["probabilities"]
    )
    assert translated is not None
    core = translated.model_proto
    del core.graph.value_info[:]
    for part in (core.graph, *core.graph.node, *core.graph.input, *core.graph.output, *core.graph.initializer):
        del part.metadata_props[:]
    for value in (*core.graph.input, *core.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return core


def _preparation(image_shape: tuple[int, int, int], core: "onnx.ModelProto") -> "onnx.ModelProto":
    """What precedes ``core``: uint8 images (batch, height, width, 1 or 3) to pixels (batch, *image_shape)."""
    import onnx.compose
    import onnx.parser

    channels, height, width = image_shape
    text = _PREPARATION.format(
        ir_version=core.ir_version,
        opset=core.opset_import[0].version,
        channels=channels,
        height=height,
        width=width,
        steps=_TO_GREY if channels == 1 else "",
        last="grey" if channels == 1 else "rgb",
    )
    # The prefix keeps its names apart from those of the model's tensors.
    return onnx.compose.add_prefix(onnx.parser.parse_model(text), "prepare/", rename_inputs=False, rename_outputs=False)


def _check_preparation(
    path: Path, prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], image_shape: tuple[int, int, int]
) -> None:
    """Raises RunError if a pixel differs by more than one grey level from Pillow's."""
    channels, height, width = image_shape
    for size in (*_OTHER_SIZES, (height, width)):
        rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        for image in (rgb, rgb[..., :1]):
            pillow = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
            options = ImageOptions(size=height, channels=1 if channels == 1 else 3, fit="crop")
            expected = fitted_pixels(pillow, options).astype(np.int16)
            if np.abs(prepare(image[None])[0] - expected).max() > 1:
                raise RunError(f"{path}: onnxruntime resizes images in another way than Pillow; try another version")


def _check_probabilities(
    path: Path,
    probabilities: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    model: Callable[[Tensor], Tensor],
    image_shape: tuple[int, int, int],
) -> None:
    """Raises RunError if a probability differs by more than `_TOLERANCE` from the model's; for batches of 8 and 1."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, *image_shape), dtype=np.uint8)
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels)).numpy()
    images = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    for count in (8, 1):
        largest = np.abs(probabilities(images[:count]) - expected[:count]).max()
        if not largest <= _TOLERANCE:  # also where one is not a number
            raise RunError(f"{path}: its probabilities differ by {largest:.1g} from the model's, so it is not kept")
