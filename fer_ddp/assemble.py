"""Puts together what a job trains with: its network and all that moves with it, its batches, its step."""

import dataclasses

import torch
from torch import nn

from fer_ddp import distributed
from fer_ddp.batches import Batches
from fer_ddp.config import Job
from fer_ddp.cuda_graph import GraphedGradients
from fer_ddp.data import FERDataset, with_statistics
from fer_ddp.dropout import CurrentPlaces
from fer_ddp.ema import build_ema
from fer_ddp.loss import balanced_class_weights
from fer_ddp.network import build_network, place_network
from fer_ddp.optim import build_optimizer
from fer_ddp.precision import compute_dtype, decide, grad_scaler, to_memory_format
from fer_ddp.schedule import EarlyStopping, Schedule
from fer_ddp.sequence import Steps
from fer_ddp.stream import StreamedSplit
from fer_ddp.train_step import Gradients, TrainStep
from fer_ddp.training_state import TrainingState
from shards.manifest import Manifest


def decided(job: Job, manifest: Manifest, device: torch.device) -> Job:
    """``job`` with what it leaves open settled: precision, memory format, mean and std. Raises JobError."""
    network = _initialized_network(job, manifest, CurrentPlaces())
    precision, memory_format = decide(network, device, manifest.image_shape, job.precision, job.memory_format)
    data = with_statistics(job.data, manifest)
    return dataclasses.replace(job, precision=precision, memory_format=memory_format, data=data)


def assemble(
    job: Job, dataset: FERDataset | StreamedSplit, ranks: int, device: torch.device
) -> tuple[Batches, TrainStep]:
    """What one of ``ranks`` ranks trains with, at step 0: on one GPU alone by a CUDA graph.

    Called with more ranks than there are, it gives one rank's share, whose batch norms have nobody to wait for.
    """
    manifest, dtype = dataset.manifest, compute_dtype(job.precision)
    steps = Steps(samples=len(dataset), global_batch_size=job.global_batch_size, world_size=ranks)
    current = CurrentPlaces()
    state = _first_state(job, manifest, steps, current, device)
    batches = Batches(job, dataset, steps, device)
    weights = balanced_class_weights(manifest.splits["train"].class_counts)
    example = to_memory_format(torch.zeros(2, *manifest.image_shape, dtype=dtype, device=device), job.memory_format)
    gradients = Gradients(
        job=job,
        state=state,
        augmented=batches.augmented,
        wrapped=distributed.data_parallel(state.network, example),
        current=current,
        class_weights=weights.to(device, dtype) if job.loss.class_weights == "balanced" else None,
    )
    graphed = device.type == "cuda" and ranks == 1
    train_step = TrainStep(job=job, state=state, gradients=GraphedGradients(gradients, state) if graphed else gradients)
    return batches, train_step


def _first_state(
    job: Job, manifest: Manifest, steps: Steps, current: CurrentPlaces, device: torch.device
) -> TrainingState:
    network = place_network(
        _initialized_network(job, manifest, current),
        device=device,
        precision=job.precision,
        memory_format=job.memory_format,
        world_size=steps.world_size,
    )
    optimizer = build_optimizer(network, job.optimizer)
    return TrainingState(
        network=network,
        ema=build_ema(network, job.ema),
        optimizer=optimizer,
        scaler=grad_scaler(device, job.precision),
        schedule=Schedule(
            optimizer,
            job.schedule,
            total_steps=steps.end_of_epoch(job.epochs),
            warmup_steps=steps.end_of_epoch(job.schedule.warmup_epochs),
        ),
        early_stopping=EarlyStopping(job.early_stopping),
        image_shape=manifest.image_shape,
        class_names=manifest.class_names,
    )


def _initialized_network(job: Job, manifest: Manifest, current: CurrentPlaces) -> nn.Module:
    return build_network(
        job.model,
        seed=job.seed,
        image_shape=manifest.image_shape,
        num_classes=len(manifest.class_names),
        current=current,
    )
