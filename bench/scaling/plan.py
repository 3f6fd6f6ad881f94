"""Predicts how a job scales, from its step on one device and the messages between the ranks.

A step of W ranks takes what one device takes for a W-th of the batch, plus the messages of the synchronized batch
norms, which all wait for each other, plus what of the gradients' exchange the backward pass doesn't hide.
docs/scaling.md explains the model and what it leaves out.
"""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.scaling.links import LINKS, Link
from bench.scaling.processes import neighbours, run_ranks
from fer_ddp.config.job import Job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import JobError
from fer_ddp.text import plural
from fer_ddp.training.checks import check_job
from fer_ddp.training.loop import Trainer
from fer_ddp.training.setup import build_trainer, resolve_auto
from fer_ddp.yaml_io import to_yaml
from shards.files import atomic_write_bytes
from shards.parallel import usable_cpus
from shards.reading.scan import load_or_scan_manifest

TIMED_STEPS = 5
BACKWARD_SHARE = 2 / 3
"""Of a step: the backward pass multiplies twice as much as the forward pass."""
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20
"""Bytes of gradients that DistributedDataParallel exchanges at once: the first bucket, and each after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Messages:
    """What each rank sends in a step."""

    gradient_bytes: int
    synchronized_channels: tuple[int, ...]
    """The channels of each synchronized batch norm, for each time that a step goes through it."""
    number_bytes: int
    """Of one number of the statistics: ours are float64, torch's float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A rank's part of a step."""

    seconds: float
    """Of its computation."""
    messages: Messages


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """A step of ``ranks`` ranks, in seconds."""

    ranks: int
    compute: float
    synchronization: float
    """Of the batch norms."""
    gradients: float
    """What the backward pass does not hide of their exchange."""

    @property
    def step(self) -> float:
        """All together."""
        return self.compute + self.synchronization + self.gradients


def predict(shares: dict[int, Share], link: Link) -> list[Prediction]:
    """A step for each number of ranks in ``shares``, fewest first."""
    return [
        Prediction(
            ranks=ranks,
            compute=share.seconds,
            synchronization=_synchronization(share.messages, link, ranks),
            gradients=_exposed_gradients(share.messages.gradient_bytes, link, ranks, BACKWARD_SHARE * share.seconds),
        )
        for ranks, share in sorted(shares.items())
    ]


def _synchronization(messages: Messages, link: Link, ranks: int) -> float:
    # Forward: an all-gather of mean, squared deviations and count; backward: an all-reduce of two sums a channel.
    return sum(
        link.gather_seconds(ranks, (2 * channels + 1) * messages.number_bytes)
        + link.reduce_seconds(ranks, 2 * channels * messages.number_bytes)
        for channels in messages.synchronized_channels
    )


def _exposed_gradients(size: int, link: Link, ranks: int, backward: float) -> float:
    sizes = [min(size, FIRST_BUCKET)]
    rest = size - sizes[0]
    sizes += [BUCKET] * (rest // BUCKET) + [rest % BUCKET] * (rest % BUCKET > 0)
    seconds = [link.reduce_seconds(ranks, each) for each in sizes]
    if not link.overlaps:
        return sum(seconds)
    # The last bucket is whole only when the backward pass ends.
    return max(seconds[-1], sum(seconds) - backward)


def plan(job: Job, gpus: list[int], link_name: str | None, check: bool, device: torch.device) -> str:
    """The table and the sentences that ``python -m bench.scaling`` prints.

    ``link_name``: of `LINKS`, or ``loopback``, measured; None takes ``nvlink`` on a GPU and ``loopback`` on a CPU.
    ``check``: train for a few steps on 1 and 2 ranks of this machine too. On a CPU a rank is taken to have half of the
    processors, so that two can be checked, unless OMP_NUM_THREADS says otherwise. Raises JobError, RunError or shards'
    DataError.
    """
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, usable_cpus() // 2))
    manifest = load_or_scan_manifest(Path(job.data.path))
    for ranks in gpus:
        check_job(job, manifest, ranks)
    if check and 2 not in gpus:
        raise JobError("--check: trains on 1 and 2 ranks; put 2 into --gpus")
    if check and device.type == "cuda" and torch.cuda.device_count() < 2:
        raise JobError("--check: trains on 1 and 2 ranks, and this machine has 1 GPU")
    name = link_name or ("nvlink" if device.type == "cuda" else "loopback")
    if name == "loopback" and device.type == "cuda":
        raise JobError(f"--link loopback: is measured between two CPU ranks; on a GPU choose one of {', '.join(LINKS)}")
    job = resolve_auto(job, manifest, device)
    dataset = FERDataset(job.data.path, "train")
    with tempfile.TemporaryDirectory() as folder:
        job_file = Path(folder) / "job.yaml"
        atomic_write_bytes(job_file, to_yaml(job.to_dict()).encode())
        shares = {ranks: measure_share(job, job_file, dataset, ranks, device) for ranks in sorted({1, *gpus})}
        link = LINKS[name] if name in LINKS else _loopback(shares[max(shares)].messages)
        predictions = predict(shares, link)
        lines = [_heading(job, device, link), *_table(predictions, job, gpus), limit(predictions, shares, job)]
        if check:
            lines += _checked(job_file, predictions)
    return "\n".join(lines)


def measure_share(job: Job, job_file: Path, dataset: FERDataset, ranks: int, device: torch.device) -> Share:
    """The part of one of ``ranks`` ranks, measured on this device; ``job_file`` holds ``job``.

    Ranks on a CPU share its memory and its caches, so there neighbours compute the same meanwhile: as many as there
    are ranks besides, or as the processors have room for.
    """
    trainer = build_trainer(job, dataset, ranks, device)
    threads, beside = torch.get_num_threads(), 0
    if device.type == "cpu":
        beside = min(ranks, usable_cpus() // threads) - 1
    with neighbours(max(beside, 0), ["busy", str(job_file), str(ranks)], threads):
        seconds = step_seconds(trainer, device)
    return Share(seconds=seconds, messages=count_messages(trainer.state.model, job, ranks))


def step_seconds(trainer: Trainer, device: torch.device) -> float:
    """The median of a few steps, the making of their batches included, after one that is not counted."""
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        started = time.perf_counter()
        trainer.step(trainer.loader.raw_batch(trainer.state.step))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def count_messages(model: nn.Module, job: Job, ranks: int) -> Messages:
    """What a rank of ``ranks`` sends in a step of ``model``, as `prepare_model` made it for that many ranks."""
    gradients = (parameter for parameter in model.parameters() if parameter.requires_grad)
    is_synchronized = ranks > 1 and job.model.batch_norm_groups == 1
    channels = (
        [each.num_features for each in model.modules() if isinstance(each, _BatchNorm)] if is_synchronized else []
    )
    local = job.global_batch_size // ranks
    pieces = -(-local // (job.micro_batch_size or local))
    on_cpu = next(model.parameters()).device.type == "cpu"
    return Messages(
        gradient_bytes=sum(parameter.numel() * parameter.element_size() for parameter in gradients),
        synchronized_channels=tuple(channels * pieces),
        number_bytes=8 if on_cpu else 4,
    )


def _loopback(messages: Messages) -> Link:
    """This machine's own, between two ranks."""
    widest = max(messages.synchronized_channels, default=1)
    found = run_ranks(2, ["link", str(2 * widest), str(messages.gradient_bytes // 4)], torch.get_num_threads())
    gather, reduce, large = (found[name] for name in ("gather", "reduce", "large"))
    hop = max(reduce - gather, 0.0)  # of two ranks: an all-gather has one hop, an all-reduce two
    start = max(gather - hop, 0.0)
    return Link(
        name="loopback",
        start_us=start * 1e6,
        hop_us=hop * 1e6,
        gigabytes_per_second=messages.gradient_bytes / max(large - reduce, 1e-9) / 1e9,
        overlaps=False,
        source="measured now, between two ranks of this machine",
    )


def _heading(job: Job, device: torch.device, link: Link) -> str:
    where = plural(torch.get_num_threads(), "CPU thread")
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return (
        f"{job.name}: batches of {job.global_batch_size} shared by the ranks; one rank has {where}, {job.precision}, "
        f"{job.memory_format}\n"
        f"link {link.name}: {link.start_us:.1f} us to start, {link.hop_us:.1f} us a hop, "
        f"{link.gigabytes_per_second:.1f} GB/s ({link.source})\n"
    )


def _table(predictions: list[Prediction], job: Job, gpus: list[int]) -> list[str]:
    alone = predictions[0].step
    lines = ["ranks  images each    step ms  compute ms  batch norm ms  gradients ms    images/s  efficiency"]
    for each in predictions:
        if each.ranks in gpus:
            lines.append(
                f"{each.ranks:>5}  {job.global_batch_size // each.ranks:>11}  {each.step * 1e3:>9.2f}  "
                f"{each.compute * 1e3:>10.2f}  {each.synchronization * 1e3:>13.2f}  {each.gradients * 1e3:>12.2f}  "
                f"{job.global_batch_size / each.step:>10,.0f}  {alone / each.step / each.ranks:>10.0%}"
            )
    return lines


def limit(predictions: list[Prediction], shares: dict[int, Share], job: Job) -> str:
    """A sentence: what takes the most of what is lost, where the efficiency first falls below 90 %."""
    alone = predictions[0].step
    several = [each for each in predictions if each.ranks > 1]
    if not several:
        return "One rank has nothing to wait for; give more, such as --gpus 1,2,4,8."
    below = [each for each in several if alone / each.step / each.ranks < 0.9]
    at = (below or several[-1:])[0]
    messages, images = shares[at.ranks].messages, job.global_batch_size // at.ranks
    small = at.compute - alone / at.ranks
    losses = {
        f"a share of {images} images takes {at.compute / alone:.0%} of the whole batch's time, not "
        f"{1 / at.ranks:.0%}; a larger global_batch_size would help": small,
        f"{2 * len(messages.synchronized_channels)} messages of the batch norms, one after another, take "
        f"{at.synchronization * 1e3:.2f} ms": at.synchronization,
        f"{messages.gradient_bytes / 1e6:.1f} MB of gradients take {at.gradients * 1e3:.2f} ms that the backward "
        f"pass doesn't hide": at.gradients,
    }
    reason = max(losses, key=lambda sentence: losses[sentence])
    return f"{'What limits first' if below else 'What limits most'}, at {at.ranks} ranks: {reason}."


def _checked(job_file: Path, predictions: list[Prediction]) -> list[str]:
    """Lines on real steps of 1 and 2 ranks of this machine, beside what was predicted."""
    predicted = {each.ranks: each.step for each in predictions}
    lines = ["checked by training on this machine:"]
    for ranks in (1, 2):
        measured = run_ranks(ranks, ["step", str(job_file)], torch.get_num_threads())["step"]
        lines.append(
            f"{plural(ranks, 'rank'):>11}: {measured * 1e3:.2f} ms a step, predicted "
            f"{predicted[ranks] * 1e3:.2f} ms ({predicted[ranks] / measured - 1:+.0%})"
        )
    return lines
