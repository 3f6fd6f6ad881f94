"""A job file becomes one frozen, typed object, or one sentence that names the file, the key and what would be right."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from job_files import BASE, child, refusal, written

from fer_ddp.config.job import Job, differing_keys
from fer_ddp.config.load import job_from_dict, load_job
from fer_ddp.errors import JobError
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.checks import check_same


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return written(tmp_path / "base.yaml", BASE)


# What a job says.


def test_a_job_without_more_has_the_defaults(base: Path) -> None:
    job = load_job(base, [])
    assert (job.name, job.run, job.seed, job.epochs) == ("base", "runs/base-seed0", 0, 30)
    assert (job.precision, job.memory_format, job.select) == ("auto", "auto", "best_val")
    assert (job.global_batch_size, job.micro_batch_size, job.wandb.mode) == (64, None, "offline")


def test_the_run_folder_is_named_by_the_job_and_the_seed(base: Path) -> None:
    assert load_job(base, ["seed=3"]).run == "runs/base-seed3"


def test_a_child_changes_what_it_names_and_keeps_the_rest_of_all_its_parents(base: Path) -> None:
    child(base, "optimizer: {weight_decay: 0.1}\nepochs: 2", "parent")
    grandchild = written(base.with_name("grandchild.yaml"), "extends: parent.yaml\noptimizer: {lr: 0.5}")
    job = load_job(grandchild, [])
    assert (job.optimizer.name, job.optimizer.lr, job.optimizer.weight_decay) == ("adam", 0.5, 0.1)
    assert (job.epochs, job.name, job.data.path) == (2, "grandchild", "data/fake")


def test_a_parent_is_looked_for_beside_its_child(base: Path) -> None:
    folder = base.parent / "deeper"
    folder.mkdir()
    assert load_job(written(folder / "x.yaml", "extends: ../base.yaml"), []).optimizer.lr == 1e-3


def test_the_command_line_has_the_last_word(base: Path) -> None:
    path = child(base, "optimizer: {lr: 0.5}\nepochs: 2")
    job = load_job(path, ["optimizer.lr=0.25", "epochs=7", "optimizer.lr=0.125"])
    assert (job.optimizer.lr, job.epochs) == (0.125, 7)


def test_an_override_takes_the_place_of_a_whole_section(base: Path) -> None:
    path = child(base, "augment: {flip: 0.5, shift: 0.1}")
    assert load_job(path, ["augment={flip: 0.25}"]).augment == dataclasses.replace(
        load_job(base, []).augment, flip=0.25
    )


def test_an_override_may_name_a_section_that_the_file_has_not(base: Path) -> None:
    assert load_job(base, ["ema.decay=0.9"]).ema.decay == 0.9


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-03", ".001", "+1e-3"])
def test_a_number_may_be_written_in_any_usual_way(base: Path, text: str) -> None:
    assert load_job(base, [f"optimizer.lr={text}"]).optimizer.lr == 0.001


@pytest.mark.parametrize("text", ["off", "yes", "2024-01-01", "010", "1:30", "0x10"])
def test_what_only_old_yaml_reads_as_something_else_is_text(base: Path, text: str) -> None:
    assert load_job(base, [f"wandb.group={text}"]).wandb.group == text


def test_another_network_drops_the_parents_arguments(base: Path) -> None:
    model = load_job(child(base, "model: {name: face_cnn, arguments: {dropout: 0.25}}"), []).model
    assert (model.name, model.arguments) == ("face_cnn", {"dropout": 0.25})


def test_the_same_network_keeps_the_parents_arguments(base: Path) -> None:
    model = load_job(child(base, "model: {name: plain_cnn, arguments: {dropout: 0.25}}"), []).model
    assert model.arguments == {"channels": [4, 8], "hidden": 16, "dropout": 0.25}


def test_another_network_on_the_command_line_drops_the_files_arguments_and_keeps_the_lines_own(base: Path) -> None:
    model = load_job(base, ["model.arguments.dropout=0.25", "model.name=face_cnn"]).model
    assert (model.name, model.arguments) == ("face_cnn", {"dropout": 0.25})


def test_the_same_network_on_the_command_line_keeps_the_files_arguments(base: Path) -> None:
    assert load_job(base, ["model.name=plain_cnn"]).model.arguments == {"channels": [4, 8], "hidden": 16}


def test_a_list_of_numbers_stays_one(base: Path) -> None:
    job = load_job(base, ["data.mean=[0.485]", "data.std=[0.25, 0.5, 1]", "augment.scale=[0.9, 1.1]"])
    assert (job.data.mean, job.data.std, job.augment.scale) == ((0.485,), (0.25, 0.5, 1.0), (0.9, 1.1))


@pytest.mark.parametrize(
    "key", ["ema.decay", "optimizer.gradient_clip_norm", "micro_batch_size", "checkpoint.every_steps"]
)
def test_null_turns_off_what_may_be_off(base: Path, key: str) -> None:
    values: Any = load_job(base, [f"{key}=null"]).to_dict()
    for part in key.split("."):
        values = values[part]
    assert values is None


def test_a_job_is_frozen(base: Path) -> None:
    job = load_job(base, [])
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.seed = 1  # type: ignore[misc]


def test_a_section_is_frozen(base: Path) -> None:
    job = load_job(base, [])
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.optimizer.lr = 1.0  # type: ignore[misc]


AWKWARD = [
    "optimizer.lr=1e-5",
    "data.mean=[0.1, 0.2]",
    "ema.decay=0.999",
    "wandb.group='1e3'",
    "data.path='off'",
    "run=r",
]


def test_the_resolved_file_loads_back_to_an_equal_job(base: Path, tmp_path: Path) -> None:
    job = load_job(base, AWKWARD)
    run = RunFolder(tmp_path / "run")
    run.create()
    run.save_config(job.to_dict())
    assert (job_from_dict(run.saved_config() or {}, ""), load_job(run.path / "config.yaml", [])) == (job, job)


def test_a_run_begun_before_the_average_warmed_up_by_default_goes_without(tiny_job: Path, tmp_path: Path) -> None:
    saved = load_job(tiny_job, ["ema.decay=0.9"]).to_dict()
    del saved["ema"]["warmup"]
    run = RunFolder(tmp_path / "run")
    run.create()
    run.save_config(saved)
    (run.path / "environment.json").write_text("{}")
    resumed = load_job(run.path / "config.yaml", [])
    assert (job_from_dict(saved, "").ema.warmup, resumed.ema.warmup) == (False, False)
    check_same(run, job_from_dict(saved, ""), load_job(tiny_job, ["ema.decay=0.9"]), "digest")
    new = load_job(tiny_job, ["ema.decay=0.9"]).ema.resolved(), load_job(tiny_job, []).ema.resolved()
    assert (new[0].warmup, new[1].warmup) == (True, False)


def test_the_resolved_file_means_the_same_to_any_yaml_reader(base: Path, tmp_path: Path) -> None:
    job = load_job(base, AWKWARD)
    run = RunFolder(tmp_path / "run")
    run.create()
    run.save_config(job.to_dict())
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == job.to_dict()


# What is refused. The file stands first, or "command line", then the key, then what would be right.

WRONG_VALUES = {
    "epochs=ten": 'epochs: is "ten"; it must be a whole number',
    "epochs=1.5": "epochs: is 1.5; it must be a whole number",
    "epochs=true": "epochs: is true; it must be a whole number",
    "epochs=null": "epochs: is null; it must be a whole number",
    "epochs='3'": 'epochs: is "3"; it must be a whole number',
    "epochs=0": "epochs: is 0; it must be more than 0",
    "seed=-1": "seed: is -1; it must be 0 or more",
    "seed=9223372036854775808": "seed: is 9223372036854775808; it must be less than 9223372036854775808",
    "optimizer.lr=fast": 'optimizer.lr: is "fast"; it must be a number',
    "optimizer.lr=0": "optimizer.lr: is 0; it must be more than 0",
    "optimizer.lr=.inf": "optimizer.lr: is Infinity; it must be a finite number",
    "optimizer.lr=.nan": "optimizer.lr: is NaN; it must be a finite number",
    "optimizer.lr=1001": "optimizer.lr: is 1001; it must be 1000 or less",
    "optimizer.momentum=1": "optimizer.momentum: is 1; it must be less than 1",
    "loss.label_smoothing=1": "loss.label_smoothing: is 1; it must be less than 1",
    "loss.label_smoothing=.nan": "loss.label_smoothing: is NaN; it must be less than 1",
    "augment.rotation_degrees=181": "augment.rotation_degrees: is 181; it must be 180 or less",
    "augment.shift=1.1": "augment.shift: is 1.1; it must be 1 or less",
    "augment.shear_degrees=90": "augment.shear_degrees: is 90; it must be 60 or less",
    "augment.scale=[0.01, 1]": "augment.scale[0]: is 0.01; it must be 0.1 or more",
    "augment.scale=[1, 11]": "augment.scale[1]: is 11; it must be 10 or less",
    "augment.brightness=2": "augment.brightness: is 2; it must be 1 or less",
    "augment.contrast=.inf": "augment.contrast: is Infinity; it must be 1 or less",
    "augment.blur_sigma=[0.1, 10.5]": "augment.blur_sigma[1]: is 10.5; it must be 10 or less",
    "augment.erasing_aspect=[0.001, 1]": "augment.erasing_aspect[0]: is 0.001; it must be 0.01 or more",
    "augment.mixup_alpha=101": "augment.mixup_alpha: is 101; it must be 100 or less",
    "augment.cutmix_alpha=.nan": "augment.cutmix_alpha: is NaN; it must be 100 or less",
    "optimizer.nesterov=1": "optimizer.nesterov: is 1; it must be true or false",
    "augment.flip=1.5": "augment.flip: is 1.5; it must be 1 or less",
    "data.path=3": "data.path: is 3; it must be text, in quotes: '3'",
    "data.path=null": "data.path: is null; it must be text",
    "run=''": 'run: is ""; it must be a text that is not empty',
    "precision=int8": "precision: is \"int8\"; it must be 'auto', 'bf16', 'fp16', 'float32' or 'float64'",
    "wandb.mode=off": "wandb.mode: is \"off\"; it must be 'offline', 'online' or 'disabled'",
    "data.mean=0.5": "data.mean: is 0.5; it must be a list of numbers, such as [0.9, 1.1]",
    "data.std=[0.5, 0]": "data.std[1]: is 0; it must be more than 0",
    "augment.scale=[a, 1]": 'augment.scale[0]: is "a"; it must be a number',
    "augment.scale=[1]": "augment.scale: is [1]; it must be 2 numbers",
    "augment.scale=[1, 2, 3]": "augment.scale: is [1, 2, 3]; it must be 2 numbers",
    "augment.scale=[1.1, 0.9]": "augment.scale: [1.1, 0.9] is the wrong way round; write the smaller number first",
    "ema.decay=x": 'ema.decay: is "x"; it must be a number',
    "ema.decay=1": "ema.decay: is 1; it must be less than 1",
    "optimizer.gradient_clip_norm=0": "optimizer.gradient_clip_norm: is 0; it must be more than 0",
    "optimizer.gradient_clip_norm=x": 'optimizer.gradient_clip_norm: is "x"; it must be a number',
    "micro_batch_size=0": "micro_batch_size: is 0; it must be more than 0",
    "micro_batch_size=x": 'micro_batch_size: is "x"; it must be a whole number',
    "optimizer.momentum=0.9": (
        "optimizer.momentum and nesterov belong to sgd; take them out or choose sgd instead of adam"
    ),
    "wandb=disabled": 'wandb: is "disabled"; it must hold keys (mode, project, group)',
    "ema=null": "ema: is null; it must hold keys (decay, warmup)",
    "optimizer.name.x=3": "optimizer.name: is {\"x\": 3}; it must be 'adam', 'adamw', 'sgd' or 'muon'",
    "model.arguments=3": "model.arguments: is 3; it must be keys and values",
}


@pytest.mark.parametrize(("override", "sentence"), WRONG_VALUES.items(), ids=list(WRONG_VALUES))
def test_a_wrong_value_is_refused_with_what_would_be_right(base: Path, override: str, sentence: str) -> None:
    assert refusal(base, override) == f"command line: {sentence}"


def test_a_models_argument_that_equals_nothing_is_refused(base: Path) -> None:
    assert (
        refusal(base, "model.arguments.dropout=.nan") == "model.arguments.dropout: is NaN; it must be a finite number"
    )


SUGGESTIONS = {
    "optimizer.lr_rate=1": "optimizer.lr",
    "optimizer.learning_rate=1": "optimizer.lr",
    "pretrained=true": "model.weights",
    "model.pretrained=true": "model.weights",
    "lr=1": "optimizer.lr",
    "optimizer_lr=1": "optimizer.lr",
    "Epochs=1": "epochs",
    "epoch=1": "epochs",
    "optimiser.lr=1": "optimizer",
    "batch_size=1": "global_batch_size or micro_batch_size",
    "patience_epochs=1": "schedule.patience_epochs or early_stopping.patience_epochs",
    "schedule.patience=1": "schedule.patience_epochs",
    "weight_decay=1": "optimizer.weight_decay",
    "model.argument.dropout=1": "model.arguments",
    "model.dropout=1": "model.arguments.dropout",
}


@pytest.mark.parametrize(("override", "meant"), SUGGESTIONS.items(), ids=list(SUGGESTIONS))
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(base: Path, override: str, meant: str) -> None:
    sentence = refusal(base, override)
    assert sentence.startswith("command line: ")
    assert sentence.endswith(f": unknown key; did you mean {meant}?")


def test_an_unknown_key_like_no_other_is_refused_with_those_there_are(base: Path) -> None:
    assert refusal(base, "wandb.zzz=1") == "command line: wandb.zzz: unknown key; known are mode, project, group"


def test_all_that_is_wrong_is_said_in_one_line(base: Path) -> None:
    path = child(base, "epochs: 0\noptimizer: {lr: -1}")
    assert refusal(path, "seed=x") == (
        'command line: seed: is "x"; it must be a whole number; '
        "child.yaml: epochs: is 0; it must be more than 0; optimizer.lr: is -1; it must be more than 0"
    )


def test_a_mistake_in_a_parent_is_refused_by_the_parents_name(base: Path) -> None:
    parent = child(base, "optimizer: {lr_rate: 0.1}", "parent")
    path = written(parent.with_name("child.yaml"), "extends: parent.yaml\noptimizer: {lr: 1}")
    assert refusal(path) == "parent.yaml: optimizer.lr_rate: unknown key; did you mean optimizer.lr?"


def test_a_missing_model_is_refused_with_an_example(tmp_path: Path) -> None:
    path = written(tmp_path / "job.yaml", "data: {path: x}\noptimizer: {name: adam, lr: 1}")
    assert refusal(path) == "job.yaml: model: must be given, such as model: {name: face_cnn}"


def test_a_missing_key_in_a_section_is_refused_by_its_whole_name(base: Path) -> None:
    assert refusal(base, "model={}") == "command line: model.name: must be given, such as face_cnn"


@pytest.mark.parametrize("override", ["epochs", "=3", ".a=3", "a.=3", "data..path=3", ""])
def test_an_override_that_is_none_is_refused_with_an_example(base: Path, override: str) -> None:
    sentence = f"{override}: an override looks like key.sub=value, such as optimizer.lr=0.01"
    assert refusal(base, override) == sentence


@pytest.mark.parametrize("text", ["[", "a: b: c", "!!python/name:os.system", "&a [*a]"])
def test_an_override_whose_value_is_no_yaml_is_refused(base: Path, text: str) -> None:
    assert (
        refusal(base, f"run={text}")
        == f"run={text}: the value {text} is not valid YAML; put text in quotes: run='{text}'"
    )


# What a continued run may change.


def test_differing_keys_are_named_with_their_values_and_free_ones_are_not(base: Path) -> None:
    def job(*overrides: str) -> dict[str, Any]:
        return load_job(base, list(overrides)).to_dict()

    changed = job("optimizer.lr=0.5", "ema.decay=0.9", "model.arguments.hidden=32", "data.path=x", "log.every_steps=3")
    assert differing_keys(job(), changed) == [
        "ema.decay: None -> 0.9",
        "model.arguments.hidden: 16 -> 32",
        "optimizer.lr: 0.001 -> 0.5",
    ]


def test_every_key_that_may_change_is_a_key_of_a_job(base: Path) -> None:
    from fer_ddp.config.job import MAY_CHANGE

    values = load_job(base, []).to_dict()
    fields = {field.name for field in dataclasses.fields(Job)} | {f"data.{key}" for key in values["data"]}
    assert set(MAY_CHANGE) <= fields


def test_a_tilde_is_the_home_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    job = load_job(base, ["data.path=~/fer", "run=~/runs/a"])
    assert (job.data.path, job.run) == ("/home/me/fer", "/home/me/runs/a")


def test_names_that_are_not_utf8_are_refused_by_their_key(tiny_job: Path) -> None:
    assert load_job(tiny_job, [r'name="\ud83d\ude00"']).name == "\N{GRINNING FACE}"  # as arrays write it
    name = os.fsdecode(b"caf\xe9")
    for key, file, override in (("name", f"{name}.yaml", "epochs=1"), ("data.path", "tiny.yaml", f"data.path={name}")):
        path = tiny_job.with_name(file)
        path.write_bytes(tiny_job.read_bytes())
        with pytest.raises(JobError, match=f"^{key}: is caf.*, which is not UTF-8; rename that file or folder"):
            load_job(path, [override])
