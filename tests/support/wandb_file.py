"""Reads what W&B wrote offline: LevelDB's log format (blocks of 32 KiB), a protobuf Record each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK, _FILE_HEADER, _RECORD_HEADER = 32768, 7, 7


def records(path: Path) -> Iterator[Any]:
    """The records of a ``run-ID.wandb`` file."""
    content, offset, part = path.read_bytes(), _FILE_HEADER, b""
    while offset + _RECORD_HEADER <= len(content):
        left = _BLOCK - offset % _BLOCK
        if left < _RECORD_HEADER:
            offset += left
            continue
        length, kind = int.from_bytes(content[offset + 4 : offset + 6], "little"), content[offset + 6]
        part += content[offset + _RECORD_HEADER : offset + _RECORD_HEADER + length]
        offset += _RECORD_HEADER + length
        if kind in (1, 4):  # the whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


def history(path: Path) -> list[dict[str, Any]]:
    """The logged rows."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            rows.append(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            )
    return rows


def config(path: Path) -> dict[str, Any]:
    """The run's configuration, as it was given at the start."""
    for record in records(path):
        if record.WhichOneof("record_type") == "run":
            return {item.key: json.loads(item.value_json) for item in record.run.config.update}
    raise AssertionError(f"{path} holds no run")
