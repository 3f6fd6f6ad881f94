"""The training data are one endless sequence of samples; a step takes the next ``global_batch_size`` positions.

Only the contiguous part of a step's positions that a rank takes depends on the ranks, so a recipe sees the same samples
in the same order on 1, 2 or 8 ranks, and the position in training is one integer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fer_ddp import randomness
from fer_ddp.errors import JobError


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPlan:
    """How steps and epochs divide the endless sequence."""

    samples: int
    """Samples in the split, N."""
    global_batch_size: int
    """Samples a step takes over all ranks, B."""
    world_size: int = 1
    """Number of ranks, W; each takes a contiguous 1/W of a step."""

    def __post_init__(self) -> None:
        if self.global_batch_size > self.samples:
            raise JobError(
                f"global_batch_size: {self.global_batch_size} is more than the {self.samples} training samples; "
                f"choose {self.samples} or less"
            )
        if self.global_batch_size % self.world_size:
            below = max(self.global_batch_size // self.world_size, 1) * self.world_size
            raise JobError(
                f"global_batch_size: {self.global_batch_size} can't be shared evenly by {self.world_size} ranks; "
                f"choose a multiple of {self.world_size}, such as {below}"
            )

    @property
    def local_batch_size(self) -> int:
        """Samples a step takes on one rank."""
        return self.global_batch_size // self.world_size

    def end_of_epoch(self, epoch: int) -> int:
        """The number of steps after which ``epoch`` epochs (rounded to whole steps) have been seen."""
        return (2 * epoch * self.samples + self.global_batch_size) // (2 * self.global_batch_size)

    def positions(self, step: int, rank: int = 0) -> range:
        """The positions that ``rank`` takes in ``step``, which counts from 0."""
        start = step * self.global_batch_size + rank * self.local_batch_size
        return range(start, start + self.local_batch_size)


Sampler = Callable[[range], Tensor]
"""The index of the sample at each position: a contiguous range of positions to int64 (positions,)."""


def shuffled_sampler(samples: int, seed: int, device: torch.device) -> Sampler:
    """Seeded permutations of the split, end to end: N positions from a multiple of N hold every sample once."""
    return _endless(samples, seed, "order", device)


def class_balanced_sampler(labels: Tensor, seed: int, device: torch.device) -> Sampler:
    """Every class equally often: a permutation of the classes every ``classes`` positions, then each class's own order.

    labels: int64 (samples,). Classes without samples are skipped.
    """
    present = labels.unique().tolist()
    members = [(labels == label).nonzero()[:, 0].to(device) for label in present]
    orders = [_endless(len(m), seed, f"order/class {c}", device) for c, m in zip(present, members, strict=True)]
    classes = len(present)

    def indices(positions: range) -> Tensor:
        position = torch.arange(positions.start, positions.stop, device=device)
        block = position // classes
        bits = randomness.random_bits(randomness.sample_keys(seed, "order/classes", block), classes).to(torch.int64)
        class_order = ((bits << 32) | torch.arange(classes, device=device)).sort(dim=1).values & 0xFFFFFFFF
        chosen = class_order.gather(1, (position % classes)[:, None])[:, 0]
        blocks = range(positions.start // classes, (positions.stop - 1) // classes + 1)
        # Each class occurs once in each block, so the block is the position in the class's own order.
        table = torch.stack([m[order(blocks)] for m, order in zip(members, orders, strict=True)])
        return table[chosen, block - blocks.start]

    return indices


def _endless(count: int, seed: int, stream: str, device: torch.device) -> Sampler:
    # Only the epochs of the last call, mostly one or two: permutations of millions of samples take much memory.
    orders: dict[int, Tensor] = {}

    def indices(positions: range) -> Tensor:
        first, last = positions.start // count, (positions.stop - 1) // count
        for epoch in orders.keys() - range(first, last + 1):
            del orders[epoch]
        for epoch in range(first, last + 1):
            if epoch not in orders:
                orders[epoch] = randomness.permutation(seed, f"{stream}/{epoch}", count, device)
        parts = [
            orders[e][max(positions.start - e * count, 0) : positions.stop - e * count] for e in range(first, last + 1)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return indices


def build_sampler(order: str, labels: Tensor, seed: int, device: torch.device) -> Sampler:
    """The sampler for ``data.order``; labels: int64 (samples,)."""
    if order == "class_balanced":
        return class_balanced_sampler(labels, seed, device)
    return shuffled_sampler(len(labels), seed, device)


def repeated(times: int, batch_size: int, sampler: Sampler) -> Sampler:
    """``sampler`` with each sample ``times`` times in a step of ``batch_size``, the next ones of the sequence after it.

    The positions asked for lie in one step. Repeats are ``batch_size / times`` apart, so neighbours, which mixup and
    CutMix pair, are different samples.
    """
    distinct = batch_size // times

    def indices(positions: range) -> Tensor:
        step, first = divmod(positions.start, batch_size)
        chosen = sampler(range(step * distinct, (step + 1) * distinct))
        return chosen.repeat(times)[first : first + len(positions)]

    return indices


def among(used: Tensor, sampler: Sampler) -> Sampler:
    """``sampler`` of as many samples as ``used``, int64 (samples used,), gives indices of: only those are shown."""
    return lambda positions: used[sampler(positions)]
