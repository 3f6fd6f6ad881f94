"""``python -m bench.ablations``: finished runs against a reference recipe, paired by seed and image, as a table.

python -m bench.ablations runs/cpu_search/cpu-size-seed0 runs/cpu_search --out docs/ablations.md
"""

import argparse
import math
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from fer_ddp.augment.image_size import training_side
from fer_ddp.cli import exit_status_of
from fer_ddp.config.job import Job, flatten
from fer_ddp.config.load import job_from_dict
from fer_ddp.config.recipes import NOT_OF_THE_RECIPE
from fer_ddp.errors import JobError
from fer_ddp.models.registry import create_model
from fer_ddp.runs.checkpoint import load_checkpoint
from fer_ddp.runs.files import LAST
from fer_ddp.runs.finished import FinishedRun, find_runs, read_runs
from fer_ddp.statistics.comparison import paired_interval
from fer_ddp.statistics.crossed import critical_value, mean_squares, total_variance, variance_terms
from fer_ddp.statistics.intervals import Interval
from shards.files import atomic_write_bytes

PAGE = """# Ablations

Each row is one change of `{reference}`, whose val accuracy is {accuracy} %. Written by `python -m bench.ablations`
from finished runs; `jobs/arrays/cpu_search.yaml` makes them: `fer-ddp launch local cpu_search`.

{table}

Differences are in points of val accuracy, as `evaluate` measures it (views included), paired by seed and image; the
interval, 95 %, is over seeds and images (over images alone where there is one seed). With so many rows some intervals
exclude 0 by chance. Cost: images x multiply-adds of a forward pass of convolutions and linear layers in training,
second passes of sharpness-aware steps included, relative to the reference; Muon's matrix products are not counted.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Finished runs of one job with several seeds."""

    name: str
    """The folder's name without the seed."""
    job: Job
    runs: dict[int, FinishedRun]
    """By seed."""

    def correct(self, seed: int) -> NDArray[np.int64]:
        """(samples,): 1 where the prediction for a sample of val is right, else 0."""
        predictions = self.runs[seed].predictions("val")
        return np.asarray(predictions.predicted == predictions.labels, dtype=np.int64)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ablations", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "reference", type=Path, metavar="REFERENCE", help="a run of the recipe the others are changes of"
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, metavar="PAGE.md", help="write the page here, instead of printing it")
    options = parser.parse_args(arguments)
    return exit_status_of(lambda: _write(options.reference, options.runs, options.out))


def _write(reference: Path, runs: Sequence[Path], out: Path | None) -> None:
    text = page(reference, runs)
    if out is None:
        print(text, end="")
    else:
        atomic_write_bytes(out, text.encode())


def page(reference: Path, paths: Sequence[Path]) -> str:
    """The page on the finished runs in ``paths`` against the recipe of the run ``reference``. Raises JobError."""
    finished, skipped = read_runs(find_runs([reference, *paths]))
    for run in skipped:
        print(f"{run.path} {run.reason}", file=sys.stderr)
    recipes = _recipes([run for run in finished if "val" in run.splits and not run.members])
    base = next((each for each in recipes if any(run.path == reference for run in each.runs.values())), None)
    if base is None:
        raise JobError(f"{reference}: is not a finished run with val predictions; name one of the reference recipe")
    rows = []
    for recipe in recipes:
        seeds = sorted(recipe.runs.keys() & base.runs.keys())
        if recipe is base or not seeds:
            continue
        _check_same_samples(base.runs[seeds[0]], recipe.runs[seeds[0]])
        tables = [np.stack([each.correct(seed) for seed in seeds]) for each in (recipe, base)]
        difference, interval = paired_difference(*tables)
        rows.append((difference, _row(recipe, base, seeds, float(tables[0].mean()), difference, interval)))
    accuracies = [100 * float(base.correct(seed).mean()) for seed in sorted(base.runs)]
    heads = ["change", "keys", "seeds", "val, %", "difference", "95 % interval", "cost"]
    table = [_line(heads), _line(["---"] * 2 + ["---:"] * 5), *(row for _, row in sorted(rows, reverse=True))]
    shown = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
    return PAGE.format(reference=base.name, accuracy=shown, table="\n".join(table))


def paired_difference(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[float, Interval]:
    """The first accuracy minus the second, and its interval over seeds and samples.

    first, second: (seeds, samples), 1 for a right prediction; row s of both has the same seed. The differences are one
    table of seeds crossed with samples (`fer_ddp.statistics.crossed`); of one seed, samples alone vary.
    """
    differences = first - second
    mean = float(differences.mean())
    seeds, samples = differences.shape
    terms = variance_terms(differences.mean(axis=0), [mean_squares(differences)] if seeds > 1 else [])
    if seeds == 1 or total_variance(terms) == 0:
        return mean, paired_interval(int((differences[0] > 0).sum()), int((differences[0] < 0).sum()), samples)
    half = critical_value(terms, 0.025) * math.sqrt(total_variance(terms))
    return mean, Interval(mean - half, mean + half)


def forward_cost(recipe: Recipe) -> float:
    """Multiply-adds of all forward passes of a training run, of convolutions and linear layers."""
    job, run = recipe.job, next(iter(recipe.runs.values()))
    channels, height, _ = load_checkpoint(run.path / "checkpoints" / f"{LAST}.safetensors")["image_shape"]
    steps = int(run.summary["steps"])
    sides = [training_side(job.image_size, step, steps) or height for step in range(steps)]
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = create_model(
            job.model.name,
            job.model.arguments,
            in_channels=channels,
            image_size=height,
            num_classes=len(run.class_names),
        ).eval()
    passes = 1 + 1 / job.optimizer.sam_every_steps if job.optimizer.sam_radius else 1
    total = 0.0
    for side in set(sides):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, channels, side, side, device="meta"))
        total += counter.get_total_flops() / 2 * sides.count(side)
    return total * job.global_batch_size * passes


def _recipes(runs: Sequence[FinishedRun]) -> list[Recipe]:
    jobs: dict[Path, Job] = {run.path: job_from_dict(run.job, str(run.path / "config.yaml")) for run in runs}
    groups: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        groups[repr(sorted(_keys(jobs[run.path]).items()))].append(run)
    return [
        Recipe(
            name=re.sub(r"-seed\d+$", "", members[0].path.name),
            job=jobs[members[0].path],
            runs={run.seed: run for run in members if run.seed is not None},
        )
        for members in groups.values()
    ]


def _keys(job: Job) -> dict[str, object]:
    """The keys that define a recipe, with today's defaults for those of later versions."""
    return {
        key: value
        for key, value in flatten(job.to_dict()).items()
        if not any(key == free or key.startswith(f"{free}.") for free in NOT_OF_THE_RECIPE)
    }


def _check_same_samples(first: FinishedRun, second: FinishedRun) -> None:
    if first.data_digest != second.data_digest:
        raise JobError(f"{second.path}: was trained on other data than {first.path}; leave it out")


def _row(
    recipe: Recipe, base: Recipe, seeds: Sequence[int], accuracy: float, difference: float, interval: Interval
) -> str:
    own, others = _keys(recipe.job), _keys(base.job)
    changed = [
        f"`{key}={own.get(key)}`" for key in sorted(own.keys() | others.keys()) if own.get(key) != others.get(key)
    ]
    return _line(
        [
            recipe.name,
            " ".join(changed),
            ", ".join(map(str, seeds)),
            f"{100 * accuracy:.2f}",
            f"{100 * difference:+.2f}",
            f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}",
            f"{forward_cost(recipe) / forward_cost(base):.2f}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
