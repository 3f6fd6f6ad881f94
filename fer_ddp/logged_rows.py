"""What of a run folder is shown elsewhere: a flat row an epoch, and the figures at the end."""

import csv
import json
from pathlib import Path
from typing import Any

from fer_ddp.run_files import read_lines

SPLITS = ("val", "test")


def epoch_rows(run: Path) -> list[dict[str, Any]]:
    """``metrics.jsonl``, each line flat (``val/accuracy``), with the images a second that ``timing.jsonl`` has for it.

    Raises RunError if a line is damaged.
    """
    speed = {line["epoch"]: line["images_per_second"] for line in read_lines(run / "timing.jsonl")}
    rows = []
    for line in read_lines(run / "metrics.jsonl"):
        row = {"epoch": line["epoch"], "lr": line["lr"]}
        for split in ("train", "val"):
            row |= {f"{split}/{name}": value for name, value in line.get(split, {}).items()}
        if line["epoch"] in speed:
            row["images_per_second"] = speed[line["epoch"]]
        rows.append(row)
    return rows


def finished_summary(run: Path) -> dict[str, Any] | None:
    """``summary.json`` of a finished run; None before that, also if an unfinished one was evaluated."""
    status = run / "status.json"
    if not status.exists() or json.loads(status.read_text(encoding="utf-8"))["state"] != "finished":
        return None
    return dict(json.loads((run / "summary.json").read_text(encoding="utf-8")))


def final_figures(summary: dict[str, Any]) -> dict[str, Any]:
    """The figures of a summary, flat: ``test/accuracy``, ``test/f1/happy``, and what is said of the run itself."""
    flat = {name: value for name, value in summary.items() if name not in (*SPLITS, "class_names")}
    for split in SPLITS:
        for name, value in summary.get(split, {}).items():
            if name == "per_class":
                flat |= {f"{split}/f1/{of_class}": figures["f1"] for of_class, figures in value.items()}
            else:
                flat[f"{split}/{name}"] = value
    return flat


def labels_and_predicted(run: Path, split: str, class_names: list[str]) -> tuple[list[int], list[int]]:
    """The true and the predicted class of each sample, as places in ``class_names``, from ``predictions/``."""
    place = {name: number for number, name in enumerate(class_names)}
    with open(run / "predictions" / f"{split}.csv", newline="", encoding="utf-8") as file:
        pairs = [(place[row["label"]], place[row["predicted"]]) for row in csv.DictReader(file)]
    return [label for label, _ in pairs], [predicted for _, predicted in pairs]
