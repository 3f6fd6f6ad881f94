"""``python -m fer_ddp``: what is wrong is one line on stderr and an exit status, and nothing is half-written."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fer_ddp.__main__ import main
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import with_statistics
from fer_ddp.models.build import build_model
from fer_ddp.runs.checkpoint import save_checkpoint
from fer_ddp.signals import STOP_SIGNALS, StoppedEarly
from fer_ddp.yaml_io import to_yaml
from shards.manifest import read_manifest

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs a command in this process; gives its exit status and the first line it leaves on stderr."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def run(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        exit_status = main([str(argument) for argument in arguments])
        line, *more = capfd.readouterr().err.splitlines()
        assert [text for text in more if not text.startswith("to resume: ")] == []
        return exit_status, line

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def in_a_process(*arguments: object) -> tuple[int, list[str]]:
    """The exit status and the lines on stderr of a real ``python -m fer_ddp``."""
    words = [sys.executable, "-m", "fer_ddp", *map(str, arguments)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stderr.splitlines()


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """Where ``tiny_job`` would put its run."""
    return tmp_path / "run"


def without_val(faces: Path, folder: Path) -> Path:
    """A copy of ``faces`` that has no val split."""
    folder.mkdir()
    manifest = json.loads((faces / "manifest.json").read_text())
    del manifest["splits"]["val"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for split in ("train", "test"):
        shutil.copy(faces / f"{split}-000000.tar", folder)
    return folder


# As a process of its own.


def test_without_a_command_it_shows_its_usage() -> None:
    exit_status, lines = in_a_process()
    assert exit_status == 2
    assert lines == [
        "usage: python -m fer_ddp [-h] [--version] COMMAND ...",
        "python -m fer_ddp: error: the following arguments are required: COMMAND",
    ]


def test_an_unknown_key_ends_a_process_with_status_2_and_one_line(tiny_job: Path, run_path: Path) -> None:
    assert in_a_process("train", tiny_job, "optimizer.lr_rate=0.1") == (
        2,
        ["error: command line: optimizer.lr_rate: unknown key; did you mean optimizer.lr?"],
    )
    assert not run_path.exists()


def test_missing_data_end_a_process_with_status_2_and_one_line(tiny_job: Path, run_path: Path) -> None:
    exit_status, (line,) = in_a_process("train", tiny_job, "data.path=nowhere")
    assert exit_status == 2
    assert line.startswith("error: nowhere: there is no such folder")
    assert not run_path.exists()


# In this process.


def test_a_wrong_type_is_refused_by_its_key(command: Command, tiny_job: Path, run_path: Path) -> None:
    assert command("train", tiny_job, "epochs=ten") == (
        2,
        'error: command line: epochs: is "ten"; it must be a whole number',
    )
    assert not run_path.exists()


def test_a_missing_job_file_is_refused_with_the_one_that_was_meant(command: Command, tiny_job: Path) -> None:
    wrong = tiny_job.with_name("tinny.yaml")
    assert command("train", wrong) == (2, f"error: {wrong}: there is no such file; did you mean {tiny_job}?")


def test_a_folder_that_is_no_data_set_is_refused(command: Command, tiny_job: Path, run_path: Path) -> None:
    exit_status, line = command("train", tiny_job, f"data.path={tiny_job.parent}")
    assert exit_status == 2
    assert line.startswith(f"error: {tiny_job.parent}: has no manifest.json")
    assert not run_path.exists()


def test_a_batch_larger_than_the_data_is_refused(command: Command, tiny_job: Path, run_path: Path) -> None:
    assert command("train", tiny_job, "global_batch_size=241") == (
        2,
        "error: global_batch_size: 241 is more than the 240 training samples; choose 240 or less",
    )
    assert not run_path.exists()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("select=best_val", "select=best_val"),
        ("schedule.name=plateau", "schedule.name=plateau"),
        ("early_stopping.patience_epochs=3", "early_stopping.patience_epochs"),
    ],
)
def test_what_needs_a_val_split_is_refused_where_there_is_none(
    command: Command, faces: Path, tiny_job: Path, run_path: Path, override: str, key: str
) -> None:
    folder = without_val(faces, tiny_job.with_name("no-val"))
    assert command("train", tiny_job, f"data.path={folder}", "select=last", override) == (
        2,
        f"error: {key}: needs a val split, and {folder} has none; pack it with --val-fraction 0.1, or change this",
    )
    assert not run_path.exists()


def test_a_warm_up_longer_than_the_run_is_refused(command: Command, tiny_job: Path, run_path: Path) -> None:
    assert command("train", tiny_job, "schedule.warmup_epochs=2") == (
        2,
        "error: schedule.warmup_epochs: is 2; it must be 1 or less, as epochs is",
    )
    assert not run_path.exists()


def test_a_mean_for_rgb_is_refused_for_grey_images(command: Command, tiny_job: Path, run_path: Path) -> None:
    exit_status, line = command("train", tiny_job, "data.mean=[0.485, 0.456, 0.406]")
    assert exit_status == 2
    assert line.startswith("error: data.mean: has 3 numbers; the images have 1 channel")
    assert not run_path.exists()


def test_an_unknown_network_is_refused_before_anything_is_written(
    command: Command, tiny_job: Path, run_path: Path
) -> None:
    exit_status, line = command("train", tiny_job, "model.name=vgg")
    assert exit_status == 2
    assert line.startswith("error: model.name: there is no model 'vgg'")
    assert not run_path.exists()


def test_a_truncated_tar_fails_the_run_with_the_files_name(
    command: Command, faces: Path, tiny_job: Path, run_path: Path
) -> None:
    folder = tiny_job.with_name("cut")
    shutil.copytree(faces, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"rejects": 1}))  # so that no cache has it
    tar = folder / "train-000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    exit_status, line = command("train", tiny_job, f"data.path={folder}")
    assert exit_status == 1
    sentence = line.removeprefix("error: ")
    assert f"{tar}: has {len(whole) // 2} bytes, the manifest says {len(whole)}" in sentence
    status = json.loads((run_path / "status.json").read_text())
    assert (status["state"], status["message"]) == ("failed", sentence)
    assert [path for path in run_path.rglob("*") if path.suffix in (".safetensors", ".csv", ".jsonl", ".png")] == []


def test_a_run_folder_that_cannot_be_made_is_refused(command: Command, tiny_job: Path) -> None:
    assert command("train", tiny_job, f"run={tiny_job}/run") == (
        2,
        f"error: {tiny_job}/run: the run folder can't be made (Not a directory); choose another run=",
    )


def test_a_folder_of_something_else_does_not_become_a_run(command: Command, tiny_job: Path, run_path: Path) -> None:
    (run_path / "figures").mkdir(parents=True)
    (run_path / "figures" / "mine.png").touch()
    assert command("train", tiny_job) == (
        2,
        f"error: {run_path}: is not empty and not a run folder (it holds figures/mine.png and no config.yaml); "
        f"choose another run=, or empty it",
    )
    assert [path.name for path in run_path.rglob("*")] == ["figures", "mine.png"]


def test_a_folder_that_is_no_run_is_not_evaluated(command: Command, tmp_path: Path) -> None:
    assert command("evaluate", tmp_path) == (
        2,
        f"error: {tmp_path}: is not a run folder (it has no config.yaml); give one such as runs/smoke-seed0",
    )


def test_a_command_without_a_job_asks_for_that_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train"])
    assert capsys.readouterr().err.endswith("the following arguments are required: JOB\n")


def test_an_evaluation_changes_no_other_key(command: Command, tmp_path: Path) -> None:
    assert command("evaluate", tmp_path, "data.path=x", "epochs=3") == (
        2,
        "error: epochs=3: evaluate takes data.path=FOLDER alone; all else is the run's own",
    )


def test_a_run_without_a_checkpoint_is_not_evaluated(command: Command, tiny_job: Path, run_path: Path) -> None:
    run_path.mkdir()
    shutil.copy(tiny_job, run_path / "config.yaml")
    assert command("evaluate", run_path) == (
        1,
        f"error: {run_path}/checkpoints/best.safetensors: there is no such checkpoint: no epoch has ended yet, or the "
        "file was removed, in which case `train` with select=last evaluates the last weights",
    )


@pytest.fixture
def untrained(tiny_job: Path, run_path: Path) -> Path:
    """The run folder of ``tiny_job`` with the weights of its network as it begins."""
    job = load_job(tiny_job, [])
    manifest = read_manifest(Path(job.data.path))
    shape, names = manifest.image_shape, manifest.class_names
    network = build_model(job.model, seed=0, image_shape=shape, num_classes=len(names))
    meaning = {"image_shape": list(shape), "class_names": list(names)}
    state = {"step": 0, "epoch": 0, **meaning, "network": network.state_dict()}
    (run_path / "checkpoints").mkdir(parents=True)
    save_checkpoint(run_path / "checkpoints" / "best.safetensors", state)
    job = dataclasses.replace(job, data=with_statistics(job.data, manifest))
    (run_path / "config.yaml").write_text(to_yaml(job.to_dict()))
    return run_path


def test_an_evaluation_without_the_runs_data_asks_where_they_are(
    command: Command, untrained: Path, faces: Path
) -> None:
    config = untrained / "config.yaml"
    config.write_text(config.read_text().replace(str(faces), "moved/faces"))
    assert command("evaluate", untrained) == (
        2,
        "error: moved/faces: the run's data are not there; give their folder: data.path=FOLDER",
    )


def test_a_run_whose_network_was_edited_is_not_evaluated(command: Command, untrained: Path) -> None:
    config = untrained / "config.yaml"
    config.write_text(config.read_text().replace("hidden: 16", "hidden: 17"))
    assert command("evaluate", untrained) == (
        1,
        f"error: {config}: plain_cnn with these arguments is not the model whose weights are in "
        f"{untrained}/checkpoints/best.safetensors; put model.name and model.arguments back",
    )


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("environment.json", '{"world_size": "x"}', ': world_size is "x"; it must be a whole number'),
        ("metrics.jsonl", "{}\n", " line 1: is {}; it must hold a number for epoch"),
    ],
)
def test_a_run_whose_files_were_edited_is_not_evaluated(
    command: Command, untrained: Path, name: str, text: str, sentence: str
) -> None:
    (untrained / name).write_text(text)
    exit_status, line = command("evaluate", untrained)
    assert (exit_status, line.startswith(f"error: {untrained / name}{sentence}")) == (1, True), line


def test_a_folder_that_is_no_run_is_not_sent(command: Command, tmp_path: Path) -> None:
    assert command("sync", tmp_path) == (
        2,
        f"error: {tmp_path}: is not a run folder (it has no config.yaml); give one such as runs/smoke-seed0",
    )


def test_an_interrupted_evaluation_ends_with_status_75(
    command: Command, tiny_job: Path, run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise StoppedEarly("SIGINT")

    run_path.mkdir()
    shutil.copy(tiny_job, run_path / "config.yaml")
    monkeypatch.setattr("fer_ddp.evaluation.evaluate.evaluate_run", interrupted)
    assert command("evaluate", run_path) == (75, "interrupted: stopped by SIGINT")


def test_keys_lists_every_key_with_its_default_and_its_meaning(
    command: Command, tiny_job: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys"]) == 0
    lines = capfd.readouterr().out.splitlines()
    keys = [line.split("=")[0] for line in lines if not line.startswith(" ")]
    values = load_job(tiny_job, []).to_dict()
    assert keys == list(flat(values | {"model": values["model"] | {"arguments": 0}}))
    for key, meaning in [
        (
            "optimizer.lr=(must be given)",
            "    Learning rate, 1000 at most; the highest one of a onecycle or cosine schedule.",
        ),
        ("augment.scale=[1.0, 1.0]", "    Zoom factor, uniform between these."),
        (
            "loss.class_weights=none",
            "    balanced: a class's weight is inverse to its count in train, with",
        ),
        ("run=(runs/NAME-seedN)", "    The run folder."),
    ]:
        assert lines[lines.index(key) + 1].startswith(meaning)


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


# What a world of one can't show.


def catches_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(mask, 16) & 1 << (signal.SIGTERM - 1))


def test_sigterm_before_the_run_begins_ends_with_status_75(tiny_job: Path) -> None:
    for module, arguments in (("fer_ddp", ["train"]), ("launch", ["local"])):
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, str(tiny_job)], stderr=subprocess.PIPE, text=True
        )
        while not catches_sigterm(process.pid):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()  # while torch is being imported
        output = process.communicate(timeout=60)[1]
        assert (process.returncode, "Traceback" in output) == (75, False), output


def test_a_negative_number_of_ranks_is_refused(tiny_job: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launch", "local", str(tiny_job), "--ranks", "-1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "error: --ranks -1: there must be 1 or more\n")
