"""The write-up's claims beside the runs of a report, each with a verdict."""

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import hits, labels_of, predicted, write_run

from fer_ddp.report.claims import CONFIRMED, HIGHER, LOWER, NOT_DECIDED, judge_claims, judge_interval
from fer_ddp.report.collect import collect_runs
from fer_ddp.report.views import make_views
from fer_ddp.report.write import write_report
from fer_ddp.statistics.intervals import Interval
from shards.labels import FER2013_CLASSES

VAL_COUNTS = (467, 56, 496, 895, 653, 415, 607)  # PublicTest, by which a report knows FER2013


@pytest.mark.parametrize(
    ("mean", "interval", "low", "high", "difference", "verdict"),
    [
        (0.04, (0.02, 0.06), 0.03, 0.05, True, CONFIRMED),
        (0.04, (-0.01, 0.09), 0.03, 0.05, True, NOT_DECIDED),
        (0.01, (0.00, 0.02), 0.03, 0.05, True, LOWER),
        (0.08, (0.06, 0.10), 0.03, 0.05, True, HIGHER),
        (-0.17, (-0.19, -0.15), -0.20, -0.15, True, CONFIRMED),
        (-0.08, (-0.10, -0.06), -0.20, -0.15, True, HIGHER),
        (0.02, (0.01, 0.03), 0.0, np.inf, True, CONFIRMED),
        (0.02, (-0.01, 0.05), 0.0, np.inf, True, NOT_DECIDED),
        (-0.02, (-0.03, -0.01), 0.0, np.inf, True, LOWER),
        (0.58, (0.56, 0.60), 0.55, 0.60, False, CONFIRMED),
        (0.54, (0.52, 0.56), 0.55, 0.60, False, NOT_DECIDED),
        (0.52, (0.50, 0.54), 0.55, 0.60, False, LOWER),
    ],
)
def test_a_verdict_is_the_intervals(
    mean: float, interval: tuple[float, float], low: float, high: float, difference: bool, verdict: str
) -> None:
    assert judge_interval(mean, Interval(*interval), low, high, difference=difference) == verdict


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    labels = np.repeat(np.arange(7), VAL_COUNTS)
    total = len(labels)
    rng = np.random.default_rng(0)
    for name, accuracy, keys in (
        ("baseline", 0.57, {"epochs": 60}),
        ("optimization1", 0.61, {"epochs": 60}),
        ("model2", 0.57, {"epochs": 60}),
        ("model4", 0.66, {"epochs": 100, "optimizer": {"lr": 0.001}}),
        ("model4", 0.65, {"epochs": 100, "optimizer": {"lr": 0.01}}),
    ):
        for seed in range(3):
            made = {"val": (labels, predicted(labels, rng.random(total) < accuracy, 7))}
            folder = tmp_path / "runs" / f"{name}-{keys.get('optimizer', {}).get('lr', '')}-{seed}"
            write_run(folder, made, name=name, seed=seed, classes=FER2013_CLASSES, job=keys)
    return tmp_path / "runs"


def test_claims_about_the_recipes_at_hand_are_judged_and_others_left_out(runs: Path) -> None:
    collected = collect_runs([runs])
    (view,) = make_views(collected, None, None)
    judged = {claim.statement: claim for claim in judge_claims(view, collected)}
    assert {statement: claim.verdict for statement, claim in judged.items()} == {
        "The baseline has about 55 to 60 %": CONFIRMED,
        "Optimization 1, a deeper network with batch norm, gains about 3 to 5 points": CONFIRMED,
        "Model 2 has 49 %": HIGHER,
        "Model 4 has about 65 to 70 %": CONFIRMED,
        "Model 4 is better with a max_lr of 0.01": NOT_DECIDED,
    }
    gain = judged["Optimization 1, a deeper network with batch norm, gains about 3 to 5 points"]
    assert gain.runs == "optimization1: 3 seeds, 60 epochs − baseline: 3 seeds, 60 epochs"
    assert gain.measured == "+3.4 points (+2.1 to +4.8)"


def test_an_accuracy_is_not_decided_by_runs_of_fewer_epochs_than_the_recipes(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(7), VAL_COUNTS)
    made = {"val": (labels, predicted(labels, np.arange(len(labels)) % 2 == 0, 7))}
    write_run(tmp_path / "run", made, name="baseline", classes=FER2013_CLASSES, job={"epochs": 2})
    collected = collect_runs([tmp_path])
    (view,) = make_views(collected, None, None)
    (claim,) = judge_claims(view, collected)
    assert claim.verdict == NOT_DECIDED
    assert claim.runs == "baseline: 1 seed, 2 of 60 epochs"


def test_a_report_has_the_claims_for_fer2013_alone(runs: Path, tmp_path: Path) -> None:
    page = write_report([runs], tmp_path / "report.html").page
    assert '<td class="text"><b>not confirmed: higher</b></td>' in page.read_text()
    assert "| Model 2 has 49 % | " in page.with_suffix(".md").read_text()
    labels = labels_of()
    write_run(tmp_path / "others" / "a", {"val": (labels, predicted(labels, hits(100)))}, name="baseline")
    other = write_report([tmp_path / "others"], tmp_path / "other.html").page
    assert "write-up" not in other.read_text()
    assert "write-up" not in other.with_suffix(".md").read_text()
