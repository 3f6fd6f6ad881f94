"""JSON and YAML of another shape than was written, in any file that a command reads, is refused by file and key."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_runs import labels_of, predicted, write_run

from fer_ddp.report.collect import collect_runs
from fer_ddp.runs.files import read_json
from fer_ddp.runs.finished import read_members, read_runs
from fer_ddp.runs.shapes import ExportedConfig
from shards.errors import UserError
from shards.files import write_json

LABELS = labels_of()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", {"test": (LABELS, predicted(LABELS, LABELS == 0))})


def put(value: Any, keys: list[Any], new: Any) -> Any:
    """``value`` with ``new`` at ``keys``."""
    first, *rest = keys
    value[first] = put(value[first], rest, new) if rest else new
    return value


@pytest.mark.parametrize(
    ("name", "keys", "value", "message"),
    [
        ("status.json", ["state"], 3, "state: is 3; it should be text"),
        ("status.json", ["epoch"], [], "epoch: is []; it should be a whole number"),
        ("summary.json", ["class_names"], None, "class_names: is null; it should be a list"),
        ("summary.json", ["test"], [1], "test: is [1]; it should be keys and values"),
        ("summary.json", ["test", "accuracy"], "x", 'test.accuracy: is "x"; it should be a number'),
        ("summary.json", ["test", "per_class", "calm", "f1"], {}, "test.per_class.calm.f1: is {}; it should be a"),
        ("environment.json", ["world_size"], 0, "world_size: is 0; it should be more than 0"),
        ("environment.json", ["versions"], ["a"], 'versions: is ["a"]; it should be keys and values'),
        ("config.yaml", ["data"], 3, "data: is 3; it should be keys and values"),
        ("config.yaml", ["model", "arguments"], None, "model.arguments: is null; it should be keys and values"),
        ("config.yaml", ["seed"], "x", 'seed: is "x"; it should be a whole number'),
    ],
)
def test_a_run_with_a_file_of_another_shape_is_left_out_of_a_report_by_file_and_key(
    run: Path, name: str, keys: list[Any], value: object, message: str
) -> None:
    path = run / name
    read, write = (yaml.safe_load, yaml.safe_dump) if name.endswith("yaml") else (json.loads, json.dumps)
    path.write_text(write(put(read(path.read_text()), keys, value)))
    write_run(run.with_name("whole"), {"test": (LABELS, predicted(LABELS, LABELS == 0))})
    found = collect_runs([run.parent])
    assert [each.path.name for each in found.runs] == ["whole"]
    assert f"{path}: {message}" in found.left_out[0].reason


MEMBERS = {"members": [{"run": "a", "config_sha256": "0"}], "temperature": None}
IMPORTED = {"name": "x", "seed": None, "labels_only": False, "data": {"path": "data"}}
EXPORTED = {
    "image_shape": [1, 48, 48],
    "class_names": ["calm", "glad"],
    "members": [
        {"model": {"name": "x", "arguments": {}}, "weights_prefix": "", "mean": [0.5], "std": [0.2], "views": {}}
    ],
    "temperature": 1.0,
}


def read_exported(folder: Path) -> object:
    return read_json(folder / "config.json", ExportedConfig)


def read_import(folder: Path) -> object:
    write_json(folder / "summary.json", {"job": "x"})
    write_json(folder / "status.json", {"state": "finished"})
    runs, left_out = read_runs([folder])
    if left_out:
        raise UserError(left_out[0].reason)
    return runs


@pytest.mark.parametrize(
    ("name", "values", "read", "keys", "value", "message"),
    [
        ("members.json", MEMBERS, read_members, ["members"], [], "members: is []; it should be a list that is not"),
        ("members.json", MEMBERS, read_members, ["members", 0], 3, "members[0]: is 3; it should be keys and values"),
        ("members.json", MEMBERS, read_members, ["members", 0], {}, "members[0].run: is missing"),
        ("members.json", MEMBERS, read_members, ["temperature"], 0, "temperature: is 0; it should be more than 0"),
        ("imported.json", IMPORTED, read_import, ["data"], "x", 'data: is "x"; it should be keys and values'),
        ("imported.json", IMPORTED, read_import, ["seed"], 0.5, "seed: is 0.5; it should be a whole number"),
        ("config.json", EXPORTED, read_exported, ["image_shape"], [1, 10**9, 9], "image_shape[1]: is 1000000000; it"),
        ("config.json", EXPORTED, read_exported, ["members", 0, "mean"], 1, "members[0].mean: is 1; it should be a"),
        ("config.json", EXPORTED, read_exported, ["class_names"], [1], "class_names[0]: is 1; it should be text"),
    ],
)
def test_a_file_of_another_shape_is_refused_by_its_name_and_the_key(
    tmp_path: Path,
    name: str,
    values: dict[str, Any],
    read: Callable[[Path], object],
    keys: list[Any],
    value: object,
    message: str,
) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(put(json.loads(json.dumps(values)), keys, value)))
    with pytest.raises(UserError) as refused:
        read(tmp_path)
    assert f"{path}: {message}" in str(refused.value)
