"""A trained model as a folder for use elsewhere: onnxruntime, torch alone, or its weights; with a model card."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from fer_ddp.augment.pixels import normalize, to_unit_range
from fer_ddp.augment.views import ViewsConfig, views
from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import normalization
from fer_ddp.deploy.int8 import INT8, CalibrationData, open_calibration_data, write_int8
from fer_ddp.deploy.model_card import find_data, model_card
from fer_ddp.deploy.onnx import ONNX, write_onnx
from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.evaluator import BATCH_SIZE
from fer_ddp.evaluation.trained_model import TrainedModel, load_trained_model
from fer_ddp.metrics.calibration import MIN_PROBABILITY
from fer_ddp.models.build import ModelConfig, build_model
from fer_ddp.runs.environment import read_data_digest
from fer_ddp.runs.files import SCHEMA_VERSION, SPLITS, check_run_folder, read_json
from fer_ddp.runs.finished import MEMBERS_FILE, member_paths, read_members
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.shapes import Card, WholeSummary
from fer_ddp.runs.weights import EXPORTED_CONFIG, EXPORTED_WEIGHTS
from fer_ddp.text import percent
from shards.files import (
    SMALL,
    atomic_write_bytes,
    atomic_write_text,
    parse_json,
    read_regular,
    sha256_of,
    write_json,
)

MODEL, CARD = "model.pt2", "model.json"
LABELS = "labels.json"
README, EXAMPLE = "README.md", "example.py"
_CHECKED_WITH = 8
"""Random images on which an exported file must give the model's output."""
_EXAMPLE = '''"""python example.py FACE.jpg ...: the probability of each expression, in per cent."""
import json, pathlib, sys

import numpy, onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) < 2:
    sys.exit(__doc__)
folder = pathlib.Path(__file__).parent
names = json.loads((folder / "labels.json").read_text())
{int8}model = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
for path in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    probabilities = model.run(None, {"images": numpy.asarray(image)[None]})[0][0]
    print(path, *(f"{names[i]} {100 * probabilities[i]:.1f}" for i in (-probabilities).argsort()), sep="  ")
'''


_EXAMPLE_INT8 = """\
# model.int8.onnx may be used in the same way. It computes in int8: accuracy on val {int8_accuracy} instead of
# {float32_accuracy}, and {int8_speed:,.0f} images/s, not {float32_speed:,.0f} (one at a time, one thread, at export).
"""


class FromPixels(nn.Module):
    """A model with all that goes before and after it: uint8 (batch, channels, height, width) to probabilities."""

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor, views: ViewsConfig) -> None:
        super().__init__()
        self.model, self.views = model, views
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 (batch, channels, height, width). Returns float32 (batch, classes), each row summing to 1."""
        # All views in one batch, since a file with a copy of the model for each of 60 views would be hard to handle.
        pixels = torch.cat([to_unit_range(view, torch.float32) for view in views(images, self.views)])
        logits: Tensor = self.model(normalize(pixels, self.get_buffer("mean"), self.get_buffer("std")))
        probabilities: Tensor = logits.softmax(dim=1).unflatten(0, (self.views.count, -1))
        return probabilities.mean(dim=0)


class MeanOfModels(nn.Module):
    """The mean of several models' probabilities, calibrated by a temperature; 1 leaves them as they are."""

    def __init__(self, models: Sequence[nn.Module], temperature: float) -> None:
        super().__init__()
        self.models, self.temperature = nn.ModuleList(models), temperature

    def forward(self, images: Tensor) -> Tensor:
        """images: uint8 (batch, channels, height, width). Returns float32 (batch, classes), each row summing to 1."""
        first, *others = [model(images) for model in self.models]
        mean: Tensor = sum(others, first) / len(self.models)
        if self.temperature == 1:
            return mean
        return (mean.clamp_min(MIN_PROBABILITY).log() / self.temperature).softmax(dim=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What `export` wrote."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    """A message for each file that could not be written."""

    def text(self) -> str:
        """A few lines for the terminal."""
        return "\n".join([*self.notes, f"look at {', '.join(map(str, self.files))}"])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    """A run whose model is exported, alone or with others."""

    job: Job
    trained: TrainedModel
    model: FromPixels


def export(run: Path, folder: Path, *, int8: bool = False) -> Exported:
    """Write the model that ``run`` selected into ``folder``, which is new or empty.

    run: a run folder, or an ensemble's folder whose members' run folders are accessible; their probabilities are then
    averaged inside one model. ``model.onnx`` takes images of any size and needs the extra ``onnx``; ``model.pt2`` is a
    program of torch.export; ``model.safetensors`` and ``config.json`` are the weights and what they belong to;
    ``README.md`` is the model card, ``model.json`` the same for programs. All compute in float32, for a batch of any
    size. Each is compared with the model before any is kept.

    int8: also write ``model.int8.onnx``, of ``model.onnx`` and training images, if its accuracy on val is at most 0.3
    points below that of ``model.onnx``.

    Raises JobError if ``run`` is neither, a member is absent or has changed, ``folder`` is not empty, or the run's data
    are needed for ``int8`` and are not there; RunError if a file does not give the model's output.
    """
    if not (run / MEMBERS_FILE).is_file():
        check_run_folder(run)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise JobError(f"{folder}: is not an empty folder; choose another --out")
    recorded = read_members(run)
    members = [_load(path) for path in member_paths(run, recorded)] if recorded else [_load(run)]
    temperature = float(recorded.get("temperature") or 1)
    model = MeanOfModels([member.model for member in members], temperature).eval() if recorded else members[0].model
    data = open_calibration_data(run, members[0].job.data) if int8 else None
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        notes = _write(Path(partial), run, members, model, temperature, data)
        files = [path.rename(folder / path.name) for path in sorted(Path(partial).iterdir(), key=_order)]
    return Exported(files=tuple(files), notes=tuple(notes))


def _load(run: Path) -> _Member:
    job, device = load_job(run / "config.yaml", []), torch.device("cpu")
    trained = load_trained_model(RunFolder(run), job, device)
    mean, std = normalization(job.data, device, torch.float32)
    model = FromPixels(trained.model.float().to(memory_format=torch.contiguous_format), mean, std, job.views).eval()
    return _Member(job=job, trained=trained, model=model)


def _write(
    folder: Path,
    run: Path,
    members: Sequence[_Member],
    model: nn.Module,
    temperature: float,
    int8_data: CalibrationData | None,
) -> list[str]:
    """Write all files into ``folder`` and check them; returns a message for each that could not be written."""
    first = members[0].trained
    images = torch.randint(0, 256, (_CHECKED_WITH, *first.image_shape), dtype=torch.uint8)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    _write_program(folder / MODEL, program, model, images)
    note = write_onnx(folder / ONNX, program, model, first.image_shape, first.class_names)
    notes, quantized = [] if note is None else [note], None
    if int8_data is not None and note is None:
        quantized, note = write_int8(folder / INT8, folder / ONNX, int8_data)
        notes += [] if note is None else [note]
    elif int8_data is not None:
        notes.append(f"{INT8} is not written: it is made of {ONNX}")
    _write_weights(folder, members, temperature)
    write_json(folder / LABELS, list(first.class_names))
    if (folder / ONNX).is_file():
        atomic_write_text(folder / EXAMPLE, _example(quantized))
    card = _card(run, members, temperature) | ({} if quantized is None else {"int8": quantized})
    data_path = Path(members[0].job.data.path)
    text = model_card(
        name=run.resolve().name,
        summary=read_json(run / "summary.json", WholeSummary),
        jobs=[member.job.to_dict() for member in members],
        card=card,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        data=find_data(run, data_path, read_data_digest(run), first.class_names),
        files=[path.name for path in sorted(folder.iterdir(), key=_order)] + [CARD],
    )
    digests = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}  # README.md is there to be edited
    atomic_write_text(folder / README, text)
    write_json(folder / CARD, card | {"sha256": digests})
    return notes


def _example(quantized: dict[str, Any] | None) -> str:
    if quantized is None:
        return _EXAMPLE.replace("{int8}", "")
    float32, int8 = (quantized["files"][name] for name in (ONNX, INT8))
    comment = _EXAMPLE_INT8.format(
        int8_accuracy=percent(int8["val_accuracy"], 2),
        float32_accuracy=percent(float32["val_accuracy"], 2),
        int8_speed=int8["images_per_second"]["1"],
        float32_speed=float32["images_per_second"]["1"],
    )
    return _EXAMPLE.replace("{int8}", comment)


def _order(path: Path) -> int:
    return (README, EXAMPLE, ONNX, INT8, MODEL, EXPORTED_WEIGHTS, EXPORTED_CONFIG, LABELS, CARD).index(path.name)


def _write_program(path: Path, program: ExportedProgram, model: nn.Module, images: Tensor) -> None:
    """Write ``program``. Raises RunError if it does not give the output of ``model`` for ``images`` when read back."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # this machine's paths
    torch.export.save(program, path)
    with torch.inference_mode():
        expected = model(images)
    if not torch.allclose(torch.export.load(path).module()(images), expected, atol=1e-5):
        raise RunError(f"{path.name}: its output differs from the model's, so nothing was written")


def _write_weights(folder: Path, members: Sequence[_Member], temperature: float) -> None:
    """Write the weights and their description. Raises RunError if it does not describe the trained network."""
    prefixes = [f"members.{index}." for index in range(len(members))] if len(members) > 1 else [""]
    weights = {
        # A copy, since safetensors refuses tensors that share memory, as tied weights do.
        prefix + name: tensor.clone().contiguous()
        for prefix, member in zip(prefixes, members, strict=True)
        for name, tensor in member.trained.model.state_dict().items()
    }
    atomic_write_bytes(folder / EXPORTED_WEIGHTS, save(weights, metadata={"format": "pt"}))
    channels, height, width = shape = members[0].trained.image_shape
    config = {
        "schema_version": SCHEMA_VERSION,
        "image_shape": [channels, height, width],
        "class_names": list(members[0].trained.class_names),
        "members": [
            {
                "model": {"name": member.job.model.name, "arguments": member.job.model.arguments},
                "weights_prefix": prefix,
                "mean": list(member.job.data.mean or ()),
                "std": list(member.job.data.std or ()),
                "views": asdict(member.job.views),
            }
            for prefix, member in zip(prefixes, members, strict=True)
        ],
        "temperature": temperature,
    }
    write_json(folder / EXPORTED_CONFIG, config)
    saved, described = load_file(folder / EXPORTED_WEIGHTS), read_json(folder / EXPORTED_CONFIG)
    pixels = torch.rand(2, *shape)
    for member, entry in zip(members, described["members"], strict=True):
        network = build_model(
            ModelConfig(**entry["model"]), seed=0, image_shape=shape, num_classes=len(described["class_names"])
        ).eval()
        prefix = entry["weights_prefix"]
        network.load_state_dict({key.removeprefix(prefix): saved[key] for key in saved if key.startswith(prefix)})
        with torch.inference_mode():
            if not torch.allclose(network(pixels), member.trained.model.eval()(pixels), atol=1e-5):
                raise RunError(
                    f"{EXPORTED_WEIGHTS}: its network's output differs from the model's, so nothing was written"
                )


def check_labels(folder: Path, other: str, class_names: list[str]) -> None:
    """Raises ValueError if ``labels.json``, which earlier versions did not write, has other classes than ``other``."""
    path = folder / LABELS
    if path.is_file() and parse_json(read_regular(path, at_most=SMALL)) != class_names:
        raise ValueError(f"{LABELS} and {other} have other classes, or another order of them")


def load_exported(
    folder: Path, device: torch.device
) -> tuple[Callable[[Tensor], NDArray[np.floating[Any]]], dict[str, Any]]:
    """What `export` wrote: (uint8 images (n, channels, height, width) to probabilities (n, classes), ``model.json``).

    Raises RunError if a file is damaged, or ``model.pt2`` is not the one that ``model.json`` was written with.
    """
    card = read_json(folder / CARD, Card)
    try:
        expected = card.get("sha256", {}).get(MODEL)  # earlier versions wrote none
        if expected is not None and sha256_of(folder / MODEL) != expected:
            raise ValueError(f"{MODEL} is not the file whose SHA-256 is in {CARD}")
        if not is_zipfile(folder / MODEL):  # torch would log a traceback of its own
            raise ValueError("not a whole file of torch.export")
        program = move_to_device_pass(torch.export.load(folder / MODEL), device)
        check_labels(folder, CARD, card["class_names"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder}: {MODEL} or {CARD} is damaged ({error}); export the run again") from None
    model = program.module()

    def probabilities(images: Tensor) -> NDArray[np.floating[Any]]:
        with torch.inference_mode():
            return torch.cat([model(batch.to(device)).cpu() for batch in images.split(BATCH_SIZE)]).numpy()

    return probabilities, card


def _card(run: Path, members: Sequence[_Member], temperature: float) -> dict[str, Any]:
    summary = read_json(run / "summary.json", WholeSummary)
    figures = ("n", "accuracy", "accuracy_ci95", "macro_f1", "balanced_accuracy")
    trained, jobs = members[0].trained, [member.job.to_dict() for member in members]
    of_run = {"step": trained.step, "job": jobs[0]} if len(members) == 1 else {"members": jobs}
    return {
        "input": {"dtype": "uint8", "shape": ["batch", *trained.image_shape]},
        "output": {"dtype": "float32", "shape": ["batch", len(trained.class_names)], "meaning": "probabilities"},
        "class_names": list(trained.class_names),
        "untrained_classes": list(trained.untrained_classes),
        "views": max(member.job.views.count for member in members),
        "temperature": temperature,
        **{split: {key: summary[split][key] for key in figures} for split in SPLITS if split in summary},
        **of_run,
    }
