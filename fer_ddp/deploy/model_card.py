"""README.md of an exported folder: the model card, with the front matter that the Hugging Face Hub reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_ddp.deploy.int8 import INT8
from fer_ddp.deploy.onnx import ONNX
from fer_ddp.metrics.classification import classification_metrics
from fer_ddp.precision import final_precision
from fer_ddp.runs.files import SPLITS
from fer_ddp.runs.predictions import read_predictions
from fer_ddp.text import join_names, markdown_text, percent, percent_interval, plural
from fer_ddp.yaml_io import to_yaml
from shards.errors import UserError
from shards.leakage.find import MAX_AUTOMATIC_SAMPLES, leaking_keys
from shards.manifest import Manifest
from shards.parallel import usable_cpus
from shards.reading.scan import load_or_scan_manifest

_LICENCES = {
    "fer2013-csv": "A CSV of FER2013's form. FER2013's images were gathered from the web for a Kaggle competition "
    "(Goodfellow et al. 2013, arXiv 1307.0414); no licence of their owners is known.",
    "synthetic-faces": "Faces drawn from formulas by `fer-ddp fake`; they show nobody.",
}
"""What is known of the data and their licence, by the manifest's source_format."""
_SELECTION = {
    "best_val": "the epoch with the best accuracy on val was kept, so the val figures are slightly optimistic",
    "last": "the weights after the last epoch; neither val nor test selected anything",
}
"""By the job's ``select``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """The data set that the model was trained on, if it is accessible."""

    manifest: Manifest
    without_leaks: dict[str, dict[str, Any]]
    """By split: the metrics on the samples whose image does not also appear in train. Empty if too many to compare."""


def find_data(folder: Path, path: Path, digest: str | None, class_names: Sequence[str]) -> Data | None:
    """The data at ``path``, if they are still those with ``digest``, and the metrics of ``folder``'s predictions."""
    try:
        manifest = load_or_scan_manifest(path)
        if manifest.digest != digest:
            return None
        searched = manifest.samples <= MAX_AUTOMATIC_SAMPLES
        leaks = leaking_keys(path, workers=usable_cpus()) if searched else {}
        without_leaks = {}
        for split in leaks:
            predictions = read_predictions(folder / "predictions" / f"{split}.csv", as_float64=True)
            kept = np.array([key not in leaks[split] for key in predictions.keys])
            if kept.any():
                without_leaks[split] = dict(
                    classification_metrics(predictions.labels[kept], predictions.probabilities[kept], class_names)
                )
    except (UserError, OSError):  # the card does without what can't be read
        return None
    return Data(manifest=manifest, without_leaks=without_leaks)


def model_card(
    *,
    name: str,
    summary: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    card: Mapping[str, Any],
    parameters: int,
    data: Data | None,
    files: Sequence[str],
) -> str:
    """The text of README.md.

    summary: ``summary.json``. jobs: the configurations of the run, or of an ensemble's members. card: ``model.json``.
    parameters: of all networks together. files: the names of the files beside it.
    """
    class_names = card["class_names"]
    channels, height, width = card["input"]["shape"][1:]
    models = join_names(list(dict.fromkeys(job["model"]["name"] for job in jobs)))
    kind = f"{len(jobs)} networks ({models}), whose probabilities are averaged" if len(jobs) > 1 else f"`{models}`"
    colour = "grey" if channels == 1 else "RGB"
    lines = [
        "---",
        to_yaml(_front_matter(name, summary, jobs, data, files)).rstrip(),
        "---",
        f"# {markdown_text(name)}",
        "",
        f"Classifies the facial expression of one face: {markdown_text(join_names(class_names))}. {kind}, "
        f"{parameters:,} parameters, trained with fer-ddp on {colour} images of {width} x {height} pixels.",
        "",
        *(_USE if ONNX in files else ()),
        "## Files",
        "",
        "| file | what it is |",
        "|---|---|",
        *(f"| `{file}` | {_FILES[file]} |" for file in files),
        "",
        _inside(card, "grey (ITU-R 601)" if channels == 1 else "RGB", with_onnx=ONNX in files),
        "",
        "## How good it is",
        "",
        *_metrics(summary, jobs, data),
        "",
        *(_int8(card["int8"]) if "int8" in card else ()),
        "## Data",
        "",
        *_data(jobs, data),
        "",
        "## Intended use and limits",
        "",
        *_LIMITS,
        "",
    ]
    return "\n".join(lines)


_USE = ["```sh", "pip install onnxruntime numpy pillow", "python example.py FACE.jpg", "```", ""]
_FILES = {
    ONNX: "onnxruntime: uint8 images (batch, height, width, 1 or 3) of any size in, probabilities out",
    INT8: f"the same as `{ONNX}`, with convolutions and linear layers in int8; both are compared below",
    "example.py": "how to use it, with onnxruntime, NumPy and Pillow alone",
    "model.pt2": "torch.export: uint8 pixels (batch, channels, height, width) of the training size in, "
    "probabilities out; `torch.export.load`",
    "model.safetensors": "the weights, by the names of the network's `state_dict`",
    "config.json": "what the weights need: network, image shape, normalization, views, temperature",
    "labels.json": "the classes, in the order of the probabilities",
    "model.json": "inputs, outputs, accuracy, the training configuration, and the SHA-256 of the other files",
}


def _front_matter(
    name: str,
    summary: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    data: Data | None,
    files: Sequence[str],
) -> dict[str, Any]:
    dataset = Path(jobs[0]["data"]["path"]).name
    kind = data.manifest.source_format if data else dataset
    results = [
        {
            "task": {"type": "image-classification", "name": "facial expression recognition"},
            "dataset": {"type": kind, "name": dataset, "split": split},
            "metrics": [
                {"type": "accuracy", "value": round(summary[split]["accuracy"], 4)},
                {"type": "f1", "name": "macro-F1", "value": round(summary[split]["macro_f1"], 4)},
            ],
        }
        for split in SPLITS
        if split in summary
    ]
    formats = [kind for kind in ("onnx", "safetensors") if any(file.endswith(f".{kind}") for file in files)]
    front = {
        "library_name": "fer-ddp",
        "pipeline_tag": "image-classification",
        "tags": ["facial-expression-recognition", "emotion-recognition", "pytorch", *formats],
        "metrics": ["accuracy", "f1"],
    }
    return front | ({"model-index": [{"name": name, "results": results}]} if results else {})


def _inside(card: Mapping[str, Any], colour: str, *, with_onnx: bool) -> str:
    parts = ["Inside the models: the normalization of the pixels, the network, the softmax"]
    if card["views"] > 1:
        parts.append(f"the mean over {card['views']} views of each image (test-time augmentation)")
    if card["temperature"] == 1:
        parts.append("no temperature, so the probabilities are not calibrated")
    else:
        parts.append(f"a temperature of {card['temperature']:.3f}, fitted on val")
    resized = (
        f" `{ONNX}` first makes images {colour}, keeps the largest square in the centre and resizes it as Pillow's "
        "bilinear filter does, to within one level of 255."
        if with_onnx
        else ""
    )
    precision = f"They compute in float32, `{INT8}` in int8." if "int8" in card else "They compute in float32."
    return f"{', '.join(parts)}. {precision}{resized}"


def _metrics(summary: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], data: Data | None) -> list[str]:
    splits = [split for split in SPLITS if split in summary]
    if not splits:
        return ["It was not evaluated: its folder has no `summary.json`."]
    lines = [
        "| images | number | accuracy (95 % interval) | macro-F1 | balanced accuracy |",
        "|---|---|---|---|---|",
    ]
    for split in splits:
        lines.append(_row(split, summary[split]))
        clean = data.without_leaks.get(split) if data else None
        if clean is not None and clean["n"] < summary[split]["n"]:
            lines.append(_row(f"{split}, without those that also appear in train", clean))
    reported = splits[-1]
    lines += [
        "",
        f"By class, on {reported}:",
        "",
        "| class | images | precision | recall | F1 |",
        "|---|---|---|---|---|",
    ]
    for name, figures in summary[reported]["per_class"].items():
        shares = " | ".join(percent(figures[key]) for key in ("precision", "recall", "f1"))
        lines.append(f"| {markdown_text(name)} | {figures['support']:,} | {shares} |")
    return [*lines, "", *_how_measured(summary, jobs, data)]


def _row(label: str, metrics: Mapping[str, Any]) -> str:
    accuracy = f"{percent(metrics['accuracy'])} ({percent_interval(metrics['accuracy_ci95'])})"
    balanced = percent(metrics["balanced_accuracy"])
    return f"| {label} | {metrics['n']:,} | {accuracy} | {percent(metrics['macro_f1'])} | {balanced} |"


def _how_measured(summary: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], data: Data | None) -> list[str]:
    rules = list(dict.fromkeys(_SELECTION.get(job["select"], job["select"]) for job in jobs))
    selected = f"Selection: {'; '.join(rules)}."
    if len(jobs) > 1:
        selected = f"The {len(jobs)} members were given and none was chosen by a score. Of each member: {rules[0]}."
    precisions = join_names(list(dict.fromkeys(final_precision(job["precision"]) for job in jobs)))
    measured = f"Measured in {precisions} by fer-ddp, Wilson intervals"
    measured += "." if precisions == "float32" else ", while the exported files compute in float32."
    if data is None:
        leaks = "The data were not accessible at export, so images that are in train as well were not searched for."
    elif not data.without_leaks:
        leaks = "Images that are in train as well were not searched for."
    else:
        found = [
            f"{summary[split]['n'] - clean['n']:,} of {summary[split]['n']:,} {split} images"
            for split, clean in data.without_leaks.items()
            if split in summary
        ]
        leaks = f"Equal or nearly equal to an image of train: {join_names(found)}."
    return [f"{selected} {measured} {leaks}"]


def _int8(quantized: Mapping[str, Any]) -> list[str]:
    lines = [
        f"### `{ONNX}` or `{INT8}`",
        "",
        "| file | computes in | size | accuracy on val | images/s, one at a time | 32 at a time |",
        "|---|---|---|---|---|---|",
    ]
    for name, file in quantized["files"].items():
        speeds = " | ".join(f"{file['images_per_second'][size]:,.0f}" for size in ("1", "32"))
        lines.append(
            f"| `{name}` | {file['precision']} | {file['bytes'] / 1e6:.1f} MB | {percent(file['val_accuracy'], 2)} | "
            f"{speeds} |"
        )
    return [
        *lines,
        "",
        f"Measured at export with these files, on all {quantized['val_images']:,} val images; speed with one thread of "
        f"onnxruntime {quantized['onnxruntime']} on {quantized['processor']}, the files in turns. The ranges of the "
        f"int8 numbers are those of {quantized['calibration_images']:,} training images.",
        "",
    ]


def _data(jobs: Sequence[Mapping[str, Any]], data: Data | None) -> list[str]:
    name = Path(jobs[0]["data"]["path"]).name
    if data is None:
        return [f"`{name}`. Its licence is not known to fer-ddp: state it here before publishing."]
    counts = join_names([f"{split.samples:,} {key}" for key, split in data.manifest.splits.items()])
    licence = _LICENCES.get(
        data.manifest.source_format, "Its licence is not known to fer-ddp: state it here before publishing."
    )
    rejects = f"; {plural(data.manifest.rejects, 'image')} rejected" if data.manifest.rejects else ""
    return [f"`{name}` ({data.manifest.source_format}): {counts} images{rejects}. {licence}"]


_LIMITS = [
    "For research on facial expressions and for teaching, on images of one face that fills the image, cropped as in",
    "the training data. The models do not search for faces; `fer-ddp predict --faces` does.",
    "",
    "- A label is what annotators saw in a face, not what a person feels. Annotators disagree on many faces.",
    "- Accuracy on other cameras, ages, skin tones, poses and cultures is unknown and is usually lower. Measure it",
    "  before use: `fer-ddp evaluate RUN data.path=FOLDER`.",
    "- Do not use it to make decisions about people. The EU's AI Act (Article 5) prohibits inferring emotions at work",
    "  and in education.",
    "- No licence of the weights is stated. Choose one that the data allow before publishing (`license:` in the front",
    "  matter).",
]
