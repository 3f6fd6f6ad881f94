"""The training loop and its step, the same for every recipe: augment, forward, backward, clip, update."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from fer_ddp import distributed
from fer_ddp.config.job import Job
from fer_ddp.data.loader import Batch, BatchLoader, RawBatch
from fer_ddp.errors import Interrupted
from fer_ddp.layers.batch_norm_groups import GroupedBatchNorm, merge_statistics
from fer_ddp.layers.dropout import SamplePositions
from fer_ddp.metrics.classification import ValidationMetrics
from fer_ddp.optim.distillation import DistillationConfig, distilled_loss
from fer_ddp.optim.ema import EmaConfig, update_ema
from fer_ddp.optim.loss import LossConfig, summed_loss
from fer_ddp.optim.optimizers import skip_update_if
from fer_ddp.precision import autocast
from fer_ddp.runs.logger import NullLogger
from fer_ddp.runs.state_writer import StateWriter
from fer_ddp.signals import StopFlag
from fer_ddp.training.sam import SharpnessAware
from fer_ddp.training.state import TrainingState
from fer_ddp.training.watchdog import Watchdog


def run_epochs(
    job: Job,
    writer: StateWriter,
    trainer: "Trainer",
    evaluate: Callable[[], ValidationMetrics | None],
    logger: NullLogger,
    stop: StopFlag,
    watchdog: Watchdog,
) -> None:
    """The training loop, from ``trainer.state`` to the end of the last epoch.

    Raises Interrupted after a signal, once the state is saved; RunError if the loss is not finite.
    """
    state, loader, steps = trainer.state, trainer.loader, trainer.loader.steps
    consensus = distributed.StopConsensus()

    def save(*, wait: bool = False) -> None:
        state.check_finite()
        distributed.rank_zero_call(partial(writer.save, state.state_dict(), wait=wait))

    for epoch in range(state.epoch + 1, job.epochs + 1):
        logger.begin_epoch(epoch, state.step, steps.end_of_epoch(epoch))
        while state.step < steps.end_of_epoch(epoch):
            loss = trainer.step(loader.raw_batch(state.step))
            logger.step()
            watchdog.beat()
            if job.log.every_steps and state.step % job.log.every_steps == 0:
                mean_loss = distributed.all_reduce_sum(loss).item()
                logger.log_step({"step": state.step, "loss": mean_loss, "lr": state.lr})
                state.logged_steps += 1
            due_here = distributed.is_main() and writer.is_due()
            stop_now, is_due = consensus.ask(stop.is_up or state.has_diverged, due_here)
            if stop_now:
                save(wait=True)
                raise Interrupted(f"stopped by {stop.signal_name or 'a signal'} after step {state.step}")
            if is_due or (job.checkpoint.every_steps and state.step % job.checkpoint.every_steps == 0):
                save()
        state.check_finite()  # only now has a GPU finished the epoch's steps
        logger.steps_done()
        if job.checkpoint.every_seconds is None or epoch == job.epochs:
            save()
        train = state.train_metrics(steps.end_of_epoch(epoch) - steps.end_of_epoch(epoch - 1))
        try:
            val = evaluate() if epoch % job.evaluate.every_epochs == 0 or epoch == job.epochs else None
        except Interrupted:
            save(wait=True)  # the evaluation will be repeated
            raise
        if state.early_stopping.stops_after(val):
            save()
        is_best, stop_now = state.epoch_done(val)
        if is_best and distributed.is_main():
            writer.keep_best(state.weights())
        logger.epoch(
            {"epoch": epoch, "step": state.step, "lr": state.lr, "train": train} | ({"val": val} if val else {})
        )
        if stop_now:
            break
    distributed.rank_zero_call(writer.finish)


@dataclass(kw_only=True)
class Trainer:
    """The model with everything that trains it."""

    state: TrainingState
    loader: BatchLoader
    ddp_model: nn.Module
    """The model as DDP wraps it."""
    positions: SamplePositions
    """Tells the dropout layers which samples are in the batch."""
    loss: LossConfig
    class_weights: Tensor | None
    """(classes,)."""
    logit_offsets: Tensor | None
    """(classes,), see `loss.logit_adjustment`."""
    smoothing: Tensor | None
    """(classes, classes), see `loss.smoothing_matrix`."""
    has_sets: bool
    """Whether the targets are sets of classes."""
    distillation: DistillationConfig
    ema: EmaConfig
    grouped_norms: tuple[GroupedBatchNorm, ...]
    """The batch norms of the model, with `model.batch_norm_groups`."""
    gradient_clip_norm: float | None
    global_batch_size: int
    micro_batch_size: int | None
    precision: str
    graph: Callable[[RawBatch], Tensor] | None = None
    """`forward_backward` as one CUDA graph, for one GPU."""
    sharpness_aware: SharpnessAware | None = None
    """Wraps ``graph`` or `forward_backward`."""

    def step(self, raw: RawBatch) -> Tensor:
        """Train on one batch; returns what `forward_backward` does."""
        state, scaler = self.state, self.state.scaler
        loss = (self.sharpness_aware or self.graph or self.forward_backward)(raw)
        if self.gradient_clip_norm is not None:
            scaler.unscale_(state.optimizer)
            clip_grad_norm_(state.model.parameters(), self.gradient_clip_norm)
        is_bad = loss.isfinite().logical_not()
        if not scaler.is_enabled():  # else it skips such an update itself
            skip_update_if(state.optimizer, is_bad)
        scaler.step(state.optimizer)
        scaler.update()
        if state.ema is not None:
            update_ema(state.ema, state.model, self.ema)
        state.step_done(loss, is_bad)
        return loss

    def forward_backward(self, raw: RawBatch) -> Tensor:
        """Compute the gradients of a batch, in the model's parameters.

        Returns this rank's part of the global batch's mean loss before the update: a float64 scalar on the device.
        Nothing here waits for the device.
        """
        self.state.optimizer.zero_grad()
        batch = self.loader.augmented(raw)
        size = self.micro_batch_size or len(batch.labels)
        *others, last = [slice(start, start + size) for start in range(0, len(batch.labels), size)]
        with distributed.without_gradient_exchange(self.ddp_model):
            losses = [self._backward(batch, rows) for rows in others]
        losses.append(self._backward(batch, last))
        merge_statistics(self.grouped_norms)
        return sum(losses[1:], start=losses[0])

    def loss_and_logits(
        self, images: Tensor, targets: Tensor, indices: Tensor, teacher: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """This part's share of the global batch's mean loss, and the model's output; see `Batch` for the arguments.

        Like `BatchLoader.augmented` it can be traced as one graph, the same one for every step.
        """
        with autocast(images.device, self.precision):
            logits: Tensor = self.ddp_model(images)
        correction = self.state.label_correction
        if correction is not None and self.state.epoch >= correction.start_epoch:
            targets = correction.corrected(indices, logits)
        loss = summed_loss(
            logits, targets, self.loss, self.class_weights, self.logit_offsets, self.has_sets, self.smoothing
        )
        if teacher is not None:
            loss = distilled_loss(loss, logits, teacher, self.distillation)
        return loss / self.global_batch_size, logits

    def _backward(self, batch: Batch, rows: slice) -> Tensor:
        self.positions.set(batch.positions[rows], batch.keys[:, rows])
        teacher = None if batch.teacher is None else batch.teacher[rows]
        loss, logits = self.loss_and_logits(batch.images[rows], batch.targets[rows], batch.indices[rows], teacher)
        ranks = distributed.world_size()  # DDP averages the ranks' gradients; the sum is needed
        self.state.scaler.scale(loss * ranks if ranks > 1 else loss).backward()
        self.state.count_correct(logits, batch.labels[rows])
        return loss.detach().double()
