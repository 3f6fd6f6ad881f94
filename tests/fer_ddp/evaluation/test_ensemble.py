"""Ensembles of runs: recorded before test is read, means by hand, refused where members don't belong together."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import hits, labels_of, predicted, write_run

from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.ensemble import write_ensemble
from fer_ddp.report.collect import collect_runs
from fer_ddp.runs.files import read_json
from fer_ddp.runs.predictions import read_predictions

LABELS = labels_of()


def member(folder: Path, seed: int = 0, **options: Any) -> Path:
    """Right on 120 samples from the 40 * seed-th on, in val and test."""
    made = {split: (LABELS, predicted(LABELS, hits(120, shift=40 * seed))) for split in ("val", "test")}
    return write_run(folder, made, seed=seed, **options)


@pytest.fixture
def members(tmp_path: Path) -> list[Path]:
    return [member(tmp_path / f"run{seed}", seed) for seed in range(3)]


def test_the_mean_of_the_members_predictions(members: list[Path], tmp_path: Path) -> None:
    ensemble = write_ensemble(members, tmp_path / "together")
    together, *alone = (
        read_predictions(run / "predictions" / "test.csv", as_float64=True).probabilities
        for run in (tmp_path / "together", *members)
    )
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=0, atol=1e-15)
    # Two of three are correct on samples 40 to 159, and all three on 80 to 119.
    assert ensemble.summary["test"]["accuracy"] == 120 / 200
    assert read_json(tmp_path / "together" / "summary.json") == ensemble.summary


def test_a_report_shows_it_like_a_run(members: list[Path], tmp_path: Path) -> None:
    write_ensemble(members, tmp_path / "together")
    gathered = collect_runs([tmp_path])
    assert [ensemble.name for ensemble in gathered.ensembles] == ["together"]
    assert gathered.ensembles[0].correct("test").sum() == 120
    assert gathered.left_out == ()


def test_members_are_written_down_before_test_is_read(members: list[Path], tmp_path: Path) -> None:
    (members[2] / "predictions" / "test.csv").write_text("damaged\n")
    with pytest.raises(RunError, match=f"^{re.escape(str(members[2]))}/predictions/test.csv: "):
        write_ensemble(members, tmp_path / "together")
    record = json.loads((tmp_path / "together" / "members.json").read_text())
    assert [one["run"] for one in record["members"]] == [str(run) for run in members]
    assert [one["weight"] for one in record["members"]] == [1 / 3] * 3
    assert all(len(one["val_predictions_sha256"]) == 64 for one in record["members"])
    assert not (tmp_path / "together" / "summary.json").exists()


def test_a_folder_keeps_the_members_it_began_with(members: list[Path], tmp_path: Path) -> None:
    first = write_ensemble(members, tmp_path / "together")
    assert write_ensemble(members, tmp_path / "together").summary == first.summary
    with pytest.raises(JobError) as refused:
        write_ensemble(members[:2], tmp_path / "together")
    assert str(refused.value) == (
        f"{tmp_path / 'together'}: holds an ensemble of other members or settings; choose another --out"
    )


def test_a_folder_that_holds_something_else_is_left_alone(members: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").write_text("mine")
    with pytest.raises(JobError, match=r"notes: is not empty and holds no ensemble; choose another --out$"):
        write_ensemble(members, tmp_path / "notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["text"]


def test_the_temperature_is_fitted_on_val_alone(tmp_path: Path) -> None:
    made = {"val": (LABELS, predicted(LABELS, hits(120))), "test": (LABELS, predicted(LABELS, hits(199)))}
    runs = [write_run(tmp_path / f"run{seed}", made, seed=seed) for seed in range(2)]
    write_ensemble(runs, tmp_path / "together", temperature=True)
    temperature = json.loads((tmp_path / "together" / "members.json").read_text())["temperature"]
    # 0.9 confident and 0.6 accurate: log(0.9 / 0.1) / T = log(0.6 / 0.4).
    assert temperature == pytest.approx(np.log(9) / np.log(1.5), rel=1e-4)
    test = read_predictions(tmp_path / "together" / "predictions" / "test.csv").probabilities
    assert test.max(axis=1) == pytest.approx(np.full(200, 0.6), abs=1e-5)


def test_one_run_is_no_ensemble(members: list[Path], tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"run0: is a single run; an ensemble takes two or more$"):
        write_ensemble([members[0], members[0]], tmp_path / "together")


def test_an_ensemble_is_no_member(members: list[Path], tmp_path: Path) -> None:
    write_ensemble(members, tmp_path / "together")
    with pytest.raises(JobError, match=r"together: is an ensemble itself; give its members$"):
        write_ensemble([*members, tmp_path / "together"], tmp_path / "again")


def test_a_run_that_is_not_finished_is_no_member(members: list[Path], tmp_path: Path) -> None:
    late = member(tmp_path / "late", 5, state="running")
    with pytest.raises(JobError) as refused:
        write_ensemble([*members, late], tmp_path / "together")
    assert str(refused.value) == f"{late} is not finished: running, epoch 2; an ensemble needs finished runs"
    assert not (tmp_path / "together").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"digest": "1" * 64}, "uses other data than FIRST (digest 111111111111, not 4285c24d4285)"),
        (
            {"classes": ("glad", "calm")},
            "has the classes glad, calm and predictions for val and test; FIRST has calm, glad and val and test",
        ),
        (
            {"keys": {split: [f"x-{place}" for place in range(200)] for split in ("val", "test")}},
            "/predictions/val.csv: has other samples or labels than that of FIRST",
        ),
    ],
)
def test_members_that_do_not_belong_together_are_refused(
    members: list[Path], tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    other = member(tmp_path / "other", 7, **options)
    expected = sentence.replace("FIRST", str(members[0]))
    with pytest.raises(JobError, match=f"^{re.escape(str(other))}:? ?{re.escape(expected)}"):
        write_ensemble([*members, other], tmp_path / "together")
    assert not (tmp_path / "together").exists()


def test_a_temperature_is_fitted_on_val_and_needs_it(tmp_path: Path) -> None:
    made = {"test": (LABELS, predicted(LABELS, hits(120)))}
    runs = [write_run(tmp_path / f"run{seed}", made, seed=seed) for seed in range(2)]
    with pytest.raises(JobError, match=r"run0: has no val predictions, on which a temperature is fitted; leave out"):
        write_ensemble(runs, tmp_path / "together", temperature=True)
