"""What ``launch status`` shows: the progress of an array, of a run, and of all that was started here."""

import dataclasses
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fer_ddp.errors import JobError
from launch.folder import ArrayFolder
from launch.slurm import cancel_array
from launch.status import MemberStatus, members_status, overview, overview_json, progress, status_of, table

RUNNING = MemberStatus(
    name="a-seed0",
    state="running",
    epoch=4,
    epochs=10,
    val_accuracy=0.6,
    best_val_accuracy=0.64,
    images_per_second=100.0,
    seconds_per_epoch=20.0,
    seconds_left=120.0,
    node="here",
    restarts=0,
    job_id=None,
    message=None,
)


def member(**changes: Any) -> MemberStatus:
    return dataclasses.replace(RUNNING, **changes)


FINISHED = member(state="finished", epoch=10, best_val_accuracy=0.5)
NOT_STARTED = member(state="not started", epoch=0, best_val_accuracy=None, seconds_per_epoch=None)


@pytest.mark.parametrize(
    ("members", "at_once", "text"),
    [
        ([FINISHED, FINISHED], None, "2/2 done, best val 0.5000"),
        ([RUNNING], None, "0/1 done, best val 0.6400, 2 min left (1 running)"),
        ([FINISHED, RUNNING, NOT_STARTED], None, "1/3 done, best val 0.6400, 5 min left (1 running, 1 not started)"),
        ([RUNNING, NOT_STARTED], 2, "0/2 done, best val 0.6400, 3 min left (1 running, 1 not started)"),
        ([FINISHED, member(state="failed")], 1, "1/2 done, best val 0.6400 (1 failed)"),
        ([NOT_STARTED], None, "0/1 done (1 not started)"),
    ],
)
def test_progress_is_how_many_are_done_the_best_and_the_time_left(
    members: list[MemberStatus], at_once: int | None, text: str
) -> None:
    assert progress(members, at_once) == text


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an array of two members, one of them finished, and runs outside of arrays."""
    monkeypatch.chdir(tmp_path)
    runs = {f"tiny-seed{seed}": f"runs/two/tiny-seed{seed}" for seed in (0, 1)}
    ArrayFolder(Path("runs/two.launch")).write("two", runs=runs, jobs=dict.fromkeys(runs, "epochs: 2\n"), cluster=None)
    write_run(Path("runs/two/tiny-seed0"), "finished")
    write_run(Path("runs/alone-seed0"), "interrupted")
    sent = {"sent-seed0": "runs/sent-seed0"}  # a job that was submitted alone
    ArrayFolder(Path("runs/sent-seed0.launch")).write(
        "sent-seed0", runs=sent, jobs={"sent-seed0": "epochs: 2\n"}, cluster=None
    )
    write_run(Path("runs/sent-seed0"), "finished")
    return tmp_path


def write_run(run: Path, state: str) -> None:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("epochs: 2\n")
    (run / "status.json").write_text(json.dumps({"state": state, "host": "here", "pid": 1}))
    lines = [
        {"epoch": epoch, "step": epoch, "lr": 0.1, "train": {}, "val": {"accuracy": accuracy}}
        for epoch, accuracy in ((1, 0.625), (2, 0.5))
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_without_a_name_all_that_was_started_here_is_listed() -> None:
    assert overview().splitlines() == [
        "sent-seed0   1/1 done, best val 0.6250",
        "two          1/2 done, best val 0.6250 (1 not started)",
        "alone-seed0  0/1 done, best val 0.6250 (1 interrupted)",
    ]
    assert {name: len(members) for name, members in json.loads(overview_json()).items()} == {
        "sent-seed0": 1,
        "two": 2,
        "alone-seed0": 1,
    }


def test_an_empty_folder_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert overview() == "nothing was started here: there is no run in runs/"


def test_a_run_outside_of_arrays_has_a_status_too() -> None:
    assert [(each.name, each.state, each.epoch) for each in status_of("alone-seed0")] == [
        ("alone-seed0", "interrupted", 2)
    ]
    with pytest.raises(JobError, match="nowhere: nothing was started under this name; runs/ holds "):
        status_of("nowhere")


def test_what_ran_here_is_not_cancelled_by_slurm() -> None:
    with pytest.raises(JobError, match="ran on this machine; Ctrl-C in its terminal interrupts it"):
        cancel_array(ArrayFolder(Path("runs/two.launch")))


def test_a_table_ends_with_the_progress() -> None:
    lines = table(members_status(ArrayFolder(Path("runs/two.launch")))).splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["tiny-seed0", "finished", "2/2"],
        ["tiny-seed1", "not", "started"],
    ]
    assert lines[-1] == "1/2 done, best val 0.6250 (1 not started)"


def test_a_run_whose_process_is_gone_is_lost(workplace: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid, state in ((os.getpid(), "running"), (ended.pid, "lost")):
        status = {"state": "running", "host": socket.gethostname(), "pid": pid}
        (workplace / "runs/alone-seed0/status.json").write_text(json.dumps(status))
        assert status_of("alone-seed0")[0].state == state


@pytest.mark.parametrize("key", ["message", "sentence"])
def test_a_failed_attempt_is_explained_also_by_a_file_of_version_0_1(key: str) -> None:
    attempts = Path("runs/two.launch/attempts/tiny-seed1.jsonl")
    lines = [{"started": "2026-01-01T00:00:00+00:00", "job_id": "7_1", "nodes": "node1"}, {key: "killed by SIGKILL"}]
    attempts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    last = members_status(ArrayFolder(Path("runs/two.launch")))[1]
    assert (last.state, last.message, last.node) == ("failed", "killed by SIGKILL", "node1")


@pytest.mark.parametrize("name", ["status.json", "metrics.jsonl"])
def test_a_damaged_member_is_named_and_hides_no_other(workplace: Path, name: str) -> None:
    (workplace / "runs/two/tiny-seed0" / name).write_bytes(b"{\n")
    first, second = members_status(ArrayFolder(Path("runs/two.launch")))
    assert (first.state, second.state) == ("damaged", "not started")
    assert first.message is not None
    assert first.message.startswith(f"runs/two/tiny-seed0/{name}")
    assert table([first, second]).splitlines()[-1] == "0/2 done (1 damaged, 1 not started)"
    assert overview().splitlines()[1].startswith("two          0/2 done")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("two/tiny-seed0/config.yaml", "["),  # which an array does not need
        ("two/tiny-seed0/status.json", '{"state": "running", "pid": 1e30}'),
        ("two/tiny-seed0/metrics.jsonl", "{}\n"),
        ("two.launch/members/tiny-seed0.yaml", "epochs: [2]\n"),
        ("two.launch/attempts/tiny-seed0.jsonl", "[]\n"),
        ("two.launch/attempts/tiny-seed0.jsonl", '{"started": 1}\n'),
        ("two.launch/array.json", '{"members": [{"name": 3, "run": "x"}]}'),
        ("two.launch/submissions/0000.json", '{"members": 3}'),
        ("alone-seed0/config.yaml", "epochs: x\n"),
    ],
)
def test_one_damaged_file_is_named_where_it_matters_and_keeps_no_other_status_back(name: str, text: str) -> None:
    path = Path("runs", name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    lines = {line.split()[0]: line for line in overview().splitlines()}
    assert lines.keys() >= {"sent-seed0", "two", "alone-seed0"}
    assert lines["sent-seed0"] == "sent-seed0   1/1 done, best val 0.6250"
    damaged = [
        each for members in json.loads(overview_json()).values() for each in members if each["state"] == "damaged"
    ]
    told = [each["message"] for each in damaged if str(path) in each["message"]]
    assert len(told) == (name != "two/tiny-seed0/config.yaml"), damaged
