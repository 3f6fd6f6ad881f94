"""One optimizer step, the same for every recipe: augment, forward and backward (in pieces, if asked), clip, update."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from fer_ddp import distributed
from fer_ddp.batches import Batch, Samples
from fer_ddp.config import Job
from fer_ddp.dropout import CurrentPlaces
from fer_ddp.ema import update_ema
from fer_ddp.loss import summed_loss
from fer_ddp.precision import autocast
from fer_ddp.training_state import TrainingState


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainStep:
    """Call it with a step's samples to train it."""

    job: Job
    state: TrainingState
    gradients: Callable[[Samples], Tensor]
    """`Gradients`, or `fer_ddp.cuda_graph.GraphedGradients` of it."""

    def __call__(self, samples: Samples) -> Tensor:
        """This rank's part of the global batch's mean loss before the update: a float64 scalar on the device."""
        job, state, scaler = self.job, self.state, self.state.scaler
        loss = self.gradients(samples)
        if job.optimizer.gradient_clip_norm is not None:
            scaler.unscale_(state.optimizer)
            clip_grad_norm_(state.network.parameters(), job.optimizer.gradient_clip_norm)
        scaler.step(state.optimizer)
        scaler.update()
        if state.ema is not None:
            update_ema(state.ema, state.network, job.ema)
        state.step_done(loss)
        return loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradients:
    """Call it with a step's samples to leave their gradients in the network's parameters; gives the loss."""

    job: Job
    state: TrainingState
    augmented: Callable[[Samples], Batch]
    wrapped: nn.Module
    """The network as DDP wraps it."""
    current: CurrentPlaces
    """Tells the dropout layers whose masks to draw."""
    class_weights: Tensor | None

    def __call__(self, samples: Samples) -> Tensor:
        """As `TrainStep`. Nothing in it waits for the device, but torch's synchronized batch norm on several GPUs."""
        self.state.optimizer.zero_grad()
        batch = self.augmented(samples)
        loss = torch.zeros((), dtype=torch.float64, device=batch.labels.device)
        pieces = range(0, len(batch.labels), self.job.micro_batch_size or len(batch.labels))
        for start in pieces:
            piece = slice(start, start + pieces.step)
            if start == pieces[-1]:
                loss += self._backward(batch, piece)
            else:
                with distributed.without_gradient_exchange(self.wrapped):
                    loss += self._backward(batch, piece)
        return loss

    def _backward(self, batch: Batch, piece: slice) -> Tensor:
        self.current.set(batch.places[piece])
        with autocast(batch.images.device, self.job.precision):
            logits = self.wrapped(batch.images[piece])
        loss = summed_loss(logits, batch.targets[piece], self.job.loss, self.class_weights)
        loss = loss / self.job.global_batch_size
        # DDP takes the mean of the ranks' gradients where their sum is wanted.
        self.state.scaler.scale(loss * distributed.world_size()).backward()
        self.state.count_right(logits, batch.labels[piece])
        return loss.detach().double()
