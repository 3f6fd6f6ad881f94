"""States written from a thread: each is a copy, and whenever it is killed, the best weights are those of the state."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from fer_ddp.runs.checkpoint import Snapshot, load_checkpoint
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.state_writer import StateWriter


class Killed(Exception):
    """What ends the writing thread where a test kills it."""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def best_of(run: RunFolder) -> int | None:
    """The epoch of the best weights on disk; no other checkpoint than the three lasting ones is there."""
    names = {path.stem for path in run.checkpoints.iterdir()}
    assert names <= {"last", "previous", "best"}
    return load_checkpoint(run.checkpoint_path("best"))["epoch"] if "best" in names else None


def test_a_state_is_written_as_it_was_when_it_was_saved(run: RunFolder) -> None:
    weight = torch.zeros(3)
    with StateWriter(run, None) as writer:
        writer.save({"step": 1, "weight": weight})
        weight += 1
    (state, _) = run.load_state({})
    assert state is not None
    assert state["weight"].tolist() == [0, 0, 0]


def test_the_best_weights_are_written_with_the_next_state_or_at_the_end(run: RunFolder) -> None:
    with StateWriter(run, None) as writer:
        writer.keep_best({"epoch": 1})
        assert best_of(run) is None
        writer.save({"step": 1, "epoch": 1}, wait=True)
        assert best_of(run) == 1
        writer.keep_best({"epoch": 2})
        writer.finish()
    assert best_of(run) == 2


@pytest.mark.parametrize("where", ["Snapshot.write:1", "RunFolder.write_state:1", "Snapshot.write:2", "Path.replace:1"])
def test_a_save_that_is_killed_leaves_the_best_weights_of_the_state_that_is_there(run: RunFolder, where: str) -> None:
    with StateWriter(run, None) as writer:
        writer.keep_best({"epoch": 1})
        writer.save({"step": 1, "epoch": 1}, wait=True)
    name, number = where.split(":")
    owner, method = {"Snapshot": Snapshot, "RunFolder": RunFolder, "Path": Path}[name.split(".")[0]], name.split(".")[1]
    real, calls = getattr(owner, method), iter(range(1, 10))

    def until_killed(*arguments: object) -> object:
        if next(calls) == int(number):
            raise Killed
        return real(*arguments)

    with patch.object(owner, method, until_killed), StateWriter(run, None) as writer:
        writer.keep_best({"epoch": 2})
        with pytest.raises(Killed):
            writer.save({"step": 2, "epoch": 2}, wait=True)
    state, _ = run.load_state({})
    assert state is not None
    assert best_of(run) == state["epoch"]
    assert state["epoch"] == (2 if name == "Path.replace" else 1)


def test_best_weights_without_any_state_are_not_those_of_a_run_that_starts(run: RunFolder) -> None:
    Snapshot.of({"epoch": 1}).write(run.checkpoint_path("next_best"))
    assert run.load_state({}) == (None, None)
    assert best_of(run) is None


def test_a_state_that_cannot_be_written_is_reported_by_the_next_save_and_at_the_end(
    run: RunFolder, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    with StateWriter(run, None) as writer:
        for report in (lambda: writer.save({"step": 2}), writer.finish):
            with full_disk():
                writer.save({"step": 1, "weight": torch.zeros(1000)})
                with pytest.raises(OSError, match="too large"):
                    report()


def test_a_state_is_due_so_many_seconds_after_the_last_one_and_once(run: RunFolder) -> None:
    with patch("time.monotonic", side_effect=[0.0, 9.0, 10.0, 11.0, 15.0, 24.0, 25.0]), StateWriter(run, 10) as writer:
        assert [writer.is_due() for _ in range(3)] == [False, True, False]
        writer.save({"step": 1})
        assert [writer.is_due() for _ in range(2)] == [False, True]
