"""Cluster profiles: what is wrong with one is said in a sentence."""

from pathlib import Path

import pytest
import yaml

from fer_ddp.errors import JobError
from launch.cluster import load_cluster
from launch.slurm import dry_run, submit_array

ROOT = Path(__file__).parents[2]


def profile(folder: Path, **values: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(("name", "world_size"), [("one_gpu", 1), ("one_node_8_gpus", 8), ("many_nodes", 32)])
def test_the_profiles_that_come_with_it_can_be_loaded(name: str, world_size: int) -> None:
    assert load_cluster(ROOT / "jobs" / "clusters" / f"{name}.yaml").world_size == world_size


def test_without_gpus_a_node_has_the_ranks_of_the_profile(tmp_path: Path) -> None:
    path = profile(tmp_path, gpus_per_node=0, ranks_per_node=2, nodes=3, partition="cpu")
    assert load_cluster(path).world_size == 6


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"partitoin": "gpu"}, "partitoin: unknown key; did you mean partition?"),
        ({"nodes": 0}, "nodes: is 0; it must be more than 0"),
        ({"time_minutes": "4h"}, 'time_minutes: is "4h"; it must be a whole number'),
        ({"time_minutes": 1}, "signal_seconds: is 120; it must be less than time_minutes, which is 60 seconds"),
        ({"ranks_per_node": 2}, "ranks_per_node: a node with GPUs has a rank a GPU; take it out"),
        ({"sbatch": {"time": 3}}, "sbatch.time: is set by launch itself; take it out"),
    ],
)
def test_a_wrong_profile_is_refused_naming_the_key(tmp_path: Path, values: dict[str, object], sentence: str) -> None:
    path = profile(tmp_path, **values)
    with pytest.raises(JobError) as refused:
        load_cluster(path)
    assert str(refused.value) == f"{path}: {sentence}"


@pytest.mark.parametrize("name", ["a $(touch b)", "a b", "a%j", "a\nb"])
def test_a_path_that_no_slurm_script_can_hold_is_refused_before_anything_is_written(workplace: Path, name: str) -> None:
    array = workplace / "jobs" / "arrays" / f"{name}.yaml"
    array.write_text((array.parent / "four.yaml").read_text())
    cluster = str(profile(workplace, nodes=1))
    for start in (submit_array, lambda *arguments: dry_run(*arguments, None)):
        with pytest.raises(JobError, match="can't be written into a SLURM script"):
            start(str(array), [], cluster)
    assert not list(workplace.rglob("*.launch"))
