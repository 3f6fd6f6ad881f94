"""Reads the files of a run folder, also while a trainer writes them; without torch, whose import takes seconds."""

import csv
import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.shapes import Config, Status, Summary
from fer_ddp.yaml_io import read_yaml
from shards.files import SMALL, atomic_write_text, check_regular, parse_json, read_regular, write_json
from shards.validation import InvalidValue, from_json

SCHEMA_VERSION = 1
"""Of ``summary.json``, ``environment.json``, ``status.json`` and checkpoints; a file without one has version 0."""
LINES = {
    "steps.jsonl": ("step", "loss", "lr"),
    "metrics.jsonl": ("epoch", "step", "lr"),
    "timing.jsonl": ("epoch", "seconds", "images_per_second"),
}
"""The numbers that each line of these files holds; ``metrics.jsonl`` has more under train and val."""
RUNS = Path("runs")
"""The default place of runs and arrays, relative to the working folder."""
METRICS_CSV = "metrics.csv"
"""``metrics.jsonl`` as a table, for spreadsheets and pandas."""
IMPORTED_FILE = "imported.json"
"""In a folder of imported predictions instead of ``config.yaml``."""
PREDICTIONS_SHA256 = "predictions_sha256"
"""In ``summary.json``, among the figures of a split: of the predictions that these are of."""
LAST, PREVIOUS, BEST, NEXT_BEST = "last", "previous", "best", "next_best"
"""The names of checkpoints; ``next_best`` is there while a state is written that knows better weights than ``best``."""


_LARGEST_LINES = 1 << 28
"""Bytes of a file in `LINES`: two million steps."""


def selected_checkpoint(run: Path, select: str) -> Path:
    """The checkpoint of a run folder whose weights ``select`` of its job names: best_val or last."""
    return run / "checkpoints" / f"{LAST if select == 'last' else BEST}.safetensors"


_CHECKSUM = "crc32"
"""The key of the checksum in a run's JSON files and lines; those of older versions have none."""


def with_checksum(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` and their checksum, for a file in which one wrong digit would be a wrong result."""
    return values | {_CHECKSUM: _checksum(values)}


def _checksum(values: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values).encode()):08x}"


def _checked(text: bytes) -> Any:
    """The JSON value that is ``text``, an object without its checksum. Raises ValueError if it is not what it was."""
    values = parse_json(text)
    if isinstance(values, dict):
        checksum = values.pop(_CHECKSUM, None)
        if checksum not in (None, _checksum(values)):
            raise ValueError("is not what was written")
    return values


def write_run_json(path: Path, values: dict[str, Any]) -> None:
    """Write ``values`` with their checksum, whole or not at all."""
    write_json(path, with_checksum(values))


def read_json(path: Path, shape: type | None = None) -> dict[str, Any]:
    """The object in a file that `write_run_json` wrote, or `write_json`; empty if there is no file.

    ``shape``: one of `fer_ddp.runs.shapes`. Raises RunError if it is damaged, has a newer schema version, or a key does
    not have the shape.
    """
    try:
        values = dict(_checked(read_regular(path, at_most=SMALL)))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError):
        raise RunError(f"{path}: is damaged; remove it to continue without it") from None
    check_schema_version(path, values)
    if shape is not None:
        check_shape(path, values, shape)
    return values


def check_shape(path: Path, values: Any, shape: type) -> None:
    """Raises RunError naming the key if ``values``, the content of ``path``, do not have ``shape``."""
    try:
        from_json(values, shape)
    except InvalidValue as error:
        raise RunError(f"{path}: {error}; put back what was written") from None


def read_config(run: Path) -> dict[str, Any]:
    """``config.yaml`` of a run folder as it is, perhaps written by an older version.

    Raises JobError if it is damaged or not there, RunError if a key is of another type.
    """
    values = read_yaml(run / "config.yaml")
    check_shape(run / "config.yaml", values, Config)
    return values


def check_schema_version(path: Path, values: dict[str, Any]) -> None:
    """Raises RunError if a newer version of the program wrote ``values``, the content of ``path``."""
    found = values.get("schema_version", 0)
    if type(found) is not int or found > SCHEMA_VERSION:
        raise RunError(
            f"{path}: has schema version {found}, written by a newer version of fer-ddp; this one reads versions up to "
            f"{SCHEMA_VERSION}; upgrade fer-ddp"
        )


NO_RUN = "holds imported predictions, not a run that has a model; only `report` takes it"
"""What a folder with `IMPORTED_FILE` is, after its path."""


def check_run_folder(run: Path) -> None:
    """Raises JobError if ``run`` is not a run folder."""
    if (run / IMPORTED_FILE).is_file():
        raise JobError(f"{run}: {NO_RUN}")
    if not (run / "config.yaml").is_file():
        raise JobError(f"{run}: is not a run folder (it has no config.yaml); give one such as runs/smoke-seed0")


def read_status(run: Path) -> dict[str, Any]:
    """The content of ``status.json``; empty if the run is new. Raises RunError if it is damaged."""
    return read_json(run / "status.json", Status)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file in `LINES`, none if it is absent; a last line without its end is left out.

    Raises RunError if a line is damaged.
    """
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(_bytes_of_lines(path).split(b"\n")[:-1], start=1):
        try:
            lines.append(_checked(line))
        except ValueError:
            raise RunError(f"{path} line {number}: is damaged; remove the line to continue without it") from None
        lacking = _what_it_lacks(lines[-1], LINES[path.name])
        if lacking is not None:
            raise RunError(
                f"{path} line {number}: is {line[:60].decode()}; it must hold {lacking}; remove the line to continue "
                f"without it"
            )
    return lines


def lines_of_run(run: Path, name: str) -> list[dict[str, Any]]:
    """`read_lines` of a run's file. Raises RunError also if a finished run had more lines of it when it finished."""
    lines, status = read_lines(run / name), read_status(run)
    wanted = (status.get("lines") or {}).get(name, 0) if status.get("state") == "finished" else 0
    if (run / name).exists() and len(lines) < wanted:
        raise RunError(
            f"{run / name}: holds {len(lines)} of the {wanted} lines that it had when the run finished; put it back, "
            f"or remove it to continue without it"
        )
    return lines


def _bytes_of_lines(path: Path) -> bytes:
    try:
        return read_regular(path, at_most=_LARGEST_LINES)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None


def intact_lines(path: Path) -> list[dict[str, Any]]:
    """As `read_lines`, without the damaged lines."""
    lines = []
    for text in _bytes_of_lines(path).splitlines() if path.exists() else []:
        try:
            line = _checked(text)
        except ValueError:
            continue
        if _what_it_lacks(line, LINES[path.name]) is None:
            lines.append(line)
    return lines


def saved_step(run: Path) -> int:
    """The step of the newest state in a run folder, from its header alone; 0 if there is none that can be read."""
    return next((step for step in (_saved(run, name, "step") for name in (LAST, PREVIOUS)) if step is not None), 0)


def saved_epoch(run: Path, *names: str) -> int | None:
    """The completed epochs of the first of these checkpoints that can be read, by default of the newest state.

    None if there is none.
    """
    epochs = (_saved(run, name, "epoch") for name in names or (LAST, PREVIOUS))
    return next((epoch for epoch in epochs if epoch is not None), None)


def _saved(run: Path, name: str, number: str) -> int | None:
    """A safetensors file begins with the header's length, 8 bytes little-endian, and the header, which is JSON."""
    path = run / "checkpoints" / f"{name}.safetensors"
    try:
        check_regular(path)
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            length = min(length, os.fstat(file.fileno()).st_size)  # a damaged one may ask for all memory
            state = json.loads(file.read(length))["__metadata__"]["state"]
            return int(json.loads(json.loads(state)["state"])[number])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error):
        return None


def _what_it_lacks(line: Any, keys: tuple[str, ...]) -> str | None:
    """What ``line`` should hold but does not: a number for each of ``keys``; under train and val, numbers or null."""
    for key in keys:
        if not isinstance(line, dict) or not isinstance(line.get(key), int | float):
            return f"a number for {key}"
    if not isinstance(line.get("train_seconds", 0), int | float):
        return "a number for train_seconds"
    for split in ("train", "val"):
        measures = line.get(split, {})
        if not isinstance(measures, dict) or not all(isinstance(x, int | float | None) for x in measures.values()):
            return f"numbers under {split}"
    return None


SPLITS = ("val", "test")


def wandb_rows(run: Path) -> list[dict[str, Any]]:
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


def write_metrics_csv(run: Path) -> None:
    """Write `METRICS_CSV`: ``metrics.jsonl`` as a table, a row an epoch; nothing if it holds none.

    Raises RunError if a line is damaged, OSError if it can't be written.
    """
    rows = []
    for line in read_lines(run / "metrics.jsonl"):
        row = {key: value for key, value in line.items() if not isinstance(value, dict)}
        for split in ("train", "val"):
            row |= {f"{split}_{name}": value for name, value in line.get(split, {}).items()}
        rows.append(row)
    if not rows and not (run / METRICS_CSV).exists():
        return
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    atomic_write_text(run / METRICS_CSV, text.getvalue())


def finished_summary(run: Path) -> dict[str, Any] | None:
    """``summary.json`` of a finished run; None before that, also if an unfinished one was evaluated."""
    return read_json(run / "summary.json", Summary) if read_status(run).get("state") == "finished" else None


def wandb_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """The figures of a summary, flat: ``test/accuracy``, ``test/f1/happy``, and what describes the run itself."""
    flat = {name: value for name, value in summary.items() if name not in (*SPLITS, "class_names", "schema_version")}
    for split in SPLITS:
        for name, value in summary.get(split, {}).items():
            if name == "per_class":
                flat |= {f"{split}/f1/{of_class}": figures["f1"] for of_class, figures in value.items()}
            elif name != PREDICTIONS_SHA256:
                flat[f"{split}/{name}"] = value
    return flat


def labels_and_predicted(run: Path, split: str, class_names: list[str]) -> tuple[list[int], list[int]]:
    """The true and the predicted class of each sample, as indices into ``class_names``, from ``predictions/``."""
    index = {name: number for number, name in enumerate(class_names)}
    path = run / "predictions" / f"{split}.csv"
    check_regular(path)
    with open(path, newline="", encoding="utf-8") as file:
        pairs = [(index[row["label"]], index[row["predicted"]]) for row in csv.DictReader(file)]
    return [label for label, _ in pairs], [predicted for _, predicted in pairs]
