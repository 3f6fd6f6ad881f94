"""What is refused before a run begins, by the data, the ranks and the job itself."""

import dataclasses
from pathlib import Path

import pytest

from fer_ddp.config.load import load_job
from fer_ddp.errors import JobError
from fer_ddp.training.checks import check_job
from shards.manifest import read_manifest


def job_refusal(tiny_job: Path, *overrides: str, world_size: int = 1, channels: int = 1) -> str:
    job = load_job(tiny_job, list(overrides))
    manifest = read_manifest(Path(job.data.path))
    manifest = dataclasses.replace(manifest, image_shape=(channels, 48, 48))
    with pytest.raises(JobError) as caught:
        check_job(job, manifest, world_size)
    return str(caught.value)


def test_a_batch_that_the_ranks_do_not_divide_is_refused_with_one_that_they_do(tiny_job: Path) -> None:
    assert job_refusal(tiny_job, "global_batch_size=25", world_size=2) == (
        "global_batch_size: 25 can't be shared evenly by 2 ranks; choose a multiple of 2, such as 24"
    )


def test_pairs_that_the_ranks_would_part_are_refused(tiny_job: Path) -> None:
    assert job_refusal(tiny_job, "augment.mixup_alpha=0.2", "global_batch_size=6", world_size=2) == (
        "global_batch_size: 6 gives each rank 3 images, and mixup and cutmix pair neighbours; choose a multiple of 4"
    )


def test_a_mean_for_two_channels_is_refused_for_rgb_images(tiny_job: Path) -> None:
    sentence = job_refusal(tiny_job, "data.mean=[0.5, 0.4]", channels=3)
    assert sentence == "data.mean: has 2 numbers; the images have 3 channels, so give 1 or 3"


def test_logit_adjustment_is_refused_where_all_classes_are_shown_equally_often(tiny_job: Path) -> None:
    assert job_refusal(tiny_job, "loss.logit_adjustment=1", "data.order=class_balanced") == (
        "loss.logit_adjustment: is for classes of unequal frequency, and data.order=class_balanced shows all equally "
        "often; set one of the two"
    )


def test_a_weight_of_a_class_that_the_data_have_not_is_refused_before_the_run_begins(tiny_job: Path) -> None:
    assert job_refusal(tiny_job, "loss.class_weights={hapy: 2}") == (
        "loss.class_weights.hapy: is not a class of the data; did you mean happy?"
    )
