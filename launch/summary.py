"""The table of an array's results."""

import csv
import io
from pathlib import Path

from fer_ddp.atomic_write import write_whole
from fer_ddp.run_files import read_json, read_status
from launch.array_folder import ArrayFolder


def write_summary(folder: ArrayFolder) -> Path:
    """Write ``summary.csv``, a row a member, from the run folders; returns its path."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["member", "state", "val_accuracy", "test_accuracy", "test_macro_f1"])
    for name, run in folder.runs.items():
        summary = read_json(run / "summary.json")
        val, test = summary.get("val", {}), summary.get("test", {})
        state = read_status(run).get("state", "not started")
        rows.writerow([name, state, val.get("accuracy"), test.get("accuracy"), test.get("macro_f1")])
    path = folder.path / "summary.csv"
    write_whole(path, text.getvalue().encode())
    return path
