"""A whole run: open its folder, build the trainer, resume, train, evaluate, and record what failed."""

import dataclasses
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from fer_ddp import distributed
from fer_ddp.config.job import Job
from fer_ddp.data.dataset import open_split, with_statistics
from fer_ddp.data.synthetic import drawn_if_missing
from fer_ddp.errors import Interrupted, JobError, RunError, os_error_message
from fer_ddp.evaluation.evaluate import evaluate_run
from fer_ddp.evaluation.evaluator import Evaluator
from fer_ddp.metrics.classification import ValidationMetrics
from fer_ddp.models.own_code import failure_of_own_code
from fer_ddp.runs.files import LINES, intact_lines
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.logger import NullLogger, RunLogger
from fer_ddp.runs.model_source import check_model_source, record_model_source
from fer_ddp.runs.state_writer import StateWriter
from fer_ddp.runs.tracking import Tracker
from fer_ddp.runs.weights import record_weights
from fer_ddp.signals import StopFlag
from fer_ddp.text import plural
from fer_ddp.training.checks import check_run
from fer_ddp.training.loop import run_epochs
from fer_ddp.training.pretrained import first_weights
from fer_ddp.training.prolonging import reopen
from fer_ddp.training.setup import build_trainer, resolve_auto
from fer_ddp.training.state import TrainingState
from fer_ddp.training.teacher import teacher_kept
from fer_ddp.training.time_limit import with_epochs_that_fit
from fer_ddp.training.watchdog import Watchdog
from shards.errors import UserError
from shards.manifest import Manifest
from shards.reading.scan import load_or_scan_manifest

_TRAINING = threading.Lock()
"""Held by the one training of this process."""


def train(job: Job, device: torch.device, *, ends_process: bool = False) -> None:
    """Run ``job`` to its end, from the last checkpoint in its run folder; call it inside `distributed.world`.

    ``ends_process``: whether this process is there for this alone, and may end where the run stalls (`Watchdog`).
    Raises JobError before anything is written, also if another thread trains; RunError or shards' DataError if the work
    fails; Interrupted if a signal stopped it: the same command then resumes.
    """
    if not _TRAINING.acquire(blocking=False):
        raise JobError(
            f"{job.run}: this process trains another run, which uses the same random generator of torch; "
            f"start it after that one, or in a process of its own"
        )
    try:
        with StopFlag() as stop:
            _train(job, device, stop, ends_process)
    finally:
        _TRAINING.release()


def _train(job: Job, device: torch.device, stop: StopFlag, ends_process: bool) -> None:
    data = distributed.rank_zero_call(lambda: drawn_if_missing(job.data))
    job, run = dataclasses.replace(job, data=data), RunFolder(job.run)
    manifest = distributed.rank_zero_call(lambda: load_or_scan_manifest(Path(job.data.path)))
    job, finished = distributed.rank_zero_call(lambda: open_run(run, job, manifest, device, stop))
    if finished:
        return
    is_main = distributed.is_main()
    tracker = Tracker(run.path, job.wandb.mode if is_main else "disabled", job.tensorboard and is_main)
    watchdog = Watchdog(run, job.stall_seconds, ends_process=ends_process)
    try:
        _train_and_evaluate(run, job, manifest, device, tracker, stop, watchdog)
    except Exception as error:
        failure = _user_error(error, job)
        if failure is None:
            raise
        if distributed.is_main():
            failure = _record(run, failure)
        raise failure from None
    finally:
        tracker.close()
        run.unlock()


def _record(run: RunFolder, failure: UserError) -> UserError:
    """Write into the run folder why the run ends; returns the error to raise, which is another one without a folder."""
    try:
        run.check_present()
        run.write_status("interrupted" if isinstance(failure, Interrupted) else "failed", message=str(failure))
    except RunError as error:
        return error
    except OSError:  # the failure itself is what matters, as when the disk is full
        return failure
    return failure


def _user_error(error: Exception, job: Job) -> UserError | None:
    """An error in the user's terms, also one of torch or of the user's own model; None if it is a bug of ours."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        distributed.print_from_rank(f"rank {distributed.rank()}: {os_error_message(error)}")
        return RunError(os_error_message(error))
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        size = job.micro_batch_size or job.global_batch_size // distributed.world_size()
        message = (
            f"rank {distributed.rank()} is out of memory with {size} images at once; "
            f"set micro_batch_size={max(size // 2, 1)}"
        )
        distributed.print_from_rank(message)
        return RunError(message)
    if isinstance(error, RuntimeError) and distributed.is_peer_failure(error):
        return RunError(distributed.peer_failure(error))
    return failure_of_own_code(error)


def open_run(run: RunFolder, job: Job, manifest: Manifest, device: torch.device, stop: StopFlag) -> tuple[Job, bool]:
    """On rank zero: check the job, resolve ``auto``, write the run's files. Returns (job, is finished)."""
    saved = check_run(run, job, manifest, distributed.world_size())
    first = first_weights(job, manifest) if saved is None or not run.has_state() else None
    if saved is None:
        job = resolve_auto(job if first is None else dataclasses.replace(job, data=first.data), manifest, device)
    else:
        mean, std = job.data.mean or saved.data.mean, job.data.std or saved.data.std
        data = with_statistics(dataclasses.replace(job.data, mean=mean, std=std), manifest)
        job = dataclasses.replace(
            job, precision=saved.precision, memory_format=saved.memory_format, data=data, ema=saved.ema
        )
        if saved.time_limit_s is not None:
            job = dataclasses.replace(job, epochs=saved.epochs)
    is_finished = run.status().get("state") == "finished"
    if is_finished and (saved is None or saved.epochs == job.epochs):
        print(f"{run.path}: this run is finished; choose another run= to train again", flush=True)
        return job, True
    if is_finished:
        check_model_source(run.path, job.model.name)  # before a finished run is made one to be resumed
    run.create()
    run.lock()
    try:
        if is_finished and saved is not None:
            reopen(run, saved, job)
        with teacher_kept(run, job, manifest, device, stop.check):
            run.save_config(job.to_dict())
            record_model_source(run.path, job.model.name)
            if first is not None:
                record_weights(run.path, first.weights, first.fitted)
                print(first.line, flush=True)
            run.write_environment(manifest.digest, distributed.world_size(), device)
    except BaseException:
        run.unlock()  # in a notebook the error would keep the lock
        raise
    return job, False


def _train_and_evaluate(
    run: RunFolder,
    job: Job,
    manifest: Manifest,
    device: torch.device,
    tracker: Tracker,
    stop: StopFlag,
    watchdog: Watchdog,
) -> None:
    dataset = distributed.on_every_rank(lambda: open_split(job.data, "train", device, manifest))
    is_new = not distributed.rank_zero_call(run.has_state)
    if is_new and job.time_limit_s is not None:
        job = with_epochs_that_fit(
            job, dataset, device, lambda state: _validation(job, manifest, state, device, stop.check)()
        )
        distributed.rank_zero_call(partial(run.save_config, job.to_dict()))
    trainer = build_trainer(job, dataset, distributed.world_size(), device, pretrained=is_new)
    _resume(run, job, trainer.state)
    tracker.start()
    logger = NullLogger()
    if distributed.is_main():
        logger = RunLogger(
            run,
            epochs=job.epochs,
            global_batch_size=job.global_batch_size,
            state_bytes=trainer.state.about_bytes(),
            is_even=not job.image_size.sides,
        )
        print(_introduction(job, run, trainer.loader.steps.samples, device), flush=True)

    def between_batches() -> None:
        watchdog.beat()
        stop.check()

    evaluate = _validation(job, manifest, trainer.state, device, between_batches)
    with watchdog:
        with StateWriter(run, job.checkpoint.every_seconds) as writer:
            run_epochs(job, writer, trainer, evaluate, logger, stop, watchdog)
        distributed.rank_zero_call(lambda: _finish(run, job, manifest, device, between_batches))


def _introduction(job: Job, run: RunFolder, images: int, device: torch.device) -> str:
    """What is trained on what; printed at the start, since the first epoch may take long."""
    on_gpu, threads = device.type == "cuda", torch.get_num_threads()
    each = torch.cuda.get_device_name(device) if on_gpu else plural(threads, "CPU thread")
    return (
        f"{run.path}: {job.name}, {plural(job.epochs, 'epoch')} of {images:,} images in batches of "
        f"{job.global_batch_size}, on {plural(distributed.world_size(), 'rank')} of {each}, {job.precision}, "
        f"{job.memory_format}"
    )


def _resume(run: RunFolder, job: Job, state: TrainingState) -> None:
    """Load the last checkpoint, if there is one, and cut the lines written after it."""
    saved, damage = distributed.rank_zero_call(partial(run.load_state, state.identity))
    if saved is not None:
        try:
            state.load_state_dict(saved)
        except (KeyError, RuntimeError, TypeError, ValueError):  # written before states had an identity
            raise RunError(f"{run.checkpoints}: holds the state of another job; put this run's own back") from None
    if state.best_accuracy is not None and job.select == "best_val" and not distributed.rank_zero_call(run.has_best):
        state.best_accuracy = None
    if not distributed.is_main():
        return
    was_started = bool(run.read_lines("metrics.jsonl"))
    lost = run.cut_back(state.step, state.epoch, state.logged_steps)
    if saved is None and was_started:
        print("no state was saved before the run ended; starting from epoch 1", flush=True)
    if saved is not None:
        print("".join(f"{line}\n" for line in lost), end="")
        warning = f"{damage}; " if damage else ""
        print(f"{warning}resuming from step {state.step} (epoch {state.epoch} done)", flush=True)


def _validation(
    job: Job,
    manifest: Manifest,
    state: TrainingState,
    device: torch.device,
    between_batches: Callable[[], None],
) -> Callable[[], ValidationMetrics | None]:
    """A function that evaluates the val split on rank zero, for all ranks; it returns None where there is no val."""
    if "val" not in manifest.splits:
        return lambda: None
    dataset = open_split(job.data, "val", device, manifest) if distributed.is_main() else None
    evaluator = Evaluator.of(job.data, job.precision, job.memory_format, device)

    def on_rank_zero() -> ValidationMetrics:
        assert dataset is not None
        return evaluator.metrics(state.evaluated_model, dataset, between_batches)

    return lambda: distributed.rank_zero_call(on_rank_zero)


def _finish(
    run: RunFolder, job: Job, manifest: Manifest, device: torch.device, between_batches: Callable[[], None]
) -> None:
    """On rank zero: evaluate the selected weights, write the results and the figures."""
    results = evaluate_run(run, job, device, distributed.world_size(), between_batches, manifest)
    run.drop_previous()
    run.check_present()
    lines = {name: len(intact_lines(run.path / name)) for name in LINES}
    run.write_status("finished", step=results.summary["steps"], lines=lines)
    print(results.text(), flush=True)
