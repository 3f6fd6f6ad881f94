"""A run whose folder or data are removed while it trains fails with a message, and writes no half of a folder."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_ddp.config.load import load_job
from fer_ddp.errors import RunError
from fer_ddp.runs.files import read_status
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.run import train
from shards.errors import DataError

Strike = Callable[[str, Callable[[], object]], None]


@pytest.fixture
def strike(monkeypatch: pytest.MonkeyPatch) -> Strike:
    """``strike(place, do)``: call ``do`` when the function at ``place`` has been called once; nothing is drawn."""
    for name in ("plot_confusion_matrix", "plot_per_class", "plot_learning_curves", "plot_worst_errors", "save_figure"):
        monkeypatch.setattr(f"fer_ddp.evaluation.evaluate.{name}", lambda *_, **__: None)

    def set_up(place: str, do: Callable[[], object]) -> None:
        module, _, names = place.partition(":")
        *owners, name = names.split(".")
        owner: Any = importlib.import_module(module)
        for each in owners:
            owner = getattr(owner, each)
        function, is_done = getattr(owner, name), []

        def call(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            if not is_done:
                is_done.append(do())
            return result

        monkeypatch.setattr(owner, name, call)

    return set_up


@pytest.fixture
def run(tiny_job: Path) -> Path:
    return tiny_job.parent / "run"


PLACES = {
    "in the first epoch": "fer_ddp.runs.logger:RunLogger.step",
    "after an epoch": "fer_ddp.runs.logger:RunLogger.epoch",
    "before the last evaluation": "fer_ddp.training.run:evaluate_run",
    "in the last evaluation": "fer_ddp.evaluation.evaluate:load_trained_model",
    "while its results are written": "fer_ddp.evaluation.evaluate:write_predictions",
}
REPLACED: dict[str, Callable[[Path], object]] = {
    "removed": lambda run: None,
    "a file": lambda run: run.touch(),
    "another folder": lambda run: RunFolder(run).create(),
}


@pytest.mark.parametrize(
    ("place", "replaced"),
    [*((place, "removed") for place in PLACES), *(("in the first epoch", by) for by in ("a file", "another folder"))],
)
def test_a_run_whose_folder_is_removed_fails_and_names_it(
    place: str, replaced: str, tiny_job: Path, run: Path, strike: Strike
) -> None:
    def remove() -> None:
        shutil.move(run, run.with_name("moved"))
        REPLACED[replaced](run)

    strike(PLACES[place], remove)
    with pytest.raises(
        RunError, match=f"{run}: the run folder was removed or replaced while the run was in it; put it"
    ):
        train(load_job(tiny_job, ["log.every_steps=5"]), torch.device("cpu"))
    if replaced == "removed":
        assert not run.exists()
    elif run.is_dir():
        shutil.rmtree(run)
    else:
        run.unlink()
    shutil.move(run.with_name("moved"), run)
    train(load_job(tiny_job, ["log.every_steps=5"]), torch.device("cpu"))
    assert read_status(run)["state"] == "finished"


def test_data_that_are_removed_while_they_are_streamed_are_named(
    tiny_job: Path, faces: Path, run: Path, strike: Strike
) -> None:
    data = Path(shutil.copytree(faces, tiny_job.parent / "data"))
    strike("fer_ddp.runs.logger:RunLogger.epoch", lambda: shutil.move(data, tiny_job.parent / "moved"))
    job = load_job(tiny_job, [f"data.path={data}", "data.mode=stream", "epochs=3"])
    with pytest.raises((DataError, RunError), match=f"{data}.*"):
        train(job, torch.device("cpu"))
    assert read_status(run)["state"] == "failed"
    shutil.move(tiny_job.parent / "moved", data)
    train(job, torch.device("cpu"))
    assert read_status(run)["state"] == "finished"
