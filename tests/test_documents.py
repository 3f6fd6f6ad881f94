"""What docs/ claims and recommends is true: files, functions and their order, recipes of changes, examples."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from forking import run_forked
from nbclient import NotebookClient
from PIL import Image

from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.training.loop import run_epochs
from fer_ddp.training.setup import build_trainer
from shards.sources.synthetic_faces import draw_faces

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEP = re.findall(r"^\| `(fer_ddp/[\w/]+\.py)` \| `([\w.]+)` \|", ARCHITECTURE, re.MULTILINE)
"""(file, function) of each line of the table of one training step."""


def environment(**more: str) -> dict[str, str]:
    """This one, with the commands that lie beside Python."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | more


def test_one_step_calls_the_functions_of_the_table_in_its_order(faces: Path) -> None:
    overrides = [f"data.path={faces}", "precision=float32", "memory_format=contiguous", "global_batch_size=24"]
    job = load_job(ROOT / "jobs" / "smoke.yaml", overrides)
    trainer = build_trainer(job, FERDataset(faces, "train"), 1, torch.device("cpu"))
    called: list[tuple[str, str]] = []

    def record(frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(f"{ROOT}/fer_ddp/"):
            called.append((file.removeprefix(f"{ROOT}/"), frame.f_code.co_qualname))

    trainer.step(trainer.loader.raw_batch(0))  # torch imports more of itself
    sys.setprofile(record)
    try:
        trainer.step(trainer.loader.raw_batch(1))
    finally:
        sys.setprofile(None)
    first_calls = list(dict.fromkeys(call for call in called if call in STEP))
    assert STEP[0] == ("fer_ddp/training/loop.py", run_epochs.__qualname__)
    assert first_calls == STEP[1:]
    assert len({file for file, _ in STEP}) <= 8


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:fer_ddp|shards|launch|bench|tests)/[\w/]+\.py|jobs/[\w/]+\.yaml)`", text))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def changes() -> Iterator[tuple[str, str, str]]:
    """(file, text before, text after) for each block of docs/architecture.md that adds or changes code."""
    for kind, block in re.findall(r"```(python|diff)\n(.*?)```", ARCHITECTURE, re.DOTALL):
        first, rest = block.split("\n", 1)
        if kind == "python":
            yield first.removeprefix("# "), "", rest
        else:
            lines = rest.splitlines(keepends=True)
            before, after = ("".join(line[1:] for line in lines if line[0] != other) for other in "+-")
            yield first.removeprefix("--- "), before, after


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with everything that docs/architecture.md adds."""
    copy = tmp_path_factory.mktemp("extended")
    for package in ("fer_ddp", "shards", "launch", "jobs"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, after in changes():
        path = copy / file
        if not before:
            path.write_text(after)
            continue
        text = path.read_text()
        assert text.count(before) == 1, f"{file}: {before!r} is not there exactly once"
        path.write_text(text.replace(before, after))
    return copy


def test_what_is_added_as_the_architecture_says_trains(extended: Path) -> None:
    labels = np.arange(210) % 7
    splits = np.repeat(["train", "val", "test"], (140, 35, 35))
    np.savez(extended / "faces.npz", images=draw_faces(labels, np.random.default_rng(0)), labels=labels, splits=splits)
    overrides = ["model.name=tiny_cnn", "model.arguments.width=8", "augment.invert_probability=0.5"]
    overrides += ["optimizer.name=nadam", "data.path=faces", "epochs=1", "global_batch_size=20", "wandb.mode=disabled"]
    commands = [
        ["pack", "faces.npz", "faces", "--format", "npz"],
        ["train", "jobs/baseline.yaml", "run=run", *overrides],
        ["train", "jobs/baseline.yaml", "run=plain", *overrides, "augment.invert_probability=0"],
    ]
    in_one_process = "import json, sys\nfrom fer_ddp.__main__ import main\nprint(*map(main, json.loads(sys.argv[1])))"
    ended = subprocess.run(
        [sys.executable, "-c", in_one_process, json.dumps(commands)],
        cwd=extended,
        env=environment(PYTHONPATH=str(extended)),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (ended.stdout.splitlines()[-1:], ended.stderr) == (["0 0 0"], "")
    losses = [(extended / run / "metrics.jsonl").read_text() for run in ("run", "plain")]
    assert losses[0] != losses[1]  # the transform took part


@pytest.mark.parametrize("tool", [["ruff", "check"], ["ruff", "format", "--check"]], ids=" ".join)
def test_what_the_architecture_adds_is_in_the_projects_style(extended: Path, tool: list[str]) -> None:
    command = [*tool, "--config", str(ROOT / "pyproject.toml"), "fer_ddp", "shards"]
    ended = subprocess.run(command, cwd=extended, env=environment(), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout


def test_the_examples_in_python_run(tmp_path: Path) -> None:
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("docs/python.md", "README.md"))
    Image.new("L", (60, 60), 128).save(tmp_path / "face.png")
    (tmp_path / "examples.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    ended = run_forked(1, "examples.py", cwd=tmp_path, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "optimizer.lr_rate: unknown key" in ended.stdout
    assert (tmp_path / "samples.png").exists()


NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
IN_A_THREAD = """
import threading

predictions = []

def from_a_job_to_predictions():
    job = fer_ddp.load_job("smoke", epochs=2, run="runs/thread", **{"data.path": "data/quickstart"})
    results = fer_ddp.train(job)
    assert fer_ddp.evaluate(results.folder).summary == results.summary
    predictions.append(fer_ddp.load(results.folder).predict([array, picture]))

thread = threading.Thread(target=from_a_job_to_predictions)
thread.start()
thread.join()
predictions[0].probabilities.shape
"""


def test_the_notebook_runs_in_a_kernel_and_so_does_a_thread_of_it(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    notebook.cells.append(nbformat.v4.new_code_cell(IN_A_THREAD))  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="2"))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 3
    assert outputs[-1]["data"]["text/plain"] == "(2, 7)"


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None] == []


def test_each_promise_of_the_page_on_security_names_a_test_that_exists() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    two_users = (ROOT / "tests/test_two_users.py").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) >= 9
    assert [f"{file}::{name}" for file, name in named if f"def {name}" not in (ROOT / file).read_text("utf-8")] == []
    assert [name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in two_users] == []
