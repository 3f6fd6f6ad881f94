"""The test split chooses nothing: with other test labels a run gives the same bytes, except its test results."""

from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from launching import run_files

from fer_ddp.config.load import load_job
from fer_ddp.runs.files import read_json
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.run import train
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.scan import SourceScan
from shards.sources.synthetic_faces import Faces, scan_faces


def scan_mislabelled(faces: Faces, work: Path, pool: Executor, workers: int) -> SourceScan:
    """The faces, each test label the next class's."""
    scanned = scan_faces(faces, work, pool, workers)
    table = scanned.table.copy()
    in_test = table.split == "test"
    table.loc[in_test, "label"] = (table.label[in_test] + 1) % len(scanned.class_names)
    return replace(scanned, table=table)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """The same job (best epoch by val, EMA, a plateau schedule, early stopping) on both data sets."""
    folder = tmp_path_factory.mktemp("blind")
    job = {
        "model": {"name": "plain_cnn", "arguments": {"channels": [4, 8], "hidden": 16, "batch_norm": True}},
        "optimizer": {"name": "adam", "lr": 0.003},
        "schedule": {"name": "plateau", "patience_epochs": 1},
        "early_stopping": {"patience_epochs": 2},
        "ema": {"decay": 0.9},
        "epochs": 4,
        "global_batch_size": 24,
        "precision": "float32",
        "memory_format": "contiguous",
        "select": "best_val",
        "wandb": {"mode": "disabled"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    faces = Faces(train=240, val=70, test=70)
    made = {}
    for name, scan in (("as labelled", scan_faces), ("mislabelled", scan_mislabelled)):
        data = folder / name / "data"
        pack(partial(scan, faces), data)
        run = folder / name / "run"
        train(load_job(folder / "job.yaml", [f"data.path={data}", f"run={run}"]), torch.device("cpu"))
        made[name] = RunFolder(run)
    return made


def test_the_two_data_sets_differ_in_every_test_label_alone(runs: dict[str, RunFolder]) -> None:
    first, second = (run.path.parent / "data" for run in runs.values())
    for split in ("train", "val", "test"):
        one, other = read_split(first, split), read_split(second, split)
        assert one.keys == other.keys
        assert (one.images == other.images).all()
        assert (one.labels == other.labels).all() == (split != "test")
    assert (one.labels != other.labels).all()


def test_other_test_labels_change_nothing_but_what_is_reported_of_test(runs: dict[str, RunFolder]) -> None:
    first, second = (run_files(run.path) for run in runs.values())
    assert {"checkpoints/best.safetensors", "metrics.jsonl", "predictions/val.csv"} < first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {
        "config.yaml",  # names its own folders
        "summary.json",
        "predictions/test.csv",
        "figures/confusion_test.png",
        "figures/per_class_test.png",
        "figures/worst_errors_test.png",
    }


def test_the_summaries_differ_in_test_alone(runs: dict[str, RunFolder]) -> None:
    first, second = (read_json(run.path / "summary.json") for run in runs.values())
    assert {key for key in first if first[key] != second[key]} == {"test"}
