"""A step's kernels as one CUDA graph, for one GPU: they are started together, which singly takes longer than they do.

Everything random is a function of the samples' positions, so a step is the same operations on other numbers, which is
what a graph can hold. Not run on a GPU yet; where it can't be made, the step is as without it.
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from fer_ddp.data.loader import RawBatch
from fer_ddp.training.state import TrainingState

_WARM_UPS = 3
_TOLERANCE, _NOISE = 0.05, 0.001
"""Of a gradient's norm, and of that of all together, since a bias before batch norm has rounding noise for a gradient:
half precision, summed in another order, stays far below."""


class ForwardBackwardGraph:
    """Like the ``forward_backward`` it is given, which its first call captures and tries against itself.

    ``forward_backward`` may not wait for the device, and takes batches of one shape.
    """

    def __init__(self, forward_backward: Callable[[RawBatch], Tensor], state: TrainingState) -> None:
        self._forward_backward, self._state = forward_backward, state
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: RawBatch | None = None
        self._loss = torch.empty(0)

    def __call__(self, raw: RawBatch) -> Tensor:
        """The loss; the next call overwrites it and the gradients in the model's parameters."""
        if self._inputs is None:
            self._inputs = RawBatch(
                pixels=raw.pixels.clone(), labels=raw.labels.clone(), positions=raw.positions.clone()
            )
            try:
                self._graph = self._capture(self._inputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                sentence = f"CUDA graph disabled: {reason}; training continues without it, more slowly"
                print(sentence, file=sys.stderr, flush=True)
        if self._graph is None:
            return self._forward_backward(raw)
        self._inputs.pixels.copy_(raw.pixels)
        self._inputs.labels.copy_(raw.labels)
        self._inputs.positions.copy_(raw.positions)
        self._graph.replay()
        return self._loss

    def _capture(self, inputs: RawBatch) -> torch.cuda.CUDAGraph:
        """The graph of ``inputs``' step; raises RuntimeError where there can't be one."""
        outside, stream, graph = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with self._state.preserve_state():
            stream.wait_stream(outside)
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):  # what is made at the first call, such as cuDNN's handles, can't be captured
                    loss = self._forward_backward(inputs)
                expected = [loss.clone(), *(gradient.clone() for gradient in self._found())]
            outside.wait_stream(stream)
            try:
                # Other threads, which read ahead, may go on meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    self._loss = self._forward_backward(inputs)
            finally:
                torch.cuda.set_stream(outside)  # which a capture that fails leaves undone
            graph.replay()
            if not _alike(expected, [self._loss, *self._found()]):
                raise RuntimeError("replayed gradients differ from eager ones")
        return graph

    def _found(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._state.model.parameters() if parameter.grad is not None]


def _alike(one_by_one: list[Tensor], at_once: list[Tensor]) -> bool:
    """Whether the same step gave both: the loss, then the gradients. Those of fp16 may overflow at first."""
    expected, found = ([tensor.double().nan_to_num() for tensor in each] for each in (one_by_one, at_once))
    noise = _NOISE * float(torch.stack([gradient.norm() for gradient in expected[1:]]).norm())
    return all(
        float((one - other).norm()) <= _TOLERANCE * float(one.norm()) + noise
        for one, other in zip(expected, found, strict=True)
    )
