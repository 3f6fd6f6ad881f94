"""Shards to uint8 tensors: cold (nothing decoded yet), cached, streamed."""

import shutil
from collections.abc import Callable
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

import fer_ddp.data.dataset
from bench.data import Data, recipe
from bench.sizes import Sizes
from bench.table import Result, compare
from bench.timing import in_turns, seconds_of
from fer_ddp.data.dataset import FERDataset
from fer_ddp.data.sampler import shuffled_sampler

WORKERS = 2
BATCH_SIZE = 64
SHUFFLE_BUFFER = 1000


def read_results(data: Data, sizes: Sizes) -> list[Result]:
    cached = FERDataset(data.folder, "train")
    opening = min(seconds_of(lambda: FERDataset(data.folder, "train")) for _ in range(3))
    loader = peer_loader(data, v2.PILToTensor(), BATCH_SIZE)
    sides = [
        lambda: seconds_of(lambda: read_cold(data)),
        lambda: seconds_of(lambda: read_batches(cached)),
        lambda: seconds_of(lambda: exhaust(loader)),
    ]
    cold, warm, peer = in_turns(sides, sizes.repeats)
    against = f'webdataset decode("pill"), {WORKERS} workers'
    return [
        compare(
            "cold read", against, data.images, cold, peer, 3, "ours verifies every shard and keeps the decoded split"
        ),
        compare(
            "cached read", against, data.images, warm, peer, 50, f"opened and checked in {opening:.3f} s, once a run"
        ),
        *stream_results(data, sizes),
    ]


def stream_results(data: Data, sizes: Sizes) -> list[Result]:
    open_split = getattr(fer_ddp.data.dataset, "open_split", None)
    if open_split is None:
        return ["stream, shuffled: left out, this version of the trainer has no data.mode=stream"]
    cpu = torch.device("cpu")
    split = open_split(recipe(data, sizes, "data.mode=stream", f"data.workers={WORKERS}").data, "train", cpu)
    order, steps = shuffled_sampler(data.images, 0, cpu), -(-data.images // BATCH_SIZE)
    numbers = (order(range(start, start + BATCH_SIZE)) for start in count(0, BATCH_SIZE))
    batches = split.images.batches(numbers, BATCH_SIZE)  # without end, as in training
    loader = peer_loader(data, v2.PILToTensor(), BATCH_SIZE, shuffle=SHUFFLE_BUFFER)
    # The peer goes first: its workers, forked later, would inherit the pipes to ours and keep them from ending.
    sides = [
        lambda: seconds_of(lambda: exhaust(loader)),
        lambda: seconds_of(lambda: exhaust(islice(batches, steps))),
    ]
    peer, ours = in_turns(sides, sizes.repeats)
    against = f"webdataset with a shuffle buffer of {SHUFFLE_BUFFER}, {WORKERS} workers"
    note = f"{WORKERS} processes of ours too, at random offsets of the tars"
    return [compare("stream, shuffled", against, data.images, ours, peer, 2, note)]


def read_cold(data: Data) -> FERDataset:
    shutil.rmtree(data.cache, ignore_errors=True)
    return FERDataset(data.folder, "train")


def read_batches(dataset: FERDataset) -> None:
    """Every image once, in a random order."""
    order = shuffled_sampler(len(dataset), 0, dataset.labels.device)
    for start in range(0, len(dataset), BATCH_SIZE):
        index = order(range(start, min(start + BATCH_SIZE, len(dataset))))
        _ = dataset.images[index], dataset.labels[index]


def peer_loader(data: Data, transform: Callable[[Any], Tensor], batch_size: int, shuffle: int = 0) -> Any:
    """Batches of ``transform`` of each image, by workers that stay alive from pass to pass."""
    shards = sorted(str(path) for path in data.folder.glob("train-*.tar"))
    import webdataset  # a GPU machine, where this stage does not run, may not have it

    samples = webdataset.WebDataset(shards, shardshuffle=len(shards) if shuffle else False)
    if shuffle:
        samples = samples.shuffle(shuffle)
    batches = samples.decode("pill").to_tuple("png", "cls").map_tuple(transform).batched(batch_size)
    return webdataset.WebLoader(batches, batch_size=None, num_workers=WORKERS, persistent_workers=True)


def exhaust(batches: Any) -> None:
    for _ in batches:
        pass
