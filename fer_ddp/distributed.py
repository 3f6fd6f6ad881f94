"""The only module that talks to torch.distributed. Without torchrun the world has one rank and calls are no-ops."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fer_ddp.errors import JobError, RunError, os_error_message
from fer_ddp.hardware import use_repeatable_kernels
from shards.errors import UserError

T = TypeVar("T")


@contextmanager
def world() -> Iterator[torch.device]:
    """Join the ranks that torchrun started (or be alone), and yield this rank's device.

    A rank that fails does not leave the group, since NCCL would then wait for the others, which wait for it:
    `fer_ddp.cli.end_process` ends the process. Raises JobError if this machine has GPUs, but fewer than ranks.
    """
    device = default_device()
    if not launched():
        yield device
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    yield device
    dist.destroy_process_group()


def launched() -> bool:
    """Whether torchrun (or anything that sets its variables) started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    """This process's number among all ranks, from 0."""
    return int(os.environ["RANK"]) if launched() else 0


def world_size() -> int:
    """The number of ranks."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def local_rank() -> int:
    """This process's number among the ranks of this machine, from 0."""
    return int(os.environ["LOCAL_RANK"]) if launched() else 0


def local_world_size() -> int:
    """The number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() else 1


def is_main() -> bool:
    """Whether this is rank zero, which evaluates, writes and prints."""
    return rank() == 0


def default_device() -> torch.device:
    """This rank's GPU, the CPU where there is none. Raises JobError if this machine has fewer GPUs than ranks."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # SLURM may show each rank only its own GPU.
    shared = torch.cuda.device_count() == 1 and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
    if shared and os.environ.get("SLURM_NTASKS") is None:
        raise JobError(
            f"{os.environ['LOCAL_WORLD_SIZE']} ranks were started on a machine with 1 GPU; start one rank a GPU, "
            f"or hide the GPU with CUDA_VISIBLE_DEVICES="
        )
    index = 0 if torch.cuda.device_count() == 1 else local_rank()
    if index >= torch.cuda.device_count():
        raise JobError(
            f"rank {rank()} has no GPU: this machine has {torch.cuda.device_count()}; start one rank a GPU "
            f"(--nproc-per-node={torch.cuda.device_count()})"
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    use_repeatable_kernels()
    return device


def choose_device(device: str | torch.device | None, default: torch.device) -> torch.device:
    """``device`` where one is given, else ``default``. Raises JobError if this machine has no such device."""
    if device is None:
        return default
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError):  # no such kind, no driver or number, a torch without CUDA
        raise JobError(f"device: is {str(device)!r}; this machine has {_devices()}") from None
    return chosen


def _devices() -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return " and ".join(["cpu", *(f"cuda:{index}" for index in range(count))])


def print_from_rank(message: str) -> None:
    """Print why this rank exits; rank zero, which prints everything else, only notices that it is gone."""
    if not is_main():
        print(f"error: {message}", file=sys.stderr, flush=True)


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Add ``tensor`` over all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def gather_tensors(tensor: Tensor) -> Tensor:
    """``tensor`` of every rank, in the order of the ranks: shape to (world_size, *shape)."""
    if world_size() == 1:
        return tensor[None]
    gathered = tensor.new_empty(world_size(), *tensor.shape)
    dist.all_gather_into_tensor(gathered.view(-1), tensor.contiguous().view(-1))
    return gathered


def broadcast_object(value: T) -> T:
    """Rank zero's ``value`` on every rank. torch pickles it, so never pass on what a file holds."""
    if world_size() == 1:
        return value
    box: list[Any] = [value if is_main() else None]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    received: T = box[0]
    return received


def rank_zero_call(function: Callable[[], T]) -> T:
    """Call ``function`` on rank zero alone; return its result, or raise its error, on every rank."""
    outcome: tuple[T | None, Exception | None] = (None, None)
    if is_main():
        try:
            outcome = (function(), None)
        except UserError as error:
            outcome = (None, error)
        except OSError as error:
            outcome = (None, RunError(os_error_message(error)))
    result, failure = broadcast_object(outcome)
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]


def on_every_rank(function: Callable[[], T]) -> T:
    """Call ``function`` on each rank; if it fails on one, raise the same error, with the rank's number, on all."""
    result: T | None = None
    failure: Exception | None = None
    try:
        result = function()
    except UserError as error:
        failure = error
    failures: list[Exception | None] = [failure]
    if world_size() > 1:
        failures = [None] * world_size()
        dist.all_gather_object(failures, failure)
    for number, first in enumerate(failures):
        if first is not None:
            if world_size() > 1:
                first.args = (f"rank {number}: {first}",)
            raise first
    return result  # type: ignore[return-value]


def is_peer_failure(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank exited."""
    return world_size() > 1 and (
        isinstance(error, dist.DistBackendError | dist.DistNetworkError | dist.DistStoreError)
        or "gloo" in str(error)
        or "Connection closed by peer" in str(error)
    )


def data_parallel(model: nn.Module, example: Tensor) -> nn.Module:
    """Wrap ``model`` so that its gradients are the mean over ranks; a world of one is left as it is.

    Buffers are not broadcast: synchronized batch norm keeps them equal. DDP rebuilds its buckets after the first step,
    which changes the order of its sums; two passes of ``example`` (images as the model takes them) get that over with
    before the first real step, so a resumed run adds up in the same order as an uninterrupted one.
    """
    if world_size() == 1:
        return model
    device = example.device
    # torch 2.14 renamed broadcast_buffers.
    renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    no_broadcast: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
    device_ids = [device.index] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(model, device_ids=device_ids, **no_broadcast)
    model.eval()  # no dropout, no running statistics
    for _ in range(2):
        wrapped(example).sum().backward()
    model.zero_grad()
    model.train()
    return wrapped


def without_gradient_exchange(model: nn.Module) -> AbstractContextManager[None]:
    """Accumulate gradients on this rank; the next backward pass outside this context exchanges them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


class StopConsensus:
    """Lets all ranks see a flag at the same step, without waiting for each other.

    `ask` sums the ranks' flags in the background; the sum is read one step later.
    """

    def __init__(self) -> None:
        self._group: Any = dist.new_group(backend="gloo") if world_size() > 1 else None
        self._pending: tuple[Any, Tensor] | None = None

    def ask(self, flag: bool) -> bool:
        """Pass in this rank's flag; returns whether any rank's flag was set at the previous call."""
        if self._group is None:
            return flag
        is_set = False
        if self._pending is not None:
            work, total = self._pending
            work.wait()
            is_set = bool(total.item())
        total = torch.tensor([int(flag)])
        self._pending = (dist.all_reduce(total, group=self._group, async_op=True), total)
        return is_set
