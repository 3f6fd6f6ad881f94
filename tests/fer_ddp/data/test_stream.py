"""A split that is read from its tars as it is needed: the same batches, the same run, and no more memory."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch
from forking import fork, run_forked
from launching import run_files

import fer_ddp.data.dataset
from fer_ddp import FERDataset
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import DataConfig, open_split
from fer_ddp.data.sampler import StepPlan, shuffled_sampler
from fer_ddp.data.stream import StreamedSplit
from fer_ddp.errors import Interrupted
from fer_ddp.training.setup import build_loader
from shards.errors import DataError
from shards.reading.scan import load_or_scan_manifest

CPU = torch.device("cpu")
DAMAGED = 100
"""The number of the image that `damaged` damages."""


@pytest.fixture(scope="module")
def streamed(faces: Path) -> StreamedSplit:
    return StreamedSplit(faces, "train", workers=2)


@pytest.fixture
def damaged(faces: Path, tmp_path: Path) -> tuple[Path, str]:
    """A data set with a byte of one training image changed after its index was made, and that image's key."""
    folder = Path(shutil.copytree(faces, tmp_path / "damaged"))
    split = StreamedSplit(folder, "train")
    with open(folder / "train-000000.tar", "r+b") as tar:
        tar.seek(int(split.images._index.members[DAMAGED, 0]) + 1000)
        tar.write(b"\x00\xff")
    return folder, split.keys[DAMAGED]


def test_labels_and_keys_are_those_of_the_decoded_split(faces: Path, streamed: StreamedSplit) -> None:
    dataset = FERDataset(faces, "train")
    assert torch.equal(streamed.labels, dataset.labels)
    assert (streamed.keys, streamed.class_names) == (dataset.keys, dataset.class_names)


@pytest.mark.parametrize("order", ["shuffled", "class_balanced"])
@pytest.mark.parametrize(("rank", "ranks"), [(0, 1), (0, 3), (2, 3)])
def test_batches_are_the_same_bit_for_bit(
    tiny_job: Path, order: str, rank: int, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    overrides = [
        f"data.order={order}",
        "global_batch_size=42",
        "augment.rotation_degrees=10",
        "augment.mixup_alpha=0.2",
    ]
    seen = []
    for mode in ("resident", "stream"):
        job = load_job(tiny_job, [*overrides, f"data.mode={mode}"])
        dataset = open_split(job.data, "train", CPU, load_or_scan_manifest(Path(job.data.path)))
        batches = build_loader(job, dataset, StepPlan(samples=240, global_batch_size=42, world_size=ranks), CPU)
        steps = [*range(14), 14, 3, 4, 1000]  # over epochs' ends, the same again, back, far ahead
        seen.append([batches[step] for step in steps])
    for resident, streamed in zip(*seen, strict=True):
        for name in ("images", "targets", "labels", "positions"):
            assert torch.equal(getattr(resident, name), getattr(streamed, name))


def test_a_batch_larger_than_what_a_process_reads_at_once_is_assembled(faces: Path, streamed: StreamedSplit) -> None:
    indices = torch.arange(700) % 240
    ((_, images),) = streamed.images.batches([indices], 700)
    assert torch.equal(images, FERDataset(faces, "train").images[indices])


def test_a_split_is_read_in_order_with_a_smaller_last_batch(faces: Path) -> None:
    parts = list(StreamedSplit(faces, "val", workers=1).images.split(32))
    assert [len(part) for part in parts] == [32, 32, 6]
    assert torch.equal(torch.cat(parts), FERDataset(faces, "val").images)


def test_a_single_image_is_read_as_an_array(faces: Path, streamed: StreamedSplit) -> None:
    assert (streamed.images[7] == FERDataset(faces, "train").images[7].numpy()).all()


def test_only_so_many_batches_are_read_ahead(streamed: StreamedSplit) -> None:
    drawn = []

    def indices() -> Iterator[torch.Tensor]:
        for step in count():
            drawn.append(step)
            yield torch.arange(10)

    batches = streamed.images.batches(indices(), 10)
    for _ in range(3):
        next(batches)
    # Two processes have two pieces each, and one batch more waits.
    assert drawn == list(range(3 + 2 * 2 + 1))


@pytest.fixture(scope="module")
def runs(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Path]:
    """Runs of one job with everything that touches data in it, by the number of ranks and the mode."""
    folder = tmp_path_factory.mktemp("runs")
    job = folder / "job.yaml"
    job.write_text(
        json.dumps(
            {
                "data": {"path": str(faces), "order": "class_balanced"},
                "model": {"name": "plain_cnn", "arguments": {"channels": [4, 8], "hidden": 16, "batch_norm": True}},
                "optimizer": {"name": "adam", "lr": 0.001},
                "augment": {"flip": 0.5, "rotation_degrees": 10.0, "mixup_alpha": 0.2},
                "loss": {"class_weights": "balanced"},
                "epochs": 6,
                "global_batch_size": 48,
                "precision": "float32",
                "memory_format": "contiguous",
                "log": {"every_steps": 1},
                "wandb": {"mode": "disabled"},
            }
        )
    )
    paths = {(ranks, mode): folder / f"{mode}{ranks}" for ranks in (1, 2) for mode in ("resident", "stream")}
    for ranks in (1, 2):
        folders = [str(paths[ranks, mode]) for mode in ("resident", "stream")]
        done = run_forked(ranks, "tests/support/both_modes.py", str(job), *folders)
        assert done.returncode == 0, done.stderr
    return paths


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_streamed_run_writes_the_same_bytes(runs: dict[tuple[int, str], Path], ranks: int) -> None:
    resident, streamed = run_files(runs[ranks, "resident"]), run_files(runs[ranks, "stream"])
    assert resident.pop("config.yaml") != streamed.pop("config.yaml")
    assert len(streamed) > 10
    assert streamed == resident


def test_a_streamed_run_stopped_by_a_clusters_signal_resumes_in_memory(
    runs: dict[tuple[int, str], Path], tmp_path: Path
) -> None:
    undisturbed, run = runs[1, "resident"], tmp_path / "run"
    arguments = ["-m", "fer_ddp", "train", str(undisturbed.parent / "job.yaml"), f"run={run}"]
    process = fork([*arguments, "data.mode=stream"])
    steps, deadline = run / "steps.jsonl", time.monotonic() + 60
    while not (steps.exists() and steps.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)  # the processes that read get it as well
    assert process.wait(timeout=60) == Interrupted.exit_status
    assert run_forked(1, *arguments, "data.mode=resident").returncode == 0
    found, expected = run_files(run), run_files(undisturbed)
    del found["config.yaml"], expected["config.yaml"]
    assert found == expected


def test_a_damaged_image_ends_the_run_with_a_message(damaged: tuple[Path, str], tiny_job: Path) -> None:
    folder, key = damaged
    done = run_forked(1, "-m", "fer_ddp", "train", str(tiny_job), f"data.path={folder}", "data.mode=stream")
    message = f"{folder}/train-000000.tar: sample {key}: its image is damaged (a checksum is wrong)"
    assert (done.returncode, done.stderr) == (1, f"error: {message}; copy or pack it again\n")
    assert json.loads((tiny_job.parent / "run" / "status.json").read_text())["message"].startswith(message)


def test_a_rank_that_meets_a_damaged_image_reports_it_itself(damaged: tuple[Path, str], tiny_job: Path) -> None:
    folder, key = damaged
    # A seed with which the image comes to rank one: its position is in the second half of a batch of 24.
    seed = next(
        seed for seed in count() if shuffled_sampler(240, seed, CPU)(range(240)).tolist().index(DAMAGED) % 24 >= 12
    )
    overrides = [f"seed={seed}", f"data.path={folder}", "data.mode=stream"]
    done = run_forked(2, "-m", "fer_ddp", "train", str(tiny_job), *overrides)
    message = f"error: rank 1: {folder}/train-000000.tar: sample {key}: its image is damaged (a checksum is wrong)"
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr


def test_a_damaged_image_ends_an_evaluation_with_a_message(damaged: tuple[Path, str]) -> None:
    folder, key = damaged
    with pytest.raises(DataError, match=f"sample {key}: its image is damaged"):
        list(StreamedSplit(folder, "train").images.split(64))


def test_auto_keeps_a_split_in_memory_up_to_a_quarter_of_it(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 240 * 48 * 48
    kinds = []
    for memory in (4 * needed, 4 * needed - 1):
        monkeypatch.setattr(fer_ddp.data.dataset, "_memory", lambda device, memory=memory: memory)
        kinds.append(type(open_split(DataConfig(path=str(faces)), "train", CPU, load_or_scan_manifest(faces))))
    assert kinds == [FERDataset, StreamedSplit]


def test_a_cpus_memory_is_no_more_than_the_machines() -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < fer_ddp.data.dataset._memory(CPU) <= machine


def test_a_split_that_is_missing_is_refused_with_those_there_are(faces: Path) -> None:
    for mode in ("auto", "stream"):
        with pytest.raises(DataError, match="has no valid split; it has train, val, test"):
            open_split(DataConfig(path=str(faces), mode=mode), "valid", CPU, load_or_scan_manifest(faces))
