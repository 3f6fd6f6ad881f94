"""A flipped bit anywhere in a run's JSON files and lines is noticed, and never a traceback."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from fer_ddp.errors import RunError
from fer_ddp.runs.files import intact_lines, lines_of_run, read_json, read_lines
from fer_ddp.runs.folder import RunFolder

LINE = {"epoch": 1, "step": 224, "lr": 1e-3, "train": {"loss": 1.8247685890112604}, "val": {"accuracy": 0.25}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.write_status("failed", message="the disk is full: naïve.png")
    folder.append_line("metrics.jsonl", LINE)
    return folder


def read_after_each_flip(path: Path, read: Any) -> list[Any]:
    """What ``read`` returns for each file that differs from ``path`` in one bit, without those that it refuses."""
    whole, found = path.read_bytes(), []
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            with contextlib.suppress(RunError):
                found.append(read(path))
    return found


def test_a_flipped_bit_in_a_json_file_is_refused_or_changes_no_value(run: RunFolder) -> None:
    status = run.status()
    found = read_after_each_flip(run.path / "status.json", read_json)
    assert found  # flips of white space, and of the checksum's own name
    assert all(status.items() <= each.items() for each in found)


def test_a_flipped_bit_in_a_line_is_refused_or_cuts_the_line_short(run: RunFolder) -> None:
    found = read_after_each_flip(run.path / "metrics.jsonl", read_lines)
    assert [] in found  # without its end a line is one that a crash cut short
    assert all(LINE.items() <= line.items() for lines in found for line in lines)


def test_files_and_lines_of_older_versions_are_read_without_a_checksum(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"job": "smoke"}')
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "step": 2, "lr": 0.1}\n')
    assert read_json(tmp_path / "summary.json") == {"job": "smoke"}
    assert read_lines(tmp_path / "metrics.jsonl") == [{"epoch": 1, "step": 2, "lr": 0.1}]


def test_a_damaged_line_of_speed_is_left_out(run: RunFolder) -> None:
    for epoch in (1, 2):
        run.append_line("timing.jsonl", {"epoch": epoch, "seconds": 1.5, "images_per_second": 900.0})
    timing = run.path / "timing.jsonl"
    timing.write_bytes(timing.read_bytes().replace(b'"epoch": 1', b'"epoch": 3'))
    assert [line["epoch"] for line in intact_lines(timing)] == [2]


def test_a_finished_run_with_fewer_lines_than_it_had_is_refused(run: RunFolder) -> None:
    metrics = run.path / "metrics.jsonl"
    run.write_status("finished", lines={"metrics.jsonl": 2})
    with pytest.raises(RunError) as refused:
        lines_of_run(run.path, "metrics.jsonl")
    assert str(refused.value).startswith(f"{metrics}: holds 1 of the 2 lines that it had when the run finished; put it")
    metrics.unlink()
    assert lines_of_run(run.path, "metrics.jsonl") == []
