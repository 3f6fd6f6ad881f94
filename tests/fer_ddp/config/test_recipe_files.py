"""Recipes, arrays and cluster profiles are found by name from any folder, a local file of that name first."""

from pathlib import Path

import pytest

from fer_ddp.config.load import load_job
from fer_ddp.config.recipe_files import PACKAGED, find_cluster, find_job, recipe_table
from fer_ddp.errors import JobError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "file"), [("smoke", "smoke.yaml"), ("quick", "arrays/quick.yaml")])
def test_a_recipe_and_an_array_have_a_name_in_any_folder(name: str, file: str) -> None:
    assert [find_job(name), find_job(f"{name}.yaml")] == [PACKAGED / file] * 2


def test_a_cluster_profile_has_a_name_in_any_folder() -> None:
    assert find_cluster("one_gpu") == PACKAGED / "clusters/one_gpu.yaml"


def test_a_local_file_of_that_name_comes_first(folder: Path) -> None:
    (folder / "smoke.yaml").touch()
    assert find_job("smoke") == Path("smoke.yaml")
    (folder / "smoke").touch()
    assert find_job("smoke") == Path("smoke")


def test_a_folder_of_that_name_is_not_taken_for_it(folder: Path) -> None:
    (folder / "smoke").mkdir()
    assert find_job("smoke") == PACKAGED / "smoke.yaml"


def test_a_wrong_name_is_refused_with_close_ones() -> None:
    with pytest.raises(JobError) as refused:
        find_job("modl4")
    assert str(refused.value) == (
        "modl4: there is no such file and no recipe or array of this name; did you mean model4 or model3 or model2?"
    )
    with pytest.raises(JobError, match="did you mean one_gpu"):
        find_cluster("one-gpu")


def test_a_job_of_ones_own_may_extend_a_recipe(folder: Path) -> None:
    (folder / "mine.yaml").write_text("extends: model4\nepochs: 3\n")
    job = load_job("mine", [])
    assert (job.name, job.model.name, job.epochs) == ("mine", "advanced_face_cnn", 3)


def test_an_array_is_not_taken_for_a_job() -> None:
    with pytest.raises(JobError, match="is an array of jobs; `fer-ddp launch local quick` trains them"):
        load_job("quick", [])


def test_every_packaged_file_is_listed_with_a_sentence_on_one_line() -> None:
    lines = [line.split(maxsplit=1) for line in recipe_table().splitlines() if line.startswith("  ")]
    assert sorted(name for name, _ in lines) == sorted(path.stem for path in PACKAGED.rglob("*.yaml"))
    assert [name for name, sentence in lines if not sentence.endswith(".") or len(sentence) < 30] == []
