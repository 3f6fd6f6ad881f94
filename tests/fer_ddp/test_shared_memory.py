"""Ranks of one machine exchange tensors through shared memory, with the numbers that gloo would give.

Run as a script this file is one of the ranks, and writes what it found.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from forking import run_forked
from torch import Tensor, nn

from fer_ddp import distributed, rendezvous
from fer_ddp.errors import RunError
from fer_ddp.rendezvous import LocalRanks, PeerFailure


def messages() -> list[Tensor]:
    """Other numbers on each rank; the last is longer than one piece of the shared memory."""
    random = torch.Generator().manual_seed(distributed.rank())
    return [
        torch.tensor(distributed.rank() + 0.1, dtype=torch.float64),
        torch.tensor([True, distributed.rank() == 1]),
        torch.randint(100, (3, 2), generator=random),
        torch.randn(2, 513, generator=random, dtype=torch.float64),
        torch.zeros(0),
        torch.randn(700_001, generator=random),
    ]


def gathered() -> list[Tensor]:
    return [distributed.gather_tensors(tensor) for tensor in messages()]


def added() -> list[Tensor]:
    return [distributed.all_reduce_sum(tensor) for tensor in messages() if tensor.dtype != torch.bool]


def gradients(*, end_before: bool = False) -> list[Tensor]:
    """Of two steps of a network whose gradients are several buckets, in two dtypes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(500, 700), nn.ReLU(), nn.Linear(700, 3))
    model = distributed.data_parallel(network.append(nn.Linear(3, 2).double()).insert(3, Cast()), torch.zeros(1, 500))
    for _ in range(2):
        output = model(torch.randn(8, 500, generator=torch.Generator().manual_seed(distributed.rank())))
        if end_before and distributed.rank() == 1:
            os._exit(0)  # as if it were killed; with another status the test's launcher would end the others
        output.sum().backward()
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


class Cast(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.double()


def by_gloo(exchange: Callable[[], list[Tensor]]) -> list[Tensor]:
    with patch.object(distributed, "_shared", None):
        return exchange()


def equal(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def in_order_of_ranks(parts: Tensor) -> Tensor:
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


def shared_files() -> list[tuple[str, str, int]]:
    """Name, permissions and number of links of what this process has open to share."""
    links = {path: os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    return [
        (link, oct(path.stat().st_mode & 0o777), path.stat().st_nlink)
        for path, link in links.items()
        if "fer_ddp" in link or "/shm/" in link
    ]


def one_of_the_ranks(out: Path) -> None:
    with distributed.world():
        torch.set_num_threads(1)
        assert distributed._shared is not None
        mine = gradients()
        parts = [gathered for gathered in by_gloo(gathered) if gathered.dtype != torch.bool]
        found = {
            "gathered": equal(gathered(), by_gloo(gathered)),
            "added": equal(added(), [in_order_of_ranks(part) for part in parts]),
            "added as gloo does": equal(added(), by_gloo(added)),
            "gradients as gloo does": equal(mine, by_gloo(gradients)),
            "gradients of all alike": all(
                torch.equal(other, gradient)
                for gradient in mine
                for other in by_gloo(lambda tensor=gradient: [distributed.gather_tensors(tensor)])[0]  # type: ignore[misc]
            ),
            "largest difference of gradients": max(
                float((one - other).abs().max() / other.abs().max())
                for one, other in zip(mine, by_gloo(gradients), strict=True)
            ),
            "files": shared_files(),
        }
        if distributed.is_main():
            out.write_text(json.dumps(found))
        gradients(end_before=True)


def run_ranks(ranks: int, folder: Path) -> dict[str, Any]:
    """What they found; all but rank one, which exits, end with the message of that."""
    done = run_forked(ranks, __file__, str(folder / "found.json"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [distributed.PEER_FAILURE] * (ranks - 1)
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def test_two_ranks_get_the_bits_that_gloo_gives_and_one_learns_of_the_others_end(tmp_path: Path) -> None:
    found = run_ranks(2, tmp_path)
    assert found.pop("largest difference of gradients") == 0
    assert found.pop("files") == [["/memfd:fer_ddp (deleted)", "0o600", 0]] * 2  # no name, so nothing is left behind
    assert set(found.values()) == {True}, found


def test_three_ranks_add_in_their_order(tmp_path: Path) -> None:
    found = run_ranks(3, tmp_path)
    assert (found["gathered"], found["added"], found["gradients of all alike"]) == (True, True, True)
    assert found["largest difference of gradients"] < 1e-6


def connect(ranks: int) -> list[LocalRanks | None]:
    """So many ranks, as threads."""
    together, passed = threading.Barrier(ranks), [None] * ranks

    def one(rank: int) -> LocalRanks | None:
        def gather(mine: Any) -> list[Any]:
            passed[rank] = mine
            together.wait(5)
            everything = list(passed)
            together.wait(5)
            return everything

        return LocalRanks.connect(rank, ranks, 4096, gather)

    with ThreadPoolExecutor(ranks) as threads:
        return list(threads.map(one, range(ranks)))


def test_memory_is_shared_and_a_rank_that_is_gone_is_noticed_at_once() -> None:
    first, second, third = connect(3)
    assert first is not None
    assert second is not None
    assert third is not None
    first.memory[7] = 9
    assert (second.memory[7], third.memory[7]) == (9, 9)
    second.close()
    for rank in (first, third):
        with pytest.raises(PeerFailure, match="Connection closed by peer"):
            rank.wait()
    first.close()
    third.close()


def test_a_rank_that_does_not_come_is_waited_for_no_longer_than_set() -> None:
    first, second = connect(2)
    assert first is not None
    assert second is not None
    first.set_timeout(0.05)
    with pytest.raises(PeerFailure, match="timed out"):
        first.wait()
    first.close()
    second.close()


@pytest.mark.parametrize("failing", ["memfd_create", "ftruncate"])
def test_where_one_rank_cannot_share_all_take_gloo(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr(os, failing, refuse)
    assert connect(3) == [None] * 3


def test_ranks_do_not_connect_to_another_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous.os, "geteuid", lambda: 12345)
    assert connect(2) == [None, None]


if __name__ == "__main__":
    try:
        one_of_the_ranks(Path(sys.argv[1]))
    except RunError as error:
        os.write(1, f"{error}\n".encode())  # in one piece, beside other ranks
