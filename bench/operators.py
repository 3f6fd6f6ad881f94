"""``python -m bench.operators JOB [KEY=VALUE ...]``: how many operators a training step starts, by the step's part.

A step of small images is short, so on a GPU, and in a CUDA graph, it is the number of kernels that costs time. Counted
are the operators that compute: no views, no allocations, and not what an operator calls in turn.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from bench.data import RECIPES
from fer_ddp.cli import exit_status_of
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.data.loader import BatchLoader
from fer_ddp.layers.dropout import PositionDropout
from fer_ddp.training.loop import Trainer
from fer_ddp.training.setup import build_trainer, resolve_auto

VIEWS = set(
    """alias as_strided broadcast_to chunk detach detach_ diagonal expand expand_as flatten movedim narrow permute ravel
    real reshape_as resolve_conj resolve_neg select slice split split_with_sizes squeeze squeeze_ t t_ tensor_split
    transpose transpose_ unbind unflatten unfold unsafe_split unsqueeze unsqueeze_ view view_as _reshape_alias
    _unsafe_view""".split()  # noqa: SIM905
)
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_"}
MAYBE_VIEWS = {"contiguous", "reshape", "to", "type_as"}
"""They compute only where they copy."""
MARK = "part: "


def count_operators(step: Callable[[], object]) -> Counter[tuple[str, str]]:
    """How often ``step`` starts each operator, by (part, operator); `marked` tells the parts."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    return Counter(
        (_part(event), event.name.removeprefix("aten::")) for event in found.events() or () if _computes(event)
    )


def _computes(event: FunctionEvent) -> bool:
    name = event.name.removeprefix("aten::")
    if name == event.name or name in VIEWS | ALLOCATIONS | {"promote_types"}:
        return False
    if name in MAYBE_VIEWS and not event.cpu_children:
        return False
    return not any(parent.name.startswith("aten::") for parent in _parents(event))


def _part(event: FunctionEvent) -> str:
    for parent in _parents(event):
        if parent.name.startswith(MARK):
            return parent.name.removeprefix(MARK)
        if parent.name.startswith("Optimizer.step"):  # torch's own mark
            return "optimizer"
    return "the rest"


def _parents(event: FunctionEvent) -> Iterator[FunctionEvent]:
    while (parent := event.cpu_parent) is not None:
        yield parent
        event = parent


@contextmanager
def marked(trainer: Trainer) -> Iterator[None]:
    """Mark the parts of a step of ``trainer``."""
    model = trainer.state.model
    with ExitStack() as stack:

        def mark(owner: Any, name: str, part: str) -> None:
            original = getattr(owner, name)

            def inside(*arguments: Any, **options: Any) -> Any:
                with record_function(MARK + part):
                    return original(*arguments, **options)

            stack.enter_context(mock.patch.object(owner, name, inside))

        mark(BatchLoader, "raw_batch", "the batch's samples")
        mark(BatchLoader, "augmented", "augmentation")
        mark(trainer.positions, "set", "dropout's keys")
        mark(PositionDropout, "forward", "dropout")
        mark(model, "forward", "model, forward")
        mark(torch.Tensor, "backward", "model and dropout, backward")
        yield


def main(arguments: list[str]) -> int:
    return exit_status_of(lambda: _print_table(arguments))


def _print_table(arguments: list[str]) -> None:
    recipe, *overrides = arguments
    path = Path(recipe) if Path(recipe).exists() else RECIPES / f"{recipe}.yaml"
    job = load_job(path, overrides)
    dataset, device = FERDataset(job.data.path, "train"), torch.device("cpu")
    trainer = build_trainer(resolve_auto(job, dataset.manifest, device), dataset, 1, device)

    def step() -> None:
        trainer.step(trainer.loader.raw_batch(trainer.state.step))

    step()
    step()
    with marked(trainer):
        counts = count_operators(step)
    parts: Counter[str] = Counter()
    for (part, _), count in counts.items():
        parts[part] += count
    print("| part | operators | of them |\n|---|---:|---|")
    for part, total in parts.most_common():
        kinds = [f"{name} {count}" for (where, name), count in counts.most_common() if where == part]
        print(f"| {part} | {total} | {', '.join(kinds)} |")
    print(f"| all | {parts.total()} | |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
