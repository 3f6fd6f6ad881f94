"""The run folder: what a run was, is, and resumes from."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.files import read_json
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.checks import check_same

FullDisk = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


@pytest.fixture
def job(tiny_job: Path) -> Job:
    return load_job(tiny_job, [])


def damage(run: RunFolder, name: str) -> Path:
    path = run.checkpoints / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path


def step_of(run: RunFolder) -> int:
    state, _ = run.load_state({})
    assert state is not None
    return int(state["step"])


def test_a_run_locked_before_its_first_status_is_refused(run: RunFolder) -> None:
    run.lock()
    with pytest.raises(JobError, match="is being trained by another process; wait for it"):
        RunFolder(run.path).lock()
    run.write_status("running")
    with pytest.raises(JobError, match=r"is being trained by process \d+ on "):
        RunFolder(run.path).lock()


# The state.


def test_a_new_run_has_no_state(run: RunFolder) -> None:
    assert run.load_state({}) == (None, None)


def test_a_run_goes_on_from_its_last_state(run: RunFolder) -> None:
    run.save_state({"step": 1})
    run.save_state({"step": 2})
    assert run.load_state({}) == ({"step": 2}, None)


def test_a_damaged_last_state_gives_way_to_the_one_before_with_a_sentence(run: RunFolder) -> None:
    run.save_state({"step": 1})
    run.save_state({"step": 2})
    last = damage(run, "last")
    state, sentence = run.load_state({})
    assert state == {"step": 1}
    assert sentence is not None
    assert sentence.startswith(f"{last}: the checkpoint is damaged (")
    assert sentence.endswith("; removed; resuming from the previous checkpoint")


def test_a_damaged_state_never_takes_the_place_of_the_only_whole_one(run: RunFolder, full_disk: FullDisk) -> None:
    run.save_state({"step": 1})
    run.save_state({"step": 2})
    damage(run, "last")
    run.load_state({})
    with pytest.raises(OSError, match="too large"), full_disk():
        run.save_state({"step": 2, "weight": torch.zeros(1000)})
    assert step_of(run) == 1


def test_a_save_that_fails_leaves_the_state_before_it(run: RunFolder, full_disk: FullDisk) -> None:
    run.save_state({"step": 1})
    run.save_state({"step": 2})
    with pytest.raises(OSError, match="too large"), full_disk():
        run.save_state({"step": 3, "weight": torch.zeros(1000)})
    assert step_of(run) == 2


def test_lines_and_their_names_are_on_the_disk_before_a_state_that_counts_them(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.append_line("steps.jsonl", {"step": 1, "loss": 1.0, "lr": 0.1})
    real, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    run.save_state({"step": 1})
    assert synced[:2] == [run.path / "steps.jsonl", run.path]
    assert synced[-1] == run.checkpoints  # in which the state has got its name


def test_a_run_without_a_whole_state_is_refused_with_a_way_out(run: RunFolder) -> None:
    run.save_state({"step": 1})
    run.save_state({"step": 2})
    paths = [damage(run, "last"), damage(run, "previous")]
    with pytest.raises(RunError) as caught:
        run.load_state({})
    assert all(f"{path}: the checkpoint is damaged" in str(caught.value) for path in paths)
    way_out = f"; there is no other state to resume from: remove {run.path} to start the run again"
    assert str(caught.value).endswith(way_out)


def test_a_state_that_is_missing_is_not_replaced_by_a_start_from_epoch_1(run: RunFolder) -> None:
    run.save_state({"step": 1})
    run.checkpoint_path("last").rename(run.checkpoint_path("best"))
    with pytest.raises(RunError) as caught:
        run.load_state({})
    assert str(caught.value) == (
        f"{run.checkpoint_path('last')}: is missing, though the run was trained before; put it back, or remove "
        f"{run.path} to start the run again; its best weights can start another run: from={run.path} run=NAME"
    )


def test_a_run_that_lacks_its_config_is_told_to_get_it_back(run: RunFolder) -> None:
    run.write_status("interrupted")
    with pytest.raises(JobError, match=r"the run's config\.yaml is missing; put it back, or choose another run=$"):
        run.check_own()


def test_a_finished_run_keeps_one_state(run: RunFolder) -> None:
    run.save_state({"step": 1})
    run.save_state({"step": 2})
    run.drop_previous()
    assert ([path.name for path in run.checkpoints.iterdir()], step_of(run)) == (["last.safetensors"], 2)


# The lines.


def step(number: int, **more: Any) -> dict[str, Any]:
    """A line of steps.jsonl."""
    return {"step": number, "loss": 0.1 + 0.2, "lr": 1e-300} | more


def epoch(number: int, **more: Any) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    measures = {"loss": 1 / 3, "accuracy": None}
    return {"epoch": number, "step": 2 * number, "lr": 0.1, "train": measures, "val": measures} | more


def test_lines_come_back_as_they_were_written(run: RunFolder) -> None:
    lines = [step(1, text="a\u2028b"), step(2)]
    for line in lines:
        run.append_line("steps.jsonl", line)
    assert run.read_lines("steps.jsonl") == lines


def test_a_file_that_is_not_there_has_no_lines(run: RunFolder) -> None:
    assert run.read_lines("metrics.jsonl") == []


@pytest.mark.parametrize("rest", ['{"step": 3', json.dumps(step(3)), "{"])
def test_a_last_line_without_its_end_is_left_out(run: RunFolder, rest: str) -> None:
    (run.path / "steps.jsonl").write_text(f"{json.dumps(step(1))}\n{json.dumps(step(2))}\n{rest}")
    assert run.read_lines("steps.jsonl") == [step(1), step(2)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"epo', "damaged"),
        ("{}", "{}; it must hold a number for epoch"),
        ("3", "3; it must hold a number for epoch"),
        ('{"epoch": "2"}', '{"epoch": "2"}; it must hold a number for epoch'),
        ('{"epoch": 2, "step": null}', '{"epoch": 2, "step": null}; it must hold a number for step'),
        *(
            (line, f"{line[:60]}; it must hold numbers under val")
            for line in (json.dumps(epoch(2, train={}, val=val)) for val in (3, None, {"accuracy": "0.5"}))
        ),
    ],
)
def test_a_line_that_is_none_is_refused_by_its_number(run: RunFolder, line: str, problem: str) -> None:
    path = run.path / "metrics.jsonl"
    path.write_text(f"{json.dumps(epoch(1))}\n{line}\n{json.dumps(epoch(3))}\n")
    with pytest.raises(RunError) as caught:
        run.read_lines("metrics.jsonl")
    assert str(caught.value) == f"{path} line 2: is {problem}; remove the line to continue without it"


def test_cutting_back_drops_what_the_state_has_not_seen_and_a_half_line(run: RunFolder) -> None:
    for number in range(1, 8):
        run.append_line("steps.jsonl", step(number))
    (run.path / "steps.jsonl").open("a").write('{"st')
    for number in (1, 2, 3):
        run.append_line("metrics.jsonl", epoch(number))
    run.cut_back(step=4, epoch=2)
    run.append_line("steps.jsonl", step(5))
    assert [line["step"] for line in run.read_lines("steps.jsonl")] == [1, 2, 3, 4, 5]
    assert [line["epoch"] for line in run.read_lines("metrics.jsonl")] == [1, 2]


def test_cutting_back_what_needs_no_cut_leaves_the_same_bytes(run: RunFolder) -> None:
    for number in (1, 2):
        run.append_line("metrics.jsonl", epoch(number))
    whole = (run.path / "metrics.jsonl").read_bytes()
    run.cut_back(step=4, epoch=2)
    assert (run.path / "metrics.jsonl").read_bytes() == whole


# The status and the environment.


def test_a_new_run_has_no_status(run: RunFolder) -> None:
    assert (run.status(), run.data_digest(), run.world_size()) == ({}, None, 1)


def test_the_status_says_what_was_written_and_by_whom(run: RunFolder) -> None:
    run.write_status("running", step=3)
    run.write_status("failed", error="the loss was not finite")
    status = run.status()
    assert (status["state"], status["error"], "step" in status) == ("failed", "the loss was not finite", False)
    assert {"host", "pid", "time"} <= status.keys()


def test_a_damaged_status_is_refused_by_its_name(run: RunFolder) -> None:
    (run.path / "status.json").write_text('{"state": "run')
    with pytest.raises(RunError) as caught:
        run.status()
    assert str(caught.value) == f"{run.path}/status.json: is damaged; remove it to continue without it"


def test_the_environment_remembers_the_data_and_the_ranks(run: RunFolder) -> None:
    run.write_environment("abc", 4, torch.device("cpu"))
    environment = json.loads((run.path / "environment.json").read_text())
    assert (run.data_digest(), run.world_size()) == ("abc", 4)
    assert environment["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert "torchvision" in environment["versions"]


@pytest.mark.parametrize(
    ("module", "ranks", "command"),
    [
        ("fer_ddp.__main__", 1, "python -m fer_ddp train 'my job.yaml' 'data.mean=[0.5]'"),
        (
            "fer_ddp.__main__",
            2,
            "torchrun --standalone --nproc-per-node=2 -m fer_ddp train 'my job.yaml' 'data.mean=[0.5]'",
        ),
        (None, 1, "python train.py train 'my job.yaml' 'data.mean=[0.5]'"),
    ],
)
def test_the_environment_holds_a_command_to_paste(
    run: RunFolder, module: str | None, ranks: int, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "train", "my job.yaml", "data.mean=[0.5]"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", module and ModuleSpec(module, None))
    run.write_environment("abc", ranks, torch.device("cpu"))
    assert json.loads((run.path / "environment.json").read_text())["command"] == command


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"world_size": "two"}, 'world_size is "two"; it must be a whole number, the ranks that trained the run'),
        ({"world_size": 2.5}, "world_size is 2.5; it must be a whole number, the ranks that trained the run"),
        ({"data_digest": 7}, "data_digest is 7; it must be the digest that `shards inspect` prints"),
    ],
    ids=str,
)
def test_a_wrong_type_in_the_environment_is_refused_by_its_key(
    run: RunFolder, written: dict[str, Any], sentence: str
) -> None:
    path = run.path / "environment.json"
    path.write_text(json.dumps(written))
    with pytest.raises(RunError) as caught:
        (run.world_size(), run.data_digest())
    assert str(caught.value) == f"{path}: {sentence}"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobError) as caught:
        RunFolder(tmp_path / "file" / "run").create()
    assert str(caught.value) == (
        f"{tmp_path}/file/run: the run folder can't be made (Not a directory); choose another run="
    )


# Schema versions.


@pytest.mark.parametrize("name", ["status.json", "environment.json", "summary.json"])
def test_a_file_of_a_newer_schema_version_is_refused(run: RunFolder, name: str) -> None:
    (run.path / name).write_text('{"schema_version": 2}')
    with pytest.raises(RunError) as caught:
        read_json(run.path / name)
    assert str(caught.value) == (
        f"{run.path}/{name}: has schema version 2, written by a newer version of fer-ddp; this one reads versions up "
        "to 1; upgrade fer-ddp"
    )


def test_what_a_run_writes_has_a_schema_version(run: RunFolder) -> None:
    run.write_status("running")
    run.write_environment("abc", 1, torch.device("cpu"))
    written = [read_json(run.path / name)["schema_version"] for name in ("status.json", "environment.json")]
    assert written == [1, 1]


# Whose folder it is.


@pytest.mark.parametrize("name", [None, ".lock", ".config.yaml.0123abcd.tmp", ".config.yaml.tmp", "config.yaml"])
def test_a_folder_with_no_more_than_a_start_leaves_is_a_runs_own(run: RunFolder, name: str | None) -> None:
    if name is not None:
        (run.path / name).touch()
    run.check_own()


@pytest.mark.parametrize("name", ["notes.txt", "figures/mine.png", ".git/config", "elsewhere/.lock", ".a.tmp"])
def test_a_folder_with_another_file_is_not(run: RunFolder, name: str) -> None:
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).touch()
    with pytest.raises(JobError) as caught:
        run.check_own()
    assert f"is not empty and not a run folder (it holds {name} and no config.yaml)" in str(caught.value)


def test_a_run_goes_on_though_other_files_were_put_into_its_folder(run: RunFolder) -> None:
    (run.path / "config.yaml").touch()
    (run.path / "notes.txt").touch()
    run.check_own()


# Going on with a job.


def test_the_same_job_may_go_on(run: RunFolder, job: Job) -> None:
    check_same(run, job, job, "digest")


def test_a_job_may_change_what_does_not_change_the_result(run: RunFolder, job: Job, tiny_job: Path) -> None:
    free = ["data.path=elsewhere", "data.mode=resident", "micro_batch_size=4", "log.every_steps=1", "run=elsewhere"]
    free += ["wandb={mode: offline, project: x, group: y}", "checkpoint.every_steps=3", "name=x"]
    check_same(run, job, load_job(tiny_job, free), "digest")


def test_a_job_that_would_give_another_result_is_refused_with_the_keys_that_differ(
    run: RunFolder, job: Job, tiny_job: Path
) -> None:
    other = load_job(tiny_job, ["optimizer.lr=0.5", "augment.flip=0.5", "log.every_steps=1"])
    with pytest.raises(JobError) as caught:
        check_same(run, job, other, "digest")
    assert str(caught.value) == (
        f"{run.path}: was started with another job (augment.flip: 0.0 -> 0.5; optimizer.lr: 0.001 -> 0.5); "
        f"choose another run= or put these keys back"
    )


def test_other_data_are_refused_by_the_file_that_differs(run: RunFolder, job: Job) -> None:
    run.write_environment("a" * 64, 1, torch.device("cpu"))
    gone = dataclasses.replace(job, data=dataclasses.replace(job.data, path="gone"))
    for other, problem in ((job, "has another digest"), (gone, "is not there")):
        with pytest.raises(JobError) as caught:
            check_same(run, job, other, "b" * 64)
        assert str(caught.value) == (
            f"{run.path}: was started on other data: {other.data.path}/manifest.json {problem} (aaaaaaaaaaaa -> "
            f"bbbbbbbbbbbb); put these data back, or choose another run="
        )


def test_auto_is_what_the_run_decided_when_it_was_new(run: RunFolder, job: Job, tiny_job: Path) -> None:
    decided = dataclasses.replace(job, precision="bf16", memory_format="channels_last")
    check_same(run, decided, load_job(tiny_job, ["precision=auto", "memory_format=auto"]), "digest")


def test_another_precision_than_the_one_decided_is_refused(run: RunFolder, job: Job) -> None:
    decided = dataclasses.replace(job, precision="bf16")
    with pytest.raises(JobError, match=r"\(precision: bf16 -> float32\)"):
        check_same(run, decided, job, "digest")
