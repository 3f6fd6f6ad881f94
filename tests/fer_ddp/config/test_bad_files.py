"""A file that is no job is refused with what is wrong in it and what would be right."""

import time
from pathlib import Path

import pytest
from job_files import BASE, child, refusal, written

from fer_ddp.config.load import load_job
from fer_ddp.runs.folder import RunFolder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return written(tmp_path / "base.yaml", BASE)


BAD_FILES = {
    "": "job.yaml: must hold keys and values, such as 'epochs: 30'",
    "- a": "job.yaml: must hold keys and values, such as 'epochs: 30'",
    "epochs: 1\nepochs: 2": "job.yaml: line 2: is not valid YAML: epochs appears twice; keep one",
    "optimizer:\n  lr: 1\n  lr: 2": "job.yaml: line 3: is not valid YAML: lr appears twice; keep one",
    "a: b: c": "job.yaml: line 1: is not valid YAML: mapping values are not allowed here",
    "run: x\n1: 2": "job.yaml: line 2: is not valid YAML: the key 1 must be text",
    "run: \u0007": "job.yaml: is not valid YAML: unacceptable character #x0007: special characters are not allowed",
    "seed: !!int abc": "job.yaml: is not valid YAML: invalid literal for int() with base 10: 'abc'",
    "run: !!set {a}": "job.yaml: may hold only text, numbers, true, false, null, lists and keys; remove tags",
    "a: &a {b: *a}": "job.yaml: may hold only text, numbers, true, false, null, lists and keys; remove tags",
    "extends: [a]": 'job.yaml: extends: is ["a"]; it must be another job file, such as base.yaml',
    "extends: bas.yaml": "job.yaml: extends: there is no file bas.yaml; did you mean base.yaml?",
    "extends: .": "job.yaml: extends: there is no file {folder}",
    "extends: job.yaml": "job.yaml: extends: goes round in a circle, job.yaml -> job.yaml; remove one of them",
}


@pytest.mark.parametrize(("text", "sentence"), BAD_FILES.items(), ids=[repr(text) for text in BAD_FILES])
def test_a_bad_file_is_refused_with_what_is_wrong_in_it(base: Path, text: str, sentence: str) -> None:
    assert refusal(written(base.with_name("job.yaml"), text)) == sentence.format(folder=base.parent)


BOMBS = {
    "aliases": (
        "a: &a [x, x]\n"
        + "".join(f"{new}: &{new} [{f'*{old}, ' * 9}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)),
        "may hold only text, numbers, true, false, null, lists and keys; remove tags",
    ),
    "brackets": ("[" * 100_000, "line 1: is not valid YAML: is nested more than 50 deep"),
    "dashes": ("- " * 20_000, "line 1: is not valid YAML: is nested more than 50 deep"),
    "questions": ("? " * 5_000, "line 1: is not valid YAML: is nested more than 50 deep"),
}


@pytest.mark.parametrize(("text", "sentence"), BOMBS.values(), ids=list(BOMBS))
def test_a_small_file_that_is_much_when_read_is_refused_at_once(base: Path, text: str, sentence: str) -> None:
    started = time.process_time()
    assert refusal(written(base.with_name("job.yaml"), text)) == f"job.yaml: {sentence}"
    assert time.process_time() - started < 1


def test_a_file_with_a_checksum_is_refused_if_a_letter_has_changed(tiny_job: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create()
    run.save_config(load_job(tiny_job, []).to_dict())
    config = run.path / "config.yaml"
    whole = config.read_text()
    assert load_job(config, []).optimizer.lr == 0.001
    config.write_text(whole.replace("lr: 0.001", "lr: 0.003"))
    assert refusal(config) == (
        "config.yaml: is not what was written, so it is damaged or was edited; put it back, or remove its last line, "
        "the checksum, to use it as it is"
    )
    config.write_text("".join(config.read_text().splitlines(keepends=True)[:-1]))
    assert load_job(config, []).optimizer.lr == 0.003


def test_files_that_extend_each_other_are_refused_with_the_circle(tmp_path: Path) -> None:
    written(tmp_path / "two.yaml", "extends: one.yaml")
    assert refusal(written(tmp_path / "one.yaml", "extends: two.yaml")) == (
        "two.yaml: extends: goes round in a circle, one.yaml -> two.yaml -> one.yaml; remove one of them"
    )


def test_a_parent_that_is_no_yaml_is_refused_by_its_name(base: Path) -> None:
    written(base, "a: [")
    assert refusal(child(base, "epochs: 1")).startswith("base.yaml: line 1: is not valid YAML")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes("name: müde".encode("latin-1"))
    assert refusal(path) == "job.yaml: is not UTF-8 text (invalid start byte at byte 7); save it as UTF-8"


@pytest.mark.parametrize("name", ["bas.yaml", "base"])
def test_a_missing_file_is_refused_with_the_one_that_was_meant(base: Path, name: str) -> None:
    assert refusal(base.with_name(name)) == f"{name}: there is no such file; did you mean base.yaml?"


def test_a_folder_is_refused_as_a_job(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    expected = "jobs: is a folder; a job is a recipe's name or a YAML file, and data.path=FOLDER names the data"
    assert refusal(folder) == expected


def test_a_run_folder_as_a_job_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").touch()
    assert ", such as this run's " in refusal(tmp_path / "a")
