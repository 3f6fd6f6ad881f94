"""Which runs a report is about, and what it calls them."""

import json
from pathlib import Path

import pytest
from made_up_runs import hits, labels_of, predicted, write_run

from fer_ddp.errors import JobError, RunError
from fer_ddp.report.collect import ReportRuns, collect_runs
from fer_ddp.runs.finished import find_runs

LABELS = labels_of()
VAL = {"val": (LABELS, predicted(LABELS, hits(120)))}


def recipes(collected: ReportRuns) -> dict[str, list[str]]:
    return {recipe.name: [run.path.name for run in recipe.runs] for recipe in collected.recipes}


def left_out(collected: ReportRuns) -> dict[str, str]:
    return {out.path.name: out.reason for out in collected.left_out}


def test_runs_of_a_job_with_several_seeds_are_one_recipe(tmp_path: Path) -> None:
    for seed in (10, 2, 1):
        write_run(tmp_path / f"s{seed}", VAL, seed=seed)
    write_run(tmp_path / "other", VAL, name="model4")
    assert recipes(collect_runs([tmp_path])) == {"model4": ["other"], "baseline": ["s1", "s2", "s10"]}


def test_recipes_of_one_name_are_told_apart_by_the_values_that_differ(tmp_path: Path) -> None:
    for rate in (0.1, 0.01):
        write_run(tmp_path / f"{rate}", VAL, job={"optimizer": {"lr": rate, "weight_decay": 0}})
    assert list(recipes(collect_runs([tmp_path]))) == ["baseline (lr=0.01)", "baseline (lr=0.1)"]


def test_recipes_of_one_name_that_differ_in_much_are_numbered(tmp_path: Path) -> None:
    for place in range(2):
        write_run(tmp_path / f"{place}", VAL, job=dict.fromkeys(["a", "b", "c", "d"], place))
    assert list(recipes(collect_runs([tmp_path]))) == ["baseline (1)", "baseline (2)"]


def test_where_a_run_was_made_does_not_make_a_recipe(tmp_path: Path) -> None:
    write_run(tmp_path / "a", VAL, seed=0, job={"memory_format": "contiguous", "wandb": {"mode": "offline"}})
    write_run(tmp_path / "b", VAL, seed=1, data="elsewhere", job={"memory_format": "channels_last"})
    assert recipes(collect_runs([tmp_path])) == {"baseline": ["a", "b"]}


def test_a_run_is_found_once_however_often_it_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "quick" / "a", VAL)
    assert find_runs([run, tmp_path, tmp_path / "runs"]) == [run]


def test_what_is_inside_a_run_and_the_launchers_folder_are_no_runs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", VAL)
    for folder in (run / "wandb" / "files", tmp_path / "a.launch" / "code", tmp_path / ".hidden"):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("name: a\n")
    assert find_runs([tmp_path]) == [run]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("absent", "there is no such folder; give run folders, or folders that hold some"),
        ("empty", "is not a run folder (it has no config.yaml) and holds none; give one such as runs/"),
    ],
)
def test_a_path_without_runs_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError) as refused:
        collect_runs([tmp_path / name])
    assert str(refused.value) == f"{tmp_path / name}: {sentence}"


def test_a_run_that_is_not_finished_is_named_and_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", VAL)
    write_run(tmp_path / "b", VAL, seed=1, state="running")
    write_run(tmp_path / "c", VAL, seed=2, state="failed")
    (tmp_path / "c" / "status.json").write_text('{"state": "failed", "message": "the disk is full"}')
    write_run(tmp_path / "d", VAL, seed=3, state="running")
    (tmp_path / "d" / "status.json").unlink()
    collected = collect_runs([tmp_path])
    assert recipes(collected) == {"baseline": ["a"]}
    assert left_out(collected) == {
        "b": "is not finished: running, epoch 2",
        "c": "is not finished: failed (the disk is full)",
        "d": "is not finished: it has not started",
    }


def test_without_a_finished_run_there_is_nothing_to_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", VAL, state="interrupted")
    with pytest.raises(RunError) as refused:
        collect_runs([tmp_path])
    assert str(refused.value) == f"there is nothing to report yet: {run} is not finished: interrupted, epoch 2"


def test_a_report_of_no_runs_is_refused() -> None:
    with pytest.raises(JobError, match="there are no runs to report; give run folders"):
        collect_runs([])


def test_the_report_is_about_the_data_of_most_runs_and_names_the_others(tmp_path: Path) -> None:
    write_run(tmp_path / "a", VAL, digest="1" * 64)
    write_run(tmp_path / "b", VAL, digest="2" * 64, seed=1)
    write_run(tmp_path / "c", VAL, digest="2" * 64, seed=2)
    collected = collect_runs([tmp_path])
    assert collected.data_digest == "2" * 64
    assert left_out(collected) == {
        "a": "uses other data (digest 111111111111, this report's is 222222222222); make a separate report of it"
    }


def test_a_run_that_does_not_say_its_data_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", VAL)
    (write_run(tmp_path / "b", VAL, seed=1) / "environment.json").unlink()
    reason = "does not record which data it used (environment.json has no data_digest)"
    assert left_out(collect_runs([tmp_path])) == {"b": reason}


def test_a_run_with_other_classes_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", VAL)
    write_run(tmp_path / "b", VAL, seed=1, classes=("glad", "calm"))
    assert left_out(collect_runs([tmp_path])) == {"b": "has other classes (glad, calm) than calm, glad"}


@pytest.mark.parametrize("what", ["keys", "labels"])
def test_a_run_that_predicts_other_samples_is_left_out(tmp_path: Path, what: str) -> None:
    first = write_run(tmp_path / "a", VAL)
    labels = LABELS if what == "keys" else LABELS[::-1]
    keys = {"val": [f"{'x' if what == 'keys' else 'val'}-{place}" for place in range(200)]}
    write_run(tmp_path / "b", {"val": (labels, predicted(labels, hits(120)))}, seed=1, keys=keys)
    reason = (
        f"predicts other samples of val than {first}, though both use the same data; "
        "`evaluate` writes its predictions again"
    )
    assert left_out(collect_runs([tmp_path])) == {"b": reason}


def test_a_run_without_one_of_the_splits_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", VAL)
    write_run(tmp_path / "b", VAL | {"test": VAL["val"]}, seed=1)
    assert left_out(collect_runs([tmp_path])) == {"a": "was not evaluated on test; `evaluate` does it"}


def test_imported_predictions_of_val_alone_are_left_out_beside_a_run_with_test(tmp_path: Path) -> None:
    write_run(tmp_path / "a", VAL)
    (tmp_path / "a" / "imported.json").write_text('{"name": "theirs"}')
    write_run(tmp_path / "b", VAL | {"test": VAL["val"]}, seed=1)
    reason = "holds no predictions of test, which other runs here have; import them too, without --split"
    assert left_out(collect_runs([tmp_path])) == {"a": reason}


def test_a_seed_that_a_recipe_has_already_is_left_out(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", VAL, seed=3)
    write_run(tmp_path / "b", VAL, seed=3)
    collected = collect_runs([tmp_path])
    assert recipes(collected) == {"baseline": ["a"]}
    assert left_out(collected) == {"b": f"repeats seed 3 of baseline, which {first} is"}


def test_a_run_whose_files_are_damaged_is_left_out_with_their_name(tmp_path: Path) -> None:
    write_run(tmp_path / "a", VAL)
    for name, file in (("b", "summary.json"), ("c", "predictions/val.csv"), ("d", "metrics.jsonl")):
        path = write_run(tmp_path / name, VAL, seed=1) / file
        path.write_text("key,label\n")
    reasons = left_out(collect_runs([tmp_path]))
    assert sorted(reasons) == ["b", "c", "d"]
    assert reasons["b"] == f"can't be read: {tmp_path}/b/summary.json: is damaged; remove it to continue without it"
    assert reasons["c"].startswith(f"can't be read: {tmp_path}/c/predictions/val.csv: the columns are key,label;")
    assert reasons["d"].startswith(f"can't be read: {tmp_path}/d/metrics.jsonl line 1: is damaged;")


def test_a_damaged_record_of_speed_is_no_reason_to_leave_a_run_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "a", VAL)
    line = {"epoch": 1, "seconds": 2.0, "images_per_second": 9.0}
    (run / "timing.jsonl").write_text(f"{json.dumps(line)}\n7\n{{\n")
    assert collect_runs([tmp_path]).runs[0].timing == []
    assert f"{run}/timing.jsonl line 2: is 7; it must hold a number for epoch" in capsys.readouterr().err
