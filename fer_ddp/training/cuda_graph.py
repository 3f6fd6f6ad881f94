"""A step's kernels as one CUDA graph, for one GPU: launching them one by one takes longer than running them.

Everything random is a function of the samples' positions, so every step is the same operations on other inputs, which
is what a graph can replay. Not run on a GPU yet; where capturing fails, training continues without the graph.
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from fer_ddp.config.job import Job
from fer_ddp.data.loader import RawBatch
from fer_ddp.training.state import TrainingState

_WARM_UPS = 3
_TOLERANCE, _NOISE = 0.05, 0.001
"""Relative to a gradient's norm, and to the norm of all gradients together, since the gradient of a bias before batch
norm is rounding noise. Half precision, summed in another order, stays far below both."""


def disabled_by(job: Job) -> str | None:
    """The key of ``job`` that makes steps different operations, if there is one; a graph replays one step."""
    different = {
        "image_size.sides": bool(job.image_size.sides),
        "model.batch_norm_groups": job.model.batch_norm_groups > 1,
        "label_correction.momentum": job.label_correction.momentum is not None,
        "augment.mixing_until": job.augment.mixes and job.augment.mixing_until < 1,
    }
    return next((key for key, is_set in different.items() if is_set), None)


class ForwardBackwardGraph:
    """Replays the ``forward_backward`` it is given; the first call captures it and compares the two.

    ``forward_backward`` must not wait for the device, and all batches have one shape; see `disabled_by`.
    """

    def __init__(self, forward_backward: Callable[[RawBatch], Tensor], state: TrainingState) -> None:
        self._forward_backward, self._state = forward_backward, state
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: RawBatch | None = None
        self._loss = torch.empty(0)
        self.replays = 0
        """Steps that the graph made."""

    def __call__(self, raw: RawBatch) -> Tensor:
        """Returns the loss. The next call overwrites it, and the gradients in the model's parameters."""
        if self._inputs is None:
            self._inputs = RawBatch(
                pixels=raw.pixels.clone(),
                labels=raw.labels.clone(),
                indices=raw.indices.clone(),
                positions=raw.positions.clone(),
            )
            try:
                self._graph = self._capture(self._inputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                message = f"CUDA graph disabled: {reason}; training continues without it, more slowly"
                print(message, file=sys.stderr, flush=True)
        if self._graph is None:
            return self._forward_backward(raw)
        self._inputs.pixels.copy_(raw.pixels)
        self._inputs.labels.copy_(raw.labels)
        self._inputs.indices.copy_(raw.indices)
        self._inputs.positions.copy_(raw.positions)
        self._graph.replay()
        self.replays += 1
        return self._loss

    def _capture(self, inputs: RawBatch) -> torch.cuda.CUDAGraph:
        """The graph of a step on ``inputs``; raises RuntimeError if it can't be captured or computes something else."""
        outside, stream, graph = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with self._state.preserve_state():
            stream.wait_stream(outside)
            with torch.cuda.stream(stream):
                for _ in range(
                    _WARM_UPS
                ):  # what is created at the first call, such as cuDNN's handles, can't be captured
                    loss = self._forward_backward(inputs)
                expected = [loss.clone(), *(gradient.clone() for gradient in self._gradients())]
            outside.wait_stream(stream)
            try:
                # Other threads, which read ahead, may use the GPU meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    self._loss = self._forward_backward(inputs)
            finally:
                torch.cuda.set_stream(outside)  # a failed capture does not restore it
            graph.replay()
            if not _alike(expected, [self._loss, *self._gradients()]):
                raise RuntimeError("replayed gradients differ from eager ones")
        return graph

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._state.model.parameters() if parameter.grad is not None]


def _alike(eager: list[Tensor], replayed: list[Tensor]) -> bool:
    """Whether both are the loss and gradients of the same step; fp16's gradients may overflow at first."""
    expected, found = ([tensor.double().nan_to_num() for tensor in each] for each in (eager, replayed))
    noise = _NOISE * float(torch.stack([gradient.norm() for gradient in expected[1:]]).norm())
    return all(
        float((one - other).norm()) <= _TOLERANCE * float(one.norm()) + noise
        for one, other in zip(expected, found, strict=True)
    )
