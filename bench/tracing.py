"""``python -m bench.tracing [JOB ...]``: whether torch.compile can trace a step, recipe by recipe.

Augmentation is to be one graph, and the network with its loss another, and no later step may need another graph. Only
the tracing is counted, so nothing is generated or compiled, and no C++ compiler is needed.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch._dynamo
from torch import Tensor

from bench.data import RECIPES
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import JobError
from fer_ddp.training.loop import Trainer
from fer_ddp.training.setup import build_trainer

STEPS = 20


class Traced:
    """A function compiled as it is, which counts its graphs and its traces, and why it was traced again."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.graphs = 0
        self._compiled = torch.compile(function, backend=self._keep, fullgraph=True, dynamic=False)

    def _keep(self, graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward

    def __call__(self, *arguments: Any) -> Any:
        return self._compiled(*arguments)


@contextmanager
def traced(trainer: Trainer) -> Iterator[tuple[Traced, Traced]]:
    """``trainer`` with its augmentation and its loss traced; with fullgraph, a break is an error."""
    torch._dynamo.reset()
    augmented, loss = Traced(trainer.loader.augmented), Traced(trainer.loss_and_logits)
    with (
        mock.patch.object(trainer.loader, "augmented", augmented),
        mock.patch.object(trainer, "loss_and_logits", loss),
    ):
        yield augmented, loss


def losses_of(trainer: Trainer, steps: int) -> list[float]:
    return [float(trainer.step(trainer.loader.raw_batch(trainer.state.step))) for _ in range(steps)]


def main(arguments: list[str]) -> int:
    given = [argument for argument in arguments if "=" not in argument]
    overrides = [argument for argument in arguments if "=" in argument]
    recipes = [Path(name) for name in given] or sorted(RECIPES.glob("*.yaml"))
    print("| recipe | graphs of augmentation | of network and loss | the losses of 20 steps |\n|---|---:|---:|---|")
    for recipe in recipes:
        job = load_job(recipe, ["precision=float32", "memory_format=channels_last", *overrides])
        try:
            plain, trainer = (
                build_trainer(job, FERDataset(job.data.path, "train"), 1, torch.device("cpu")) for _ in range(2)
            )
        except JobError as error:
            print(f"| {recipe.stem} | | | {error} |")
            continue
        with traced(trainer) as (augmented, loss):
            same = losses_of(trainer, STEPS) == losses_of(plain, STEPS)
        print(f"| {recipe.stem} | {augmented.graphs} | {loss.graphs} | {'equal' if same else 'others'} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
