"""Arrays become named, whole jobs, and what is wrong with one is said before anything starts."""

from pathlib import Path

import pytest
import yaml

from fer_ddp.config.job import flatten
from fer_ddp.errors import JobError
from launch.array import check_members, load_array

ROOT = Path(__file__).parents[2]


def write_array(folder: Path, **changes: object) -> Path:
    path = folder / "jobs" / "arrays" / "mine.yaml"
    path.write_text(yaml.safe_dump({"jobs": ["../tiny.yaml"], "seeds": [0]} | changes, sort_keys=False))
    return path


def names(path: Path, *overrides: str) -> list[str]:
    return [member.name for member in load_array(path, list(overrides)).members]


def test_an_array_is_each_job_with_each_value_and_each_seed(workplace: Path) -> None:
    assert names(workplace / "jobs/arrays/four.yaml") == [
        "tiny-lr=0.001-seed0",
        "tiny-lr=0.001-seed1",
        "tiny-lr=0.01-seed0",
        "tiny-lr=0.01-seed1",
    ]


def test_a_member_is_a_whole_job_in_a_folder_of_the_array(workplace: Path) -> None:
    member = load_array(workplace / "jobs/arrays/four.yaml", ["epochs=7"]).members[3]
    job = member.job
    assert (job.run, job.seed, job.optimizer.lr, job.epochs, job.wandb.group) == (
        "runs/four/tiny-lr=0.01-seed1",
        1,
        0.01,
        7,
        "four",
    )


def test_overrides_of_the_file_go_to_every_member_and_the_command_line_over_them(workplace: Path) -> None:
    path = write_array(workplace, seeds=[0, 1], overrides={"epochs": 5, "loss.label_smoothing": 0.1})
    members = load_array(path, ["epochs=3"]).members
    assert [(member.job.epochs, member.job.loss.label_smoothing) for member in members] == [(3, 0.1), (3, 0.1)]


def test_a_variant_is_a_named_set_of_keys_over_those_of_the_file(workplace: Path) -> None:
    variants = {"plain": {}, "long": {"epochs": 9, "loss.label_smoothing": 0.2}}
    path = write_array(workplace, overrides={"epochs": 5}, variants=variants)
    members = [
        (member.name, member.job.epochs, member.job.loss.label_smoothing) for member in load_array(path, []).members
    ]
    assert members == [("tiny-plain-seed0", 5, 0.0), ("tiny-long-seed0", 9, 0.2)]


def test_the_search_of_the_cpu_recipe_is_it_and_single_changes_of_it() -> None:
    members = load_array(ROOT / "jobs/arrays/cpu_search.yaml", []).members
    jobs = {member.name: flatten(member.job.to_dict()) for member in members if member.job.seed == 0}
    assert (len(members), len(jobs)) == (56, 28)
    changed = {
        name: {key for key, value in job.items() if value != jobs["cpu-size-seed0"].get(key)} - {"run", "epochs"}
        for name, job in jobs.items()
    }
    assert [name for name, keys in changed.items() if not keys] == ["cpu-size-seed0"]


def test_a_value_that_no_file_name_can_hold_is_made_safe(workplace: Path) -> None:
    path = write_array(workplace, grid={"data.path": ["a/b"], "augment.scale": [[0.9, 1.1]]})
    assert names(path) == ["tiny-path=a_b-scale=[0.9,1.1]-seed0"]


def test_keys_with_the_same_last_part_are_named_in_full(workplace: Path) -> None:
    path = write_array(workplace, grid={"early_stopping.monitor": ["val_loss"], "schedule.monitor": ["val_loss"]})
    assert names(path) == ["tiny-early_stopping.monitor=val_loss-schedule.monitor=val_loss-seed0"]


def test_a_job_file_is_an_array_of_one_named_after_its_run(workplace: Path) -> None:
    array = load_array(workplace / "jobs/tiny.yaml", ["seed=4"])
    assert (array.name, [(member.name, member.job.run) for member in array.members]) == (
        "tiny-seed4",
        [("tiny-seed4", "runs/tiny-seed4")],
    )


@pytest.mark.parametrize(
    ("changes", "overrides", "sentence"),
    [
        ({"seeds": []}, [], "seeds: is []; it must be a list that is not empty"),
        ({"seeds": [-1]}, [], "seeds[0]: is -1; it must be 0 or more"),
        ({"seeds": [0, 0]}, [], "two members are called tiny-seed0; name each job, value and seed once"),
        ({"sedes": [0]}, [], "sedes: unknown key; did you mean seeds?"),
        ({"grid": {"optimizer.lr": 3}}, [], "grid.optimizer.lr: is 3; it must be a list, such as [0, 1]"),
        ({"overrides": {"seed": 3}}, [], "overrides: seed: each member gets its own; remove it from the overrides"),
        ({"variants": {"a": {"seed": 3}}}, [], "variants: seed: each member gets its own; remove it from the variants"),
        (
            {"variants": {"a": {"epochs": 3}}},
            ["epochs=4"],
            "epochs: {path} gives each member its own; change it there,",
        ),
        (
            {"seeds": [0], "grid": {f"optimizer.a{n}": [1] * 9 for n in range(12)}},
            [],
            "has 282,429,536,481 members (jobs x variants x grid x seeds); an array has 4,000 at most,",
        ),
        ({}, ["seed=3"], "seed: {path} gives each member its own; change it there, or take it off the command line"),
        ({"grid": {"epochs": [1]}}, ["epochs=3"], "epochs: {path} gives each member its own; change it there, or"),
    ],
)
def test_a_wrong_array_is_refused_naming_file_and_key(
    workplace: Path, changes: dict[str, object], overrides: list[str], sentence: str
) -> None:
    path = write_array(workplace, **changes)
    with pytest.raises(JobError) as refused:
        load_array(path, overrides)
    expected = sentence.format(path=path)
    assert str(refused.value).removeprefix(f"{path}: ").startswith(expected), refused.value


def test_a_wrong_value_in_the_grid_is_refused_as_train_would(workplace: Path) -> None:
    path = write_array(workplace, grid={"optimizer.lr": [0.1, "fast"]})
    with pytest.raises(JobError, match='optimizer.lr: is "fast"; it must be a number'):
        load_array(path, [])


def test_a_member_that_the_ranks_do_not_divide_is_named(workplace: Path) -> None:
    array = load_array(workplace / "jobs/arrays/four.yaml", [])
    with pytest.raises(JobError, match=r"^tiny-lr=0.001-seed0: .*global_batch_size"):
        check_members(array.members, 5)


@pytest.mark.parametrize("path", sorted((ROOT / "jobs" / "arrays").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_arrays_that_come_with_it_can_be_loaded(path: Path) -> None:
    members = load_array(path, []).members
    assert len({member.job.run for member in members}) == len(members) > 1
