"""The recipes: each loads and builds, and they differ from one another by what the write-up says and by no more."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fer_ddp.config.job import Job, differing_keys
from fer_ddp.config.load import load_job
from fer_ddp.models.registry import MODELS, create_model

JOBS = Path(__file__).parents[3] / "jobs"
RECIPES = sorted(path.stem for path in JOBS.glob("*.yaml"))


def recipe(name: str) -> Job:
    return load_job(JOBS / f"{name}.yaml", [])


def changes(parent: str, child: str) -> list[str]:
    return differing_keys(recipe(parent).to_dict(), recipe(child).to_dict())


def array(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((JOBS / "arrays" / f"{name}.yaml").read_text())
    return values


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_loads_and_builds_a_network_that_takes_a_face(name: str) -> None:
    model = recipe(name).model
    network = create_model(model.name, model.arguments, in_channels=1, image_size=48, num_classes=7)
    assert isinstance(network, MODELS[model.name])  # type: ignore[arg-type]  # the table's callables are classes here


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "smoke"])
def test_a_recipe_says_where_it_comes_from_and_what_it_claims(name: str) -> None:
    text = (JOBS / f"{name}.yaml").read_text()
    comment = text[: text.index("\n\n")]
    assert [word for word in ("Source: ", "Claimed: ") if word not in comment] == []


def test_optimization_1_changes_the_baselines_architecture() -> None:
    assert changes("baseline", "optimization1") == [
        "model.arguments.batch_norm: None -> True",
        "model.arguments.channels: [32, 64] -> [64, 128, 256, 512]",
    ]


def test_optimization_2_adds_dropout_layers_and_weight_decay_to_optimization_1() -> None:
    assert changes("optimization1", "optimization2") == [
        "model.arguments.block_dropout: None -> 0.25",
        "optimizer.weight_decay: 0.0 -> 1e-05",
    ]


def test_optimization_3_adds_an_adaptive_learning_rate_and_early_stopping_to_optimization_2() -> None:
    assert changes("optimization2", "optimization3") == [
        "early_stopping.patience_epochs: None -> 12",
        "schedule.factor: 0.1 -> 0.5",
        "schedule.name: constant -> plateau",
        "schedule.patience_epochs: 5 -> 3",
    ]


def test_optimization_4_adds_random_transforms_to_optimization_3() -> None:
    assert changes("optimization3", "optimization4") == [
        "augment.brightness: 0.0 -> 0.2",
        "augment.contrast: 0.0 -> 0.2",
        "augment.scale: [1.0, 1.0] -> [0.9, 1.1]",
        "augment.shift: 0.0 -> 0.1",
    ]


@pytest.mark.parametrize(
    ("alone", "before", "after"),
    [
        ("baseline_regularization", "optimization1", "optimization2"),
        ("baseline_training", "optimization2", "optimization3"),
        ("baseline_augmentation", "optimization3", "optimization4"),
    ],
)
def test_a_change_alone_on_the_baseline_is_the_one_its_optimization_makes(alone: str, before: str, after: str) -> None:
    assert changes("baseline", alone) == changes(before, after)


def test_model_1_is_trained_as_the_write_up_says() -> None:
    job = recipe("model1")
    assert (job.model.name, job.model.arguments) == ("face_cnn", {"dropout": 0.5})
    assert (job.optimizer.name, job.optimizer.lr, job.optimizer.weight_decay) == ("adam", 0.001, 1e-5)
    assert (job.schedule.name, job.schedule.monitor, job.select) == ("plateau", "val_accuracy", "best_val")
    assert (job.augment.flip, job.augment.rotation_degrees) == (0.5, 10.0)


def test_model_2_differs_from_model_1_in_nothing_but_the_optimizer() -> None:
    assert changes("model1", "model2") == ["optimizer.name: adam -> sgd"]


def test_model_2_tuned_gives_sgd_a_rate_and_a_momentum_of_its_own() -> None:
    assert changes("model2", "model2_tuned") == ["optimizer.lr: 0.001 -> 0.01", "optimizer.momentum: 0.0 -> 0.9"]


def test_model_3_is_trained_as_model_1_but_longer() -> None:
    assert changes("model1", "model3") == ["epochs: 60 -> 100", "model.name: face_cnn -> improved_face_cnn"]


def test_model_4_is_trained_as_the_write_up_says() -> None:
    job = recipe("model4")
    assert (job.model.name, job.model.arguments["block_dropout"]) == ("advanced_face_cnn", 0.25)
    assert (job.optimizer.name, job.schedule.name, job.loss.label_smoothing) == ("adamw", "onecycle", 0.1)
    assert (job.data.mean, job.data.std) == ((0.485,), (0.229,))
    baseline = recipe("baseline").augment
    assert (job.augment.flip, job.augment.rotation_degrees) == (baseline.flip, baseline.rotation_degrees)
    assert min(job.augment.shift, job.augment.blur_probability, job.augment.erasing_probability) > 0


def test_the_ablations_of_model_4_change_one_thing_each() -> None:
    ablations = ["model4_skip", "model4_light_dropout", "model4_light_augment"]
    assert [changes("model4", ablation) for ablation in ablations] == [
        ["model.arguments.skip: None -> True"],
        ["model.arguments.block_dropout: 0.25 -> 0.1", "model.arguments.dropout: 0.5 -> 0.3"],
        [
            "augment.blur_probability: 0.5 -> 0.25",
            "augment.erasing_probability: 0.5 -> 0.25",
            "augment.shift: 0.1 -> 0.05",
        ],
    ]


def test_smoke_has_every_mechanism_in_it() -> None:
    job = recipe("smoke")
    augment, arguments = job.augment, job.model.arguments
    absent_is_falsy = {
        "flip": augment.flip,
        "rotation": augment.rotation_degrees,
        "shift": augment.shift,
        "scale": augment.scale != (1.0, 1.0),
        "blur": augment.blur_probability,
        "erasing": augment.erasing_probability,
        "mixup": augment.mixup_alpha,
        "label smoothing": job.loss.label_smoothing,
        "batch norm": arguments["batch_norm"],
        "dropout in the blocks": arguments["block_dropout"],
        "dropout in the head": arguments["dropout"],
        "ema": job.ema.decay,
        "clipping": job.optimizer.gradient_clip_norm,
        "one cycle": job.schedule.name == "onecycle",
        "adamw": job.optimizer.name == "adamw",
    }
    assert [mechanism for mechanism, value in absent_is_falsy.items() if not value] == []


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_smoke_gives_every_rank_whole_pairs_for_mixup(world_size: int) -> None:
    assert recipe("smoke").global_batch_size % (2 * world_size) == 0


def test_the_write_ups_array_leaves_out_only_recipes_of_ours_and_the_changes_tried_alone() -> None:
    named = {Path(path).stem for path in array("writeup")["jobs"]}
    alone = {"baseline_regularization", "baseline_training", "baseline_augmentation"}
    assert set(RECIPES) - named == {"smoke", "cpu", "cpu_60", "best_cpu", "best", "fast"} | alone
    assert alone <= {Path(path).stem for path in array("optimizations")["jobs"]}


def test_the_sweep_of_max_lr_makes_jobs_of_model_4() -> None:
    values = array("model4_max_lr")
    rates = values["grid"]["optimizer.lr"]
    jobs = [load_job(JOBS / "arrays" / values["jobs"][0], [f"optimizer.lr={rate}"]) for rate in rates]
    assert [(job.model.name, job.schedule.name, job.optimizer.lr) for job in jobs] == [
        ("advanced_face_cnn", "onecycle", rate) for rate in rates
    ]
