"""A run whose number of epochs changes: trained further after its end, or stopped earlier than planned."""

import shutil

from fer_ddp.config.job import Job
from fer_ddp.errors import JobError
from fer_ddp.evaluation.sheets import SHEETS
from fer_ddp.runs.files import BEST, saved_epoch
from fer_ddp.runs.folder import RunFolder


def depends_on_epochs(job: Job) -> str | None:
    """The key by which a step of ``job`` depends on the number of epochs, if there is one."""
    dependent = {
        f"schedule.name={job.schedule.name}": job.schedule.depends_on_epochs,
        "image_size.sides": bool(job.image_size.sides),
        "augment.mixing_until": job.augment.mixes and job.augment.mixing_until < 1,
    }
    return next((key for key, is_set in dependent.items() if is_set), None)


def check_epochs(run: RunFolder, saved: Job, job: Job) -> None:
    """Raises JobError unless ``run``, begun as ``saved``, can have the epochs of ``job``, which is the same otherwise.

    It can where a run of so many epochs from the start would be in the same state now.
    """
    change = f"{run.path}: epochs: {saved.epochs} -> {job.epochs}"
    key = depends_on_epochs(saved)
    if key is not None:
        raise JobError(
            f"{change}: {key} spans the whole run, so with another number of epochs every step would have been "
            f"different; train it again under another run=, or start a new run from its weights: from={run.path} "
            f"run=NAME"
        )
    begun = (saved_epoch(run.path) or 0) + 1  # the state of a finished run is that before its last evaluation
    if job.epochs < begun:
        done = "is finished with" if run.status().get("state") == "finished" else "is in"
        raise JobError(f"{change}: the run {done} epoch {begun}; give {begun} or more, or choose another run=")
    if saved.epochs % saved.evaluate.every_epochs and saved_epoch(run.path, BEST) == saved.epochs:
        raise JobError(
            f"{change}: epoch {saved.epochs}, which evaluate.every_epochs={saved.evaluate.every_epochs} leaves out, "
            f"was evaluated as the last one and is the best; a run of {job.epochs} epochs would not have evaluated it; "
            f"start a new run from its weights: from={run.path} run=NAME"
        )


def reopen(run: RunFolder, saved: Job, job: Job) -> None:
    """Make a finished run one to be resumed, and say so; ``config.yaml`` may then be that of ``job``.

    Evaluations on other data and the sheets of `fer-ddp figures` were of weights that will not be the run's, so they
    are removed.
    """
    run.write_status("interrupted", message=f"prolonged from {saved.epochs} to {job.epochs} epochs")
    print(f"{run.path}: finished with {saved.epochs} epochs, now trained for {job.epochs}", flush=True)
    evaluations = run.path / "evaluations"
    if evaluations.exists():
        print(f"{evaluations}: were made with the weights so far; removed, run `fer-ddp evaluate` again", flush=True)
        shutil.rmtree(evaluations)
    sheets = [path for name in SHEETS for path in run.figures.glob(f"{name}_*.png")]
    if sheets:
        print(f"{run.figures}: removed {', '.join(sorted(path.name for path in sheets))}, run `fer-ddp figures` again")
        for path in sheets:
            path.unlink()
