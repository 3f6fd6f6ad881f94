"""Training. `run_epochs` is the loop; `train` is the whole run around it."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fer_ddp import distributed
from fer_ddp.assemble import assemble, decided
from fer_ddp.batches import Batches
from fer_ddp.checkpoint import save_checkpoint
from fer_ddp.config import Job
from fer_ddp.counted import counted
from fer_ddp.data import open_split, with_statistics
from fer_ddp.errors import Interrupted, JobError, RunError, system_sentence
from fer_ddp.evaluate import Evaluator
from fer_ddp.job_checks import check_run
from fer_ddp.record import NoRecord, Record
from fer_ddp.results import evaluate_run
from fer_ddp.run_files import BEST
from fer_ddp.run_folder import RunFolder
from fer_ddp.signals import StopFlag
from fer_ddp.tracking import Tracker
from fer_ddp.train_step import TrainStep
from fer_ddp.training_state import TrainingState
from shards.errors import DataError
from shards.manifest import Manifest
from shards.scan import manifest_of


def run_epochs(
    job: Job,
    run: RunFolder,
    batches: Batches,
    train_step: TrainStep,
    evaluate: Callable[[], dict[str, Any] | None],
    record: NoRecord,
    stop: StopFlag,
) -> None:
    """The training loop, from ``train_step.state`` on to the last epoch's end.

    Raises Interrupted once a signal came and the state is saved.
    """
    state, steps = train_step.state, batches.steps
    agreement = distributed.Agreement()

    def save() -> None:
        state.check_finite()
        distributed.on_main(partial(run.save_state, state.state_dict()))

    for epoch in range(state.epoch + 1, job.epochs + 1):
        record.begin_epoch(epoch, state.step, steps.end_of_epoch(epoch))
        while state.step < steps.end_of_epoch(epoch):
            loss = train_step(batches.samples(state.step))
            record.step()
            if job.log.every_steps and state.step % job.log.every_steps == 0:
                mean_loss = distributed.all_reduce_sum(loss).item()
                record.log_step({"step": state.step, "loss": mean_loss, "lr": state.lr})
            if agreement.ask(stop.is_up):
                save()
                raise Interrupted(f"stopped by {stop.signal_name or 'a signal'} after step {state.step}")
            if job.checkpoint.every_steps and state.step % job.checkpoint.every_steps == 0:
                save()
        state.check_finite()  # a GPU has done the epoch's steps only now
        record.steps_done()
        save()  # before the evaluation, which is made again if it is interrupted
        train = state.train_metrics(steps.end_of_epoch(epoch) - steps.end_of_epoch(epoch - 1))
        val = evaluate()
        is_best, stop_now = state.epoch_done(val)
        if is_best:
            save_best = partial(save_checkpoint, run.checkpoints / f"{BEST}.safetensors", state.weights())
            distributed.on_main(save_best)
        record.epoch(
            {"epoch": epoch, "step": state.step, "lr": state.lr, "train": train} | ({"val": val} if val else {})
        )
        if stop_now:
            break


def train(job: Job, device: torch.device) -> None:
    """Run ``job`` to its end, from wherever its run folder stands; to be called inside `distributed.world`.

    Raises JobError before anything is written, RunError or shards' DataError if the work fails, Interrupted if a
    signal ended it and the same command goes on.
    """
    stop = StopFlag()
    stop.listen()
    run = RunFolder(job.run)
    job, finished = distributed.on_main(lambda: _open_run(run, job, device))
    if finished:
        return
    tracker = Tracker(run.path, job.wandb.mode if distributed.is_main() else "disabled")
    try:
        _train_and_evaluate(run, job, device, tracker, stop)
    except (Interrupted, JobError, RunError, DataError) as error:
        if distributed.is_main():
            run.write_status("interrupted" if isinstance(error, Interrupted) else "failed", message=str(error))
        raise
    except OSError as error:
        if distributed.is_main():
            run.write_status("failed", message=system_sentence(error))
        raise
    except RuntimeError as error:
        failure = _in_words(error, job)
        if failure is None:
            raise
        if distributed.is_main():
            run.write_status("failed", message=str(failure))
        raise failure from None
    finally:
        tracker.close()


def _in_words(error: RuntimeError, job: Job) -> RunError | None:
    """What torch's error means to a user; None for a mistake of ours."""
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        size = job.micro_batch_size or job.global_batch_size // distributed.world_size()
        sentence = (
            f"rank {distributed.rank()} is out of memory with {size} images at once; "
            f"set micro_batch_size={max(size // 2, 1)}"
        )
        distributed.say_alone(sentence)
        return RunError(sentence)
    if distributed.lost_a_rank(error):
        return RunError("another rank ended; what it said, or the system's log, tells why. The same command goes on")
    return None


def _open_run(run: RunFolder, job: Job, device: torch.device) -> tuple[Job, bool]:
    """On rank zero: check the job, decide what it leaves open, write what the run is. Gives (job, already finished)."""
    manifest = manifest_of(Path(job.data.path))
    saved = check_run(run, job, manifest, distributed.world_size())
    if saved is None:
        job = decided(job, manifest, device)
    else:
        data = with_statistics(job.data, manifest)
        job = dataclasses.replace(job, precision=saved.precision, memory_format=saved.memory_format, data=data)
    if run.status().get("state") == "finished":
        print(f"{run.path}: this run is finished; choose another run= to train again", flush=True)
        return job, True
    run.create()
    run.lock()
    run.save_job(job)
    run.write_environment(manifest.digest, distributed.world_size(), device)
    return job, False


def _train_and_evaluate(run: RunFolder, job: Job, device: torch.device, tracker: Tracker, stop: StopFlag) -> None:
    dataset = distributed.on_every_rank(lambda: open_split(job.data, "train", device))
    batches, train_step = assemble(job, dataset, distributed.world_size(), device)
    _go_on(run, train_step.state)
    tracker.start()
    record = NoRecord()
    if distributed.is_main():
        record = Record(run, epochs=job.epochs, global_batch_size=job.global_batch_size)
        print(_beginning(job, run, len(dataset), device), flush=True)
    evaluate = _evaluation(job, dataset.manifest, train_step.state, device, stop)
    run_epochs(job, run, batches, train_step, evaluate, record, stop)
    distributed.on_main(lambda: _finish(run, job, device, stop))


def _beginning(job: Job, run: RunFolder, images: int, device: torch.device) -> str:
    """What is trained on what, said before a first epoch that may take long."""
    on_gpu, threads = device.type == "cuda", torch.get_num_threads()
    each = torch.cuda.get_device_name(device) if on_gpu else counted(threads, "CPU thread")
    return (
        f"{run.path}: {job.name}, {counted(job.epochs, 'epoch')} of {images:,} images in batches of "
        f"{job.global_batch_size}, on {counted(distributed.world_size(), 'rank')} of {each}, {job.precision}, "
        f"{job.memory_format}"
    )


def _go_on(run: RunFolder, state: TrainingState) -> None:
    """Load the last checkpoint, if there is one, and cut the written lines back to it."""
    saved, sentence = distributed.on_main(run.load_state)
    if saved is not None:
        state.load_state_dict(saved)
    if not distributed.is_main():
        return
    run.cut_back(state.step, state.epoch)
    if saved is not None:
        told = f"{sentence}; " if sentence else ""
        print(f"{told}going on from step {state.step} (epoch {state.epoch} done)", flush=True)


def _evaluation(
    job: Job, manifest: Manifest, state: TrainingState, device: torch.device, stop: StopFlag
) -> Callable[[], dict[str, Any] | None]:
    """What evaluates the val split on rank zero and tells every rank; gives None where there is no val split."""
    if "val" not in manifest.splits:
        return lambda: None
    dataset = open_split(job.data, "val", device) if distributed.is_main() else None

    def on_rank_zero() -> dict[str, Any]:
        assert dataset is not None
        evaluator = Evaluator.of(job, device)
        metrics = evaluator.metrics(state.evaluated_network, dataset, stop.check)
        return {key: metrics[key] for key in ("loss", "accuracy", "macro_f1", "balanced_accuracy")}

    return lambda: distributed.on_main(on_rank_zero)


def _finish(run: RunFolder, job: Job, device: torch.device, stop: StopFlag) -> None:
    """On rank zero: evaluate the chosen weights, write and draw the results."""
    results = evaluate_run(run, job, device, distributed.world_size(), stop.check)
    run.drop_previous()
    run.write_status("finished", step=results.summary["steps"])
    print(results.text(), flush=True)
