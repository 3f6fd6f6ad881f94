"""The files of an array, its logs, and the commands of SLURM: what is not as it should be ends in one message."""

from pathlib import Path

import pytest

from fer_ddp.errors import JobError, RunError
from launch import slurm_commands
from launch.folder import ArrayFolder
from launch.frozen_code import freeze_code
from launch.logs import logs_text


@pytest.fixture
def folder(tmp_path: Path) -> ArrayFolder:
    folder = ArrayFolder(tmp_path / "two.launch")
    folder.write("two", runs={"a": "runs/a", "b": "runs/b"}, jobs={"a": "seed: 0\n", "b": "seed: 1\n"}, cluster=None)
    return folder


def test_an_array_that_cannot_be_written_names_the_file(folder: ArrayFolder) -> None:
    (folder.path / "members" / "a.yaml").unlink()
    (folder.path / "members" / "a.yaml").mkdir()
    with pytest.raises(RunError, match=r"members/a\.yaml: can't be written \(is a folder, not a file\)$"):
        folder.write("two", runs={"a": "runs/a"}, jobs={"a": "seed: 0\n"}, cluster=None)


@pytest.mark.parametrize("text", ["{\n", '{"started": 1, "unknown": 2}\n'])
def test_a_damaged_line_of_attempts_is_named(folder: ArrayFolder, text: str) -> None:
    (folder.path / "attempts" / "a.jsonl").write_text(text)
    message = r"attempts/a\.jsonl line 1: is damaged \(.+\); remove the line to continue without it$"
    with pytest.raises(RunError, match=message):
        folder.attempts("a")


def test_the_log_of_an_array_is_one_members(folder: ArrayFolder) -> None:
    with pytest.raises(JobError, match=r"^two: has 2 members; name one: a, b$"):
        logs_text(folder, None, 10)
    with pytest.raises(JobError, match=r"^c: is not a member of two; it has a, b$"):
        logs_text(folder, "c", 10)
    with pytest.raises(JobError, match=r"^two: a has no log yet; it has not started$"):
        logs_text(folder, "a", 10)


def test_code_that_cannot_be_copied_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/code: the code can't be copied there \(Not a directory\)$"):
        freeze_code(tmp_path / "file" / "code", [])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exec sleep 20", "^scancel: SLURM did not respond in 0.1 seconds; try again$"),
        ("echo first >&2; echo Invalid job id >&2; exit 1", "^scancel 7: Invalid job id$"),
        ("exit 3", "^scancel 7: exit status 3$"),
    ],
    ids=["silent", "refuses", "fails"],
)
def test_a_slurm_command_that_fails_is_named(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scancel").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(slurm_commands, "SECONDS", 0.1 if "respond" in message else 30)
    with pytest.raises(RunError, match=message):
        slurm_commands.cancel(["7"])


def test_what_slurm_has_and_has_decided_is_read_from_its_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {
        "squeue": "7_0|RUNNING|None|node1\n7_1|PENDING|Priority|\n8|RUNNING|None|node2\n",
        "scontrol": "JobId=7 Restarts=0 Reason=None JobState=COMPLETING PreemptTime=None\n",
    }
    for name, text in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert slurm_commands.queue(["7"]) == {
        "7_0": slurm_commands.QueueEntry(state="RUNNING", reason="None", nodes="node1"),
        "7_1": slurm_commands.QueueEntry(state="PENDING", reason="Priority", nodes=""),
    }
    assert slurm_commands.has_decided("7_0", 0)  # it is ending, and neither a limit nor a preemption was the reason
    assert slurm_commands.has_decided("7_0", -1)
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho Restarts=0 Reason=TimeLimit JobState=COMPLETING\n")
    assert not slurm_commands.has_decided("7_0", 0)
