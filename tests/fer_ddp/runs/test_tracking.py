"""W&B with wandb itself and real sockets: servers that don't answer, refuse or die, and one that keeps what it gets."""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
import wandb_file
import yaml
from fake_wandb_server import FakeWandbServer
from forking import fork, run_forked

from fer_ddp.errors import RunError
from fer_ddp.runs.environment import read_run_id
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.tracking import send_run

REASONS = {"unanswered": "context deadline exceeded", "refused": "connection refused"}
F1 = {"happy": 0.25, "sad": 0.75}


@pytest.fixture
def job(tiny_job: Path) -> Path:
    """A job of four small epochs that is logged online."""
    path = tiny_job.with_name("online.yaml")
    path.write_text(yaml.safe_dump({"extends": tiny_job.name, "epochs": 4, "wandb": {"mode": "online", "group": "g"}}))
    return path


@pytest.fixture
def run(tiny_job: Path) -> Path:
    """Where the job's run will be."""
    return tiny_job.with_name("run")


@pytest.fixture
def unanswered() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refused() -> Iterator[str]:
    """An address at which nothing listens, and nothing else will."""
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """``use(url)``: from here on W&B is at ``url``, and there is an API key."""

    def use(url: str) -> None:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)

    monkeypatch.setenv("HOME", str(tmp_path))  # no key of whoever runs the tests
    return use


def train(job: Path, *overrides: str) -> str:
    """Train to the end; what was said on the terminal."""
    done = run_forked(1, "-m", "fer_ddp", "train", str(job), *overrides)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def epochs_written(run: Path) -> list[int]:
    path = run / "metrics.jsonl"
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()] if path.exists() else []


def processes_using(url: str) -> list[str]:
    """The commands of the processes that were started with ``url`` as W&B's address, other than this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.name != str(os.getpid()) and url.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended
            continue
    return found


def all_end(url: str) -> bool:
    """Whether the processes that use ``url`` end within seconds; wandb-core looks for its parent every 0.1 s or so."""
    deadline = time.monotonic() + 5
    while processes_using(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    return processes_using(url) == []


# While training.


@pytest.mark.parametrize("server", ["unanswered", "refused"])
def test_a_server_that_does_not_answer_or_refuses_changes_nothing_but_a_sentence(
    request: pytest.FixtureRequest, use: Callable[[str], None], job: Path, run: Path, server: str
) -> None:
    url = request.getfixturevalue(server)
    use(url)
    said = train(job)
    assert all_end(url)
    assert epochs_written(run) == [1, 2, 3, 4]
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    (sentence,) = [line for line in said.splitlines() if line.startswith("W&B: ")]
    assert sentence.startswith("W&B: can't go online (")
    assert sentence.endswith(f"); logging offline; nothing is lost: `fer-ddp sync {run}` sends it")
    (offline,) = (run / "wandb").glob("offline-run-*/*.wandb")
    assert [row["epoch"] for row in wandb_file.history(offline) if "epoch" in row] == [1, 2, 3, 4]


def test_without_wandb_a_run_trains_and_says_so(
    use: Callable[[str], None], job: Path, run: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(refused)
    hidden = job.with_name("hidden")
    (hidden / "wandb").mkdir(parents=True)
    (hidden / "wandb" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'wandb'\")")
    monkeypatch.setenv("PYTHONPATH", str(hidden), prepend=os.pathsep)
    said = train(job)
    assert epochs_written(run) == [1, 2, 3, 4]
    assert [line for line in said.splitlines() if line.startswith("W&B: ")] == [
        "W&B: wandb can't be imported (No module named 'wandb'); install it: pip install 'fer-ddp[wandb]'; "
        f"nothing is lost: `fer-ddp sync {run}` sends it"
    ]


@pytest.mark.long
def test_after_a_server_that_died_mid_run_a_later_sync_makes_one_run_with_one_curve(
    use: Callable[[str], None], job: Path, run: Path
) -> None:
    first = FakeWandbServer(dies_with=1)
    use(first.url)
    said = train(job)
    assert all_end(first.url)
    assert epochs_written(run) == [1, 2, 3, 4]
    assert "\nW&B: did not take everything within 10 s of the run's end; nothing is lost: " in said
    (sent,) = first.runs.values()
    assert (sent.epochs(), sent.exit_status) == ([1], None)

    second = FakeWandbServer(first.runs)
    use(second.url)
    sentence = send_run(run)
    (name, sent), *others = second.runs.items()
    assert others == []
    assert (sent.epochs(), sent.exit_status, sent.group) == ([1, 2, 3, 4], 0, "g")
    accuracy = json.loads((run / "summary.json").read_text())["test"]["accuracy"]
    assert sentence == (
        f"{run}: sent 4 epochs, of which the server had 1, test accuracy {accuracy:.4f}, to fer-ddp as run {name}"
    )
    second.die()


def test_a_run_that_is_killed_and_goes_on_is_one_run_with_one_curve(
    use: Callable[[str], None], job: Path, run: Path
) -> None:
    server = FakeWandbServer()
    use(server.url)
    killed = fork(["-m", "fer_ddp", "train", str(job), "epochs=6"])
    while len(epochs_written(run)) < 2:
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert all_end(server.url)
    (sent,) = server.runs.values()
    assert (sent.epochs(), sent.exit_status) == (epochs_written(run), 1)
    assert train(job, "epochs=6").count("W&B") == 0
    (sent,) = server.runs.values()
    assert (sent.epochs(), sent.exit_status) == (list(range(1, 7)), 0)
    server.die()


# Sent later.


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A run folder as a finished run leaves it, of three epochs, two classes and a test split."""
    folder = tmp_path / "older"
    (folder / "predictions").mkdir(parents=True)
    job = {"run": "runs/older-seed0", "seed": 0, "wandb": {"mode": "disabled", "project": "faces", "group": None}}
    (folder / "config.yaml").write_text(yaml.safe_dump(job))
    (folder / "status.json").write_text(json.dumps({"state": "finished"}))
    metrics = [{"epoch": n, "step": 10 * n, "lr": 0.1, "train": {"loss": 1 / n, "accuracy": 0.5}} for n in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    timing = [
        {"epoch": n, "seconds": 1.0, "images_per_second": 100.0 * n} for n in (1, 2, 2, 3)
    ]  # epoch 2 was trained twice
    (folder / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timing))
    per_class = {name: {"precision": 0.5, "recall": 0.5, "f1": f1, "support": 2} for name, f1 in F1.items()}
    test = {"n": 3, "accuracy": 2 / 3, "macro_f1": 0.7, "balanced_accuracy": 0.75, "per_class": per_class}
    (folder / "summary.json").write_text(json.dumps({"seed": 0, "class_names": list(F1), "test": test}))
    (folder / "predictions" / "test.csv").write_text(
        "key,label,predicted,p_happy,p_sad\na,happy,happy,0.9,0.1\nb,sad,happy,0.8,0.2\nc,sad,sad,0.3,0.7\n"
    )
    return folder


def unfinished(run: Path, epochs: int) -> None:
    """Take ``run`` back to where it had trained ``epochs``."""
    (run / "status.json").write_text(json.dumps({"state": "interrupted"}))
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:epochs]))


def test_a_sent_run_has_the_curve_the_speed_the_figures_by_class_the_matrix_and_the_config(
    use: Callable[[str], None], older: Path
) -> None:
    server = FakeWandbServer()
    use(server.url)
    before = {path: path.read_bytes() for path in older.rglob("*") if path.is_file()}
    assert send_run(older) == f"{older}: sent 3 epochs, test accuracy 0.6667, to faces as run {read_run_id(older)}"
    ((name, sent),) = server.runs.items()
    assert (name, sent.project, sent.exit_status) == (read_run_id(older), "faces", 0)
    keys = ("epoch", "_step", "lr", "train/loss", "train/accuracy", "images_per_second")
    assert [[line[key] for key in keys] for line in sent.lines.values() if "epoch" in line] == [
        [1, 1, 0.1, 1.0, 0.5, 100.0],
        [2, 2, 0.1, 0.5, 0.5, 200.0],
        [3, 3, 0.1, 1 / 3, 0.5, 300.0],
    ]
    figures = {name: value for name, value in sent.summary.items() if name.startswith("test/")}
    table = figures.pop("test/confusion_matrix_table")
    assert figures == {
        "test/n": 3,
        "test/accuracy": 2 / 3,
        "test/macro_f1": 0.7,
        "test/balanced_accuracy": 0.75,
        "test/f1/happy": 0.25,
        "test/f1/sad": 0.75,
    }
    assert table["path"] in sent.files
    assert sent.config["seed"] == {"value": 0}
    assert {path: path.read_bytes() for path in older.rglob("*") if path.is_file()} == before


def test_a_run_sent_in_parts_and_again_is_one_run_with_each_epoch_once(use: Callable[[str], None], older: Path) -> None:
    server = FakeWandbServer()
    use(server.url)
    part = older.with_name("part")
    shutil.copytree(older, part)
    unfinished(part, 2)
    sentences = [send_run(part), send_run(older), send_run(older)]
    ((name, sent),) = server.runs.items()
    assert (sent.epochs(), len(sent.lines), sent.exit_status) == ([1, 2, 3], 4, 0)
    assert len([name for name in sent.files if "confusion_matrix" in name]) == 1
    told = [sentence.partition(": ")[2] for sentence in sentences]
    assert told == [
        f"sent 2 epochs, not finished, to faces as run {name}",
        f"sent 3 epochs, of which the server had 2, test accuracy 0.6667, to faces as run {name}",
        f"sent 3 epochs, of which the server had 3, test accuracy 0.6667, to faces as run {name}",
    ]
    server.die()


def test_the_key_goes_to_no_server_that_a_file_in_the_working_folder_names(
    use: Callable[[str], None], older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, strangers = FakeWandbServer(), FakeWandbServer()
    use(server.url)
    monkeypatch.delenv("WANDB_BASE_URL")
    for folder, url in ((tmp_path / ".config" / "wandb", server.url), (tmp_path / "data" / "wandb", strangers.url)):
        folder.mkdir(parents=True)
        (folder / "settings").write_text(f"[default]\nbase_url = {url}\n")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / ".config" / "wandb"))
    monkeypatch.chdir(tmp_path / "data")
    assert "sent" in send_run(Path(os.path.relpath(older)))
    assert (len(server.runs), len(strangers.runs)) == (1, 0)
    server.die()
    strangers.die()


@pytest.mark.parametrize("server", ["unanswered", "refused"])
def test_without_a_connection_nothing_is_sent_and_a_sentence_says_so(
    request: pytest.FixtureRequest, use: Callable[[str], None], older: Path, server: str
) -> None:
    url = request.getfixturevalue(server)
    use(url)
    with pytest.raises(RunError, match=f"^{older}: could not be sent: .*{url}.*{REASONS[server]}$"):
        send_run(older)
    assert all_end(url)


def test_without_an_api_key_nothing_is_sent_and_a_sentence_says_so(
    use: Callable[[str], None], older: Path, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(refused)
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(RunError, match=f"^{older}: could not be sent: No API key configured."):
        send_run(older)


def test_a_runs_id_stays_when_it_is_started_again_or_copied_and_another_run_has_another(tmp_path: Path) -> None:
    ids = []
    for name in ("a", "a", "b"):
        run = RunFolder(tmp_path / name)
        run.create()
        run.write_environment("digest", 1, torch.device("cpu"))
        ids.append(read_run_id(run.path))
    shutil.copytree(tmp_path / "b", tmp_path / "elsewhere" / "c")
    ids.append(read_run_id(tmp_path / "elsewhere" / "c"))
    first, again, other, copied = ids
    assert first == again != other == copied
