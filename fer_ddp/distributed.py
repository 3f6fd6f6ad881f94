"""The only module that talks to torch.distributed. Without torchrun the world has one rank and calls are no-ops."""

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from fer_ddp import rendezvous
from fer_ddp.errors import RunError, os_error_message
from fer_ddp.hardware import default_device
from fer_ddp.rendezvous import LocalRanks, PeerFailure, check_rank_variables, launched
from fer_ddp.signals import raise_pending_stop
from shards.errors import UserError

T = TypeVar("T")

# torch 2.14 renamed it, and warns of the old name.
_all_gather = dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor
_set_timeout = dist.set_timeout if hasattr(dist, "set_timeout") else dist.distributed_c10d._set_pg_timeout

PEER_FAILURE = "another rank exited; see its log for the cause. Run the same command again to resume"
_START = timedelta(minutes=30)
"""How long a rank waits for another before the first step, such as for rank zero to read the data."""
_NO_END = timedelta(days=20)  # gloo counts milliseconds in 32 bits

StoreError = dist.DistError
"""What a `Board` raises."""
WAITING = (__file__, rendezvous.__file__)
"""Where a rank is that waits for others, unless torch waits."""


class _SharedMemory:
    """Sums and gathers tensors of the CPU ranks of one machine, in a fraction of the time that gloo's sockets take.

    A rank writes a piece into its own part of the memory, waits for the others, and reads theirs. Sums are in the order
    of the ranks, so they are the same on all. There are two halves in turns: who waits for the others at one piece has
    read the piece before it, whose half is the next to be written.
    """

    PIECE = 1 << 20  # stays in a core's cache; smaller ones wait more often

    def __init__(self, ranks: LocalRanks) -> None:
        self.ranks = ranks
        memory = torch.frombuffer(ranks.memory, dtype=torch.uint8)
        self._halves = [half.split(self.PIECE) for half in memory.chunk(2)]
        self._turn = 0

    def exchange(self, piece: Tensor, scale: float | None = None) -> list[Tensor]:
        """``piece`` (n,) of every rank, times ``scale``, to be read before the next call but one."""
        self._turn ^= 1
        parts = [part[: piece.nbytes].view(piece.dtype) for part in self._halves[self._turn]]
        mine = parts[rank()]
        if scale is None:
            mine.copy_(piece)
        else:
            torch.mul(piece, scale, out=mine)
        self.ranks.wait()
        return parts

    def add(self, tensor: Tensor, scale: float | None = None) -> None:
        """The sum of every rank's ``tensor`` times ``scale``, in place."""
        for piece in tensor.view(-1).split(self.PIECE // tensor.element_size()):
            first, second, *others = self.exchange(piece, scale)
            torch.add(first, second, out=piece)
            for other in others:
                piece.add_(other)


_shared: _SharedMemory | None = None
"""Where all ranks are CPU ranks of one machine."""


@contextmanager
def world() -> Iterator[torch.device]:
    """Join the ranks that torchrun started (or be alone), and yield this rank's device.

    A rank that fails does not leave the group, since NCCL would then wait for the others, which wait for it:
    `fer_ddp.cli.end_process` ends the process. Raises JobError if torchrun's variables are wrong or this machine has
    GPUs, but fewer than ranks; RunError if the ranks don't find each other, or another one exits.
    """
    raise_pending_stop()  # one that came while torch was imported
    global _shared
    check_rank_variables()
    device = default_device(rank(), local_rank())
    if world_size() == 1:
        yield device
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store = _join()
    # The ranks are all there, so this takes a moment; where one dies in it, torch would wait for as long as below.
    end = threading.Timer(rendezvous.join_seconds(), _end_alone)
    end.daemon = True
    end.start()
    try:
        dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size(), timeout=_START)
        _shared = _share_memory() if device.type == "cpu" and local_world_size() == world_size() else None
        end.cancel()  # not only afterwards: what follows takes longer
        yield device
    except RuntimeError as error:
        if is_peer_failure(error):
            raise RunError(peer_failure(error)) from None
        raise
    finally:
        end.cancel()
    if _shared is not None:
        _shared.ranks.close()
        _shared = None
    dist.destroy_process_group()


def _share_memory() -> _SharedMemory | None:
    """None where memory can't be shared: gloo does the same."""
    local = LocalRanks.connect(rank(), world_size(), 2 * world_size() * _SharedMemory.PIECE, _gather_objects)
    if local is None:
        return None
    local.set_timeout(_START.total_seconds())
    return _SharedMemory(local)


def _join() -> dist.Store:
    """The store in which all ranks have registered. Raises RunError if they don't within `rendezvous.join_seconds`.

    Waits in Python and not in torch, whose waiting no signal ends.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    what = f"rank {rank()} of {world_size()} waits at {host}:{port} (MASTER_ADDR:MASTER_PORT)"
    waiting = rendezvous.Waiting(what, print_from_rank)
    is_host = is_main() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    while problem := rendezvous.unreachable(host, None if is_host else port):
        waiting.pause(problem, is_loud=True)
    try:
        store = dist.TCPStore(
            host,
            port,
            world_size(),
            is_host,
            timedelta(seconds=30),
            wait_for_workers=False,
            multi_tenant=True,
            master_listen_fd=rendezvous.loopback_listener(host, port) if is_host else None,
        )
        shared = dist.PrefixStore(_prefix(), store)
        shared.set(f"rank{rank()}", "")
        while absent := [number for number in range(world_size()) if not shared.check([f"rank{number}"])]:
            names = ", ".join(map(str, absent[:8])) + (", ..." if len(absent) > 8 else "")
            is_loud = rank() == min(set(range(world_size())) - set(absent))  # one of those that came
            waiting.pause(f"{'ranks' if len(absent) > 1 else 'rank'} {names} did not come", is_loud=is_loud)
    except (dist.DistError, OSError) as error:
        raise waiting.failure(f"it failed ({str(error).splitlines()[0]})", is_loud=True) from None
    return shared


def _prefix() -> str:
    """torchrun's own store outlives an attempt of its ranks."""
    return f"fer_ddp/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"


class Board:
    """Texts that the ranks leave for each other, over a connection of their own, so that no collective is in the way.

    For one thread: each call waits while the store's host, rank zero or torchrun, does not respond, and raises
    StoreError if that is gone.
    """

    def __init__(self, name: str) -> None:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(host, port, world_size(), False, timedelta(seconds=30), wait_for_workers=False)
        self._store = dist.PrefixStore(f"{_prefix()}/{name}", store)

    def post(self, topic: str, text: str) -> None:
        """Leave this rank's text on ``topic``, in place of the one before."""
        self._store.set(f"{topic}{rank()}", text)

    def read(self, topic: str) -> dict[int, str]:
        """The texts of the ranks that have left one."""
        keys = {number: f"{topic}{number}" for number in range(world_size())}
        return {number: self._store.get(key).decode() for number, key in keys.items() if self._store.check([key])}


def _end_alone() -> None:
    print(
        f"error: rank {rank()}: another rank exited while the ranks connected; see its log", file=sys.stderr, flush=True
    )
    os._exit(RunError.exit_status)


def rank() -> int:
    """This process's number among all ranks, from 0."""
    return int(os.environ["RANK"]) if launched() else 0


def world_size() -> int:
    """The number of ranks."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def local_rank() -> int:
    """This process's number among the ranks of this machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def local_world_size() -> int:
    """The number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() else 1


def is_main() -> bool:
    """Whether this is rank zero, which evaluates, writes and prints."""
    return rank() == 0


def print_from_rank(message: str) -> None:
    """Print why this rank exits; rank zero, which prints everything else, only notices that it is gone."""
    if not is_main():
        print(f"error: {message}", file=sys.stderr, flush=True)


def wait_without_end() -> None:
    """From now on a rank waits for the others for as long as it takes: `fer_ddp.training.watchdog` has the bound."""
    if world_size() > 1:
        _set_timeout(_NO_END)
    if _shared is not None:
        _shared.ranks.set_timeout(None)


def is_waiting_in(file: str) -> bool:
    """Whether a rank whose innermost frame of Python is in ``file`` waits for other ranks, as in a backward pass."""
    return world_size() > 1 and (
        file in (*WAITING, torch.autograd.graph.__file__) or file.startswith(str(Path(dist.__file__).parent))
    )


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Add ``tensor`` over all ranks, in place."""
    if _shared is not None:
        _shared.add(tensor)
    elif world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def gather_tensors(tensor: Tensor) -> Tensor:
    """``tensor`` of every rank, in the order of the ranks: shape to (world_size, *shape)."""
    if world_size() == 1:
        return tensor[None]
    if _shared is not None and tensor.nbytes <= _SharedMemory.PIECE:
        return torch.stack(_shared.exchange(tensor.reshape(-1))).view(world_size(), *tensor.shape)
    gathered = tensor.new_empty(world_size(), *tensor.shape)
    _all_gather(gathered.view(-1), tensor.contiguous().view(-1))
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
    for number, first in enumerate(_gather_objects(failure)):
        if first is not None:
            if world_size() > 1:
                first.args = (f"rank {number}: {first}",)
            raise first
    return result  # type: ignore[return-value]


def _gather_objects(mine: T) -> list[T]:
    gathered: list[Any] = [mine]
    if world_size() > 1:
        gathered *= world_size()
        dist.all_gather_object(gathered, mine)
    return gathered


def is_peer_failure(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank exited."""
    return world_size() > 1 and (
        isinstance(error, PeerFailure | dist.DistBackendError | dist.DistNetworkError | dist.DistStoreError)
        or "gloo" in str(error)
        or "Connection closed by peer" in str(error)
    )


def peer_failure(error: RuntimeError) -> str:
    """What to tell the user of an error for which `is_peer_failure`."""
    if "timed out" in str(error).lower():
        minutes = _START.total_seconds() / 60
        return (
            f"another rank did not come within {minutes:.0f} minutes; see its log. Run the same command again to resume"
        )
    return PEER_FAILURE


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
    wrapped = DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True, **no_broadcast)
    if _shared is not None:
        wrapped.register_comm_hook(_shared, _average)
    model.eval()  # no dropout, no running statistics
    for _ in range(2):
        wrapped(example).sum().backward()
    model.zero_grad()
    model.train()
    return wrapped


def _average(shared: _SharedMemory, bucket: dist.GradBucket) -> Future[Tensor]:
    """What DDP itself does with a bucket of gradients, in shared memory."""
    buffer, done = bucket.buffer(), Future[Tensor]()
    shared.add(buffer, 1 / world_size())
    done.set_result(buffer)
    return done


def without_gradient_exchange(model: nn.Module) -> AbstractContextManager[None]:
    """Accumulate gradients on this rank; the next backward pass outside this context exchanges them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


class StopConsensus:
    """Lets all ranks see two flags at the same step, without waiting for each other.

    `ask` sums the ranks' flags in the background; the sums are read one step later.
    """

    def __init__(self) -> None:
        self._group: Any = dist.new_group(backend="gloo", timeout=_NO_END) if world_size() > 1 else None
        self._pending: tuple[Any, Tensor] | None = None

    def ask(self, stop: bool, save: bool = False) -> tuple[bool, bool]:
        """Pass in this rank's flags; returns, for each, whether it was set on any rank at the previous call."""
        if self._group is None:
            return stop, save
        stopped = saved = False
        if self._pending is not None:
            work, totals = self._pending
            work.wait()
            stopped, saved = (total > 0 for total in totals.tolist())
        totals = torch.tensor([int(stop), int(save)])
        self._pending = (dist.all_reduce(totals, group=self._group, async_op=True), totals)
        return stopped, saved
