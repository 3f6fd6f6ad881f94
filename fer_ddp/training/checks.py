"""Before a run begins: whether its job fits the data, the ranks, itself, and the run that it resumes."""

from pathlib import Path

import torch

from fer_ddp.config.job import Job, differing_keys
from fer_ddp.config.load import job_from_dict
from fer_ddp.data.sampler import StepPlan
from fer_ddp.data.targets import check_targets, check_votes
from fer_ddp.errors import JobError, RunError
from fer_ddp.optim.loss import class_weights, smoothing_matrix
from fer_ddp.runs.folder import RunFolder
from fer_ddp.text import plural
from fer_ddp.training.prolonging import check_epochs
from fer_ddp.training.teacher import check_teachers
from shards.manifest import FILE_NAME, Manifest


def check_run(run: RunFolder, job: Job, manifest: Manifest, world_size: int) -> Job | None:
    """Check that ``job`` can run on these data and ranks, and start or resume in this folder. Raises JobError;
    RunError if the run's own files are damaged.

    Returns the job that the run was started with, or None if it is new.
    """
    check_job(job, manifest, world_size)
    try:
        config = run.saved_config()
        saved = None if config is None else job_from_dict(config, str(run.path / "config.yaml"))
    except JobError as error:  # of an array, the other members can be trained
        raise RunError(str(error)) from None
    if saved is None:
        run.check_own()
        check_teachers(job)  # not of a run that is resumed, which has kept what they predict
        if job.model.weights not in (None, "default") and not Path(str(job.model.weights)).exists():
            raise JobError(f"model.weights: there is no file or folder {job.model.weights}")
        return None
    check_same(run, saved, job, manifest.digest)
    return saved


def check_same(run: RunFolder, saved: Job, job: Job, data_digest: str) -> None:
    """Raises JobError if ``job`` on these data differs in its result from ``saved``, which started ``run``."""
    old, new = saved.to_dict(), job.to_dict()
    for key in ("precision", "memory_format"):
        if new[key] == "auto":
            new[key] = old[key]
    for section, key in (("data", "mean"), ("data", "std"), ("ema", "warmup")):
        if new[section][key] is None:
            new[section][key] = old[section][key]
    if saved.time_limit_s is not None:
        new["epochs"] = old["epochs"]
    differences = differing_keys(old, new)
    # The last weights are there whatever became of the best ones.
    if [line for line in differences if not line.startswith(("epochs: ", "select: best_val -> last"))]:
        raise JobError(
            f"{run.path}: was started with another job ({'; '.join(differences)}); "
            f"choose another run= or put these keys back"
        )
    old_digest = run.data_digest()
    if old_digest not in (None, data_digest):
        path = Path(job.data.path) / FILE_NAME
        problem = "has another digest" if path.exists() else "is not there"
        raise JobError(
            f"{run.path}: was started on other data: {path} {problem} "
            f"({old_digest[:12]} -> {data_digest[:12]}); put these data back, or choose another run="
        )
    if new["epochs"] != old["epochs"]:
        check_epochs(run, saved, job)


def check_job(job: Job, manifest: Manifest, world_size: int) -> None:
    """Check that ``job`` can run on these data and ranks. Raises JobError."""
    if "train" not in manifest.splits:
        raise JobError(f"{job.data.path}: has no train split, only {', '.join(manifest.splits)}; pack one with train")
    if "val" not in manifest.splits:
        needing = {
            "select=best_val": job.select == "best_val",
            "schedule.name=plateau": job.schedule.needs_val,
            "early_stopping.patience_epochs": job.early_stopping.patience_epochs is not None,
        }
        for key in (key for key, needed in needing.items() if needed):
            raise JobError(
                f"{key}: needs a val split, and {job.data.path} has none; pack it with --val-fraction 0.1, "
                f"or change this"
            )
    if job.schedule.warmup_epochs > job.epochs:
        raise JobError(
            f"schedule.warmup_epochs: is {job.schedule.warmup_epochs}; it must be {job.epochs} or less, as epochs is"
        )
    steps = StepPlan(
        samples=manifest.splits["train"].samples, global_batch_size=job.global_batch_size, world_size=world_size
    )
    if job.augment.mixes and steps.local_batch_size % 2:
        raise JobError(
            f"global_batch_size: {job.global_batch_size} gives each rank {steps.local_batch_size} images, and mixup "
            f"and cutmix pair neighbours; choose a multiple of {2 * world_size}"
        )
    _check_targets_and_loss(job, manifest)
    _check_options(job, manifest, world_size)
    channels = manifest.image_shape[0]
    for key, values in (("data.mean", job.data.mean), ("data.std", job.data.std)):
        if values is not None and len(values) not in (1, channels):
            right = "1" if channels == 1 else f"1 or {channels}"
            raise JobError(
                f"{key}: has {len(values)} numbers; the images have {plural(channels, 'channel')}, so give {right}"
            )


def _check_options(job: Job, manifest: Manifest, world_size: int) -> None:
    """Raises JobError for options that exclude each other, or these data."""
    if job.global_batch_size % job.data.repeats:
        raise JobError(
            f"data.repeats: {job.data.repeats} does not divide global_batch_size, which is {job.global_batch_size}; "
            f"choose a batch size that is a multiple of it"
        )
    _check_batch_norm_groups(job, world_size)
    if job.label_correction.momentum is not None:
        key = "label_correction.momentum"
        if world_size > 1:
            raise JobError(f"{key}: one rank keeps all targets, and there are {world_size}; train on one rank")
        if job.augment.mixes:
            raise JobError(
                f"{key}: needs predictions of single images; set augment.mixup_alpha and augment.cutmix_alpha to 0"
            )
        if job.data.repeats > 1:
            raise JobError(
                f"{key}: moves a target once for each image, and data.repeats={job.data.repeats}; set it to 1"
            )
        if job.optimizer.sam_radius:
            raise JobError(
                f"{key}: the second pass of a sharpness-aware step would move targets again; set one of "
                f"{key} and optimizer.sam_radius"
            )
    side = manifest.image_shape[1]
    if any(each > side for each in job.image_size.sides):
        raise JobError(
            f"image_size.sides: is {list(job.image_size.sides)}; the images are {side} x {side}, so give {side} or less"
        )
    if job.evaluate.every_epochs > 1:
        each_epoch = {
            "schedule.name=plateau": job.schedule.needs_val,
            "early_stopping.patience_epochs": job.early_stopping.patience_epochs is not None,
        }
        for key in (key for key, needed in each_epoch.items() if needed):
            raise JobError(f"evaluate.every_epochs: {key} needs the val metrics of every epoch; set it to 1")


def _check_batch_norm_groups(job: Job, world_size: int) -> None:
    """Raises JobError if the batch, or the ranks, can't be shared by the groups."""
    groups, size, key = job.model.batch_norm_groups, job.global_batch_size, "model.batch_norm_groups"
    if groups == 1:
        return
    if size % groups or size // groups < 2:
        raise JobError(f"{key}: {groups} groups of 2 images or more can't share a batch of {size} evenly; choose fewer")
    if groups % world_size:
        raise JobError(
            f"{key}: {world_size} ranks can't share {groups} groups evenly; choose a multiple of {world_size}"
        )
    if job.micro_batch_size is not None:
        raise JobError(f"{key}: micro_batch_size already makes groups for batch norm; set one of the two")


def _check_targets_and_loss(job: Job, manifest: Manifest) -> None:
    """Raises JobError for targets or a loss that these data can't have, or that exclude each other."""
    check_targets(job.data.targets, job.data.path, manifest)
    if job.data.targets != "label" and job.label_correction.momentum is not None:
        raise JobError(
            "label_correction.momentum: corrects labels, and data.targets trains on votes; set one of the two"
        )
    if job.data.targets == "multi_target":
        unsuited = {
            "augment.mixup_alpha": job.augment.mixup_alpha,
            "augment.cutmix_alpha": job.augment.cutmix_alpha,
            "loss.label_smoothing": job.loss.label_smoothing,
            "loss.name=focal": job.loss.name == "focal",
            "distillation.teacher": bool(job.distillation.teacher),
        }
        for key in (key for key, is_set in unsuited.items() if is_set):
            raise JobError(
                f"{key}: data.targets=multi_target has a loss of its own, for which any of an image's classes is "
                f"right; remove {key}, or choose data.targets=cross_entropy"
            )
    class_weights(job.loss, manifest.class_names, manifest.splits["train"].class_counts)
    smoothing_matrix(job.loss, manifest.class_names, lambda: torch.empty(0))
    if job.loss.smoothing_matrix == "votes":
        check_votes(manifest, job.data.path)
    if job.loss.logit_adjustment and job.data.order == "class_balanced":
        raise JobError(
            "loss.logit_adjustment: is for classes of unequal frequency, and data.order=class_balanced shows all "
            "equally often; set one of the two"
        )
