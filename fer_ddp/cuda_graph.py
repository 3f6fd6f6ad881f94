"""A step's kernels as one CUDA graph, for one GPU: they are started together, which singly takes longer than they do.

Everything random is a function of the samples' places, so a step is the same operations on other numbers, which is
what a graph can hold. Not run on a GPU yet; where it can't be made, the step is as without it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fer_ddp.batches import Samples
from fer_ddp.training_state import TrainingState

_WARM_UPS = 3
_TOLERANCE = 0.05
"""Of a gradient's norm: half precision, summed in another order, stays far below it."""


class GraphedGradients:
    """Like the ``gradients`` it is given, which its first call captures and tries against itself.

    ``gradients`` may not wait for the device, and takes samples of one shape.
    """

    def __init__(self, gradients: Callable[[Samples], Tensor], state: TrainingState) -> None:
        self._gradients, self._state = gradients, state
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Samples | None = None
        self._loss = torch.empty(0)

    def __call__(self, samples: Samples) -> Tensor:
        """The loss; the next call overwrites it and the gradients in the network's parameters."""
        if self._inputs is None:
            self._inputs = Samples(
                pixels=samples.pixels.clone(), labels=samples.labels.clone(), places=samples.places.clone()
            )
            try:
                self._graph = self._capture(self._inputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                print(f"a step can't be made one CUDA graph ({reason}); it takes longer without", flush=True)
        if self._graph is None:
            return self._gradients(samples)
        self._inputs.pixels.copy_(samples.pixels)
        self._inputs.labels.copy_(samples.labels)
        self._inputs.places.copy_(samples.places)
        self._graph.replay()
        return self._loss

    def _capture(self, inputs: Samples) -> torch.cuda.CUDAGraph:
        """The graph of ``inputs``' step; raises RuntimeError where there can't be one."""
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with self._state.kept():
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):  # what is made at the first call, such as cuDNN's handles, can't be captured
                    loss = self._gradients(inputs)
                expected = [loss.clone(), *(gradient.clone() for gradient in self._found())]
            torch.cuda.current_stream().wait_stream(stream)
            # Other threads, which read ahead, may go on meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._loss = self._gradients(inputs)
            graph.replay()
            for one_by_one, at_once in zip(expected, [self._loss, *self._found()], strict=True):
                one_by_one, at_once = one_by_one.nan_to_num(), at_once.nan_to_num()  # fp16 may overflow at first
                if not (one_by_one - at_once).norm() <= _TOLERANCE * one_by_one.norm():
                    raise RuntimeError("its gradients were others")
        return graph

    def _found(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._state.network.parameters() if parameter.grad is not None]
