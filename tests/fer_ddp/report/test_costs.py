"""What training took."""

from pathlib import Path

from made_up_runs import hits, labels_of, predicted, write_run

from fer_ddp.report.collect import collect_runs
from fer_ddp.report.costs import TimeCost, time_cost
from fer_ddp.runs.finished import FinishedRun


def run_with(folder: Path, timing: str, seed: int = 0) -> FinishedRun:
    labels = labels_of()
    run = write_run(folder / f"run{seed}", {"val": (labels, predicted(labels, hits(120)))}, seed=seed)
    (run / "timing.jsonl").write_text(timing)
    return collect_runs([run]).runs[0]


def test_an_epoch_that_was_done_twice_counts_once(tmp_path: Path) -> None:
    lines = (
        '{"epoch": 1, "seconds": 10.0, "train_seconds": 8.0, "images_per_second": 100.0}\n'
        '{"epoch": 2, "seconds": 90.0, "train_seconds": 80.0, "images_per_second": 10.0}\n'
        '{"epoch": 2, "seconds": 5.0, "train_seconds": 2.0, "images_per_second": 400.0}\n'
    )
    assert time_cost([run_with(tmp_path, lines)]) == TimeCost(
        seconds=15.0, images_per_second=1600 / 10, devices=("a processor",)
    )


def test_older_runs_time_training_and_evaluation_together(tmp_path: Path) -> None:
    run = run_with(tmp_path, '{"epoch": 1, "seconds": 10.0, "images_per_second": 100.0}\n')
    assert time_cost([run]) == TimeCost(seconds=10.0, images_per_second=100.0, devices=("a processor",))


def test_several_runs_give_the_median(tmp_path: Path) -> None:
    line = '{{"epoch": 1, "seconds": {0}, "train_seconds": {0}, "images_per_second": 30.0}}\n'
    runs = [run_with(tmp_path, line.format(seconds), seed) for seed, seconds in enumerate((9.0, 1.0, 2.0))]
    cost = time_cost(runs)
    assert cost is not None
    assert cost.seconds == 2.0


def test_without_a_record_nothing_is_said(tmp_path: Path) -> None:
    assert time_cost([run_with(tmp_path, "")]) is None
