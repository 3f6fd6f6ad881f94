"""How much of each stage is timed."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    name: str
    repeats: int
    """Timed runs of each side, odd, taken in turns; one more, not counted, goes before."""
    train: int | None
    """Training images; None is all of FER2013's."""
    val: int | None
    shard_samples: int
    jpegs: int
    """JPEGs that are packed."""
    augmented_batches: int
    """Batches that are augmented at once where augmentation is timed alone."""
    batch_size: int | None
    """Images a training step; None is the recipe's."""
    steps: int
    """Training steps that are timed at once; an epoch's rate is theirs."""
    starts: int
    """Timed starts of ``train``; with more than one, one more goes before."""
    epochs: int
    """Epochs over which memory is watched."""


FULL = Sizes(
    name="full",
    repeats=5,
    train=None,
    val=None,
    shard_samples=2048,
    jpegs=60_000,
    augmented_batches=100,
    batch_size=None,
    steps=8,
    starts=5,
    epochs=20,
)
QUICK = Sizes(
    name="quick",
    repeats=5,
    train=960,
    val=160,
    shard_samples=240,
    jpegs=480,
    augmented_batches=10,
    batch_size=8,
    steps=1,
    starts=1,
    epochs=5,
)
