"""Before the first step: resolves the job's ``auto``, builds the trainer."""

import dataclasses
import sys
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from fer_ddp import distributed
from fer_ddp.config.job import Job, identity
from fer_ddp.data.dataset import FERDataset, normalization, with_statistics
from fer_ddp.data.loader import BatchLoader
from fer_ddp.data.sampler import StepPlan, among, build_sampler, repeated
from fer_ddp.data.stream import StreamedSplit
from fer_ddp.data.targets import VoteTargets, vote_shares, vote_targets
from fer_ddp.errors import JobError
from fer_ddp.layers.batch_norm_groups import GroupedBatchNorm
from fer_ddp.layers.dropout import SamplePositions
from fer_ddp.models.build import build_model, prepare_model
from fer_ddp.models.structure import layers_by_depth
from fer_ddp.optim.distillation import softened
from fer_ddp.optim.ema import build_ema
from fer_ddp.optim.label_correction import LabelCorrection
from fer_ddp.optim.loss import class_weights, logit_offsets, smoothing_matrix
from fer_ddp.optim.optimizers import build_optimizer
from fer_ddp.optim.schedules import EarlyStopping, Schedule
from fer_ddp.precision import compute_dtype, grad_scaler, to_memory_format
from fer_ddp.training.autotune import choose_precision
from fer_ddp.training.cuda_graph import ForwardBackwardGraph, disabled_by
from fer_ddp.training.loop import Trainer
from fer_ddp.training.pretrained import freeze_layers, load_weights
from fer_ddp.training.sam import SharpnessAware
from fer_ddp.training.state import TrainingState
from fer_ddp.training.teacher import teacher_table
from shards.manifest import Manifest


def resolve_auto(job: Job, manifest: Manifest, device: torch.device) -> Job:
    """``job`` with its precision, memory format, mean, std and the average's warm-up resolved. Raises JobError.

    On a CPU this times a few steps, once for each kind of machine and model, and caches the result on disk.
    """
    model = _initialized_model(job, manifest)
    _check_sides(model, job, manifest.image_shape[0])
    precision, memory_format = choose_precision(model, device, manifest.image_shape, job.precision, job.memory_format)
    freeze_layers(model, job.model, len(manifest.class_names))
    _layers(model, job, len(manifest.class_names))
    data = with_statistics(job.data, manifest)
    return dataclasses.replace(job, precision=precision, memory_format=memory_format, data=data, ema=job.ema.resolved())


def _layers(model: nn.Module, job: Job, num_classes: int) -> list[list[str]] | None:
    """The layers of different learning rates, None where there is one rate. Raises JobError."""
    if job.optimizer.layer_decay is None:
        return None
    try:
        return layers_by_depth(model, num_classes)
    except ValueError as error:
        raise JobError(f"optimizer.layer_decay: {error}") from None


def _check_sides(model: nn.Module, job: Job, channels: int) -> None:
    """Raises JobError if ``model`` can't take images of each of ``image_size.sides``."""
    model.eval()
    for side in job.image_size.sides:
        try:
            with torch.no_grad():
                model(torch.zeros(1, channels, side, side))
        except (AssertionError, RuntimeError) as error:
            raise JobError(
                f"image_size.sides: {job.model.name} can't take images of {side} x {side} with the weights for "
                f"its own size ({str(error).splitlines()[0]}); choose larger sides, or a model that pools globally"
            ) from None
    model.train()


def build_trainer(
    job: Job, dataset: FERDataset | StreamedSplit, ranks: int, device: torch.device, *, pretrained: bool = True
) -> Trainer:
    """The trainer of one of ``ranks`` ranks, at step 0; on a single GPU it uses a CUDA graph if it can.

    Without ``pretrained``, the weights that ``job.model.weights`` names are not loaded, since a checkpoint will be.
    With more ranks than there are, it is one rank's share, whose batch norms wait for no other rank.
    """
    manifest, dtype = dataset.manifest, compute_dtype(job.precision)
    votes = None
    if job.data.targets != "label":
        votes = distributed.on_every_rank(partial(vote_targets, job.data.targets, job.data.path, dataset, dtype))
    samples = len(dataset) if votes is None else len(votes.used)
    steps = StepPlan(samples=samples, global_batch_size=job.global_batch_size, world_size=ranks)
    state = _first_state(job, manifest, steps, device, pretrained)
    if job.label_correction.momentum is not None:
        labels, classes = dataset.labels.to(device), len(manifest.class_names)
        state.label_correction = LabelCorrection(labels, classes, job.label_correction, dtype)
    teacher = None
    if job.distillation.teacher:
        table = distributed.rank_zero_call(partial(teacher_table, job, dataset, device))
        teacher = softened(table, job.distillation.temperature).to(device, dtype)
    counts: Sequence[int] = manifest.splits["train"].class_counts
    if votes is not None:
        counts = dataset.labels[votes.used].bincount(minlength=len(manifest.class_names)).tolist()
    weights, offsets = class_weights(job.loss, manifest.class_names, counts), logit_offsets(job.loss, counts)
    of_votes = partial(distributed.on_every_rank, partial(vote_shares, job.data.path, dataset))
    smoothing = smoothing_matrix(job.loss, manifest.class_names, of_votes)
    example = to_memory_format(torch.zeros(2, *manifest.image_shape, dtype=dtype, device=device), job.memory_format)
    trainer = Trainer(
        state=state,
        loader=build_loader(job, dataset, steps, device, votes, teacher, tuple(SamplePositions.of(state.model).units)),
        ddp_model=distributed.data_parallel(state.model, example),
        positions=SamplePositions.of(state.model),
        loss=job.loss,
        class_weights=None if weights is None else weights.to(device, dtype),
        logit_offsets=None if offsets is None else offsets.to(device, dtype),
        smoothing=None if smoothing is None else smoothing.to(device, dtype),
        has_sets=job.data.targets == "multi_target",
        distillation=job.distillation,
        grouped_norms=tuple(each for each in state.model.modules() if isinstance(each, GroupedBatchNorm)),
        ema=job.ema,
        gradient_clip_norm=job.optimizer.gradient_clip_norm,
        global_batch_size=job.global_batch_size,
        micro_batch_size=job.micro_batch_size,
        precision=job.precision,
    )
    if device.type == "cuda" and ranks == 1:
        if (key := disabled_by(job)) is None:
            trainer.graph = ForwardBackwardGraph(trainer.forward_backward, state)
        else:
            message = f"CUDA graph disabled: with {key} steps differ; training continues without it, more slowly"
            print(message, file=sys.stderr, flush=True)
    if job.optimizer.sam_radius > 0:
        trainer.sharpness_aware = SharpnessAware(
            trainer.graph or trainer.forward_backward, state, job.optimizer.sam_radius, job.optimizer.sam_every_steps
        )
    return trainer


def build_loader(
    job: Job,
    dataset: FERDataset | StreamedSplit,
    steps: StepPlan,
    device: torch.device,
    votes: VoteTargets | None = None,
    teacher: torch.Tensor | None = None,
    model_streams: tuple[str, ...] = (),
) -> BatchLoader:
    """The loader of ``job``'s batches; ``votes`` where they give the targets, the others as in `BatchLoader`."""
    data = with_statistics(job.data, dataset.manifest)
    mean, std = normalization(data, device, compute_dtype(job.precision))
    at = device if isinstance(dataset.images, torch.Tensor) else torch.device("cpu")
    if votes is None:
        sampler = build_sampler(job.data.order, dataset.labels, job.seed, at)
    else:
        sampler = among(votes.used.to(at), build_sampler(job.data.order, dataset.labels[votes.used], job.seed, at))
        votes = dataclasses.replace(votes, table=votes.table.to(device))
    if job.data.repeats > 1:
        sampler = repeated(job.data.repeats, job.global_batch_size, sampler)
    return BatchLoader(
        dataset,
        steps,
        sampler,
        augment=job.augment,
        image_size=job.image_size,
        total_steps=steps.end_of_epoch(job.epochs),
        seed=job.seed,
        mean=mean,
        std=std,
        memory_format=job.memory_format,
        device=device,
        votes=votes,
        teacher=teacher,
        model_streams=model_streams,
    )


def _first_state(
    job: Job, manifest: Manifest, steps: StepPlan, device: torch.device, pretrained: bool
) -> TrainingState:
    model = _initialized_model(job, manifest)
    if pretrained and job.model.weights is not None:
        distributed.on_every_rank(lambda: load_weights(model, job.model, manifest.class_names))
    model = prepare_model(
        model,
        device=device,
        precision=job.precision,
        memory_format=job.memory_format,
        world_size=steps.world_size,
        batch_norm_groups=job.model.batch_norm_groups,
    )
    freeze_layers(model, job.model, len(manifest.class_names))
    optimizer = build_optimizer(model, job.optimizer, _layers(model, job, len(manifest.class_names)))
    return TrainingState(
        model=model,
        ema=build_ema(model, job.ema),
        optimizer=optimizer,
        scaler=grad_scaler(device, job.precision),
        schedule=Schedule(
            optimizer,
            job.schedule,
            total_steps=steps.end_of_epoch(job.epochs),
            warmup_steps=steps.end_of_epoch(job.schedule.warmup_epochs),
        ),
        early_stopping=EarlyStopping(job.early_stopping),
        identity=identity(job, manifest.splits["train"]),
        image_shape=manifest.image_shape,
        class_names=manifest.class_names,
        untrained_classes=tuple(
            name
            for name, count in zip(manifest.class_names, manifest.splits["train"].class_counts, strict=True)
            if not count
        ),
    )


def _initialized_model(job: Job, manifest: Manifest) -> nn.Module:
    return build_model(
        job.model, seed=job.seed, image_shape=manifest.image_shape, num_classes=len(manifest.class_names)
    )
