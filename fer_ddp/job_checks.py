"""Whether a job fits its data, the number of ranks and the run folder; asked before anything starts."""

from fer_ddp.config import Job
from fer_ddp.counted import counted
from fer_ddp.errors import JobError
from fer_ddp.run_folder import RunFolder
from fer_ddp.sequence import Steps
from shards.manifest import Manifest


def check_run(run: RunFolder, job: Job, manifest: Manifest, world_size: int) -> Job | None:
    """Whether ``job`` can run on these data and ranks, and go on in this folder. Raises JobError.

    Returns the job that the run was started with, None if it is new.
    """
    check_job(job, manifest, world_size)
    saved = run.saved_job()
    if saved is None:
        run.check_own()
    else:
        run.check_same(saved, job, manifest.digest)
    return saved


def check_job(job: Job, manifest: Manifest, world_size: int) -> None:
    """Whether ``job`` can run on these data and ranks. Raises JobError."""
    if "train" not in manifest.splits:
        raise JobError(f"{job.data.path}: has no train split, only {', '.join(manifest.splits)}; pack one with train")
    if "val" not in manifest.splits:
        needing = {
            "select=best_val": job.select == "best_val",
            "schedule.name=plateau": job.schedule.needs_val,
            "early_stopping.patience_epochs": job.early_stopping.patience_epochs is not None,
        }
        for key in (key for key, needed in needing.items() if needed):
            raise JobError(f"{key}: needs a val split, and {job.data.path} has none; pack one with val, or change this")
    if job.schedule.warmup_epochs > job.epochs:
        raise JobError(
            f"schedule.warmup_epochs: is {job.schedule.warmup_epochs}; it must be {job.epochs} or less, as epochs is"
        )
    steps = Steps(
        samples=manifest.splits["train"].samples, global_batch_size=job.global_batch_size, world_size=world_size
    )
    if job.augment.mixes and steps.local_batch_size % 2:
        raise JobError(
            f"global_batch_size: {job.global_batch_size} gives each rank {steps.local_batch_size} images, and mixup "
            f"and cutmix pair neighbours; choose a multiple of {2 * world_size}"
        )
    channels = manifest.image_shape[0]
    for key, values in (("data.mean", job.data.mean), ("data.std", job.data.std)):
        if values is not None and len(values) not in (1, channels):
            right = "1" if channels == 1 else f"1 or {channels}"
            raise JobError(
                f"{key}: has {len(values)} numbers; the images have {counted(channels, 'channel')}, so give {right}"
            )
