"""A random number is a function of (seed, stream, position, counter), never of a state.

Every random choice in training reads its bits here: a counter-based hash (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"; JAX works the same way) of the seed, the stream (what the number
is for, such as ``augment/flip``) and the sample's position in the training sequence. Plain integer tensor operations
give the same bits on CPU and GPU, whatever the rank, the batch, the memory layout or the interruptions.
"""

import hashlib
from collections.abc import Collection, Sequence
from functools import lru_cache

import torch
from torch import Tensor


def mix_(bits: Tensor) -> Tensor:
    """Scramble int32 ``bits``, whose last dimension is contiguous, in place: a bijection without visible structure.

    The constants are lowbias32 of C. Wellons, "Prospecting for Hash Functions" (2018). One pass is not enough:
    `sample_keys` and `random_bits` apply one each. A shift by 16 and xor touches the lower half alone, and is done on
    16-bit integers; for the shift by 15, torch's int32 ``>>`` is arithmetic, hence the mask.
    """
    halves = bits.view(torch.int16)  # little-endian, as on all machines that torch supports
    low, high = halves[..., 0::2], halves[..., 1::2]
    low.bitwise_xor_(high)
    bits.mul_(0x7FEB352D)
    bits.bitwise_xor_(torch.bitwise_right_shift(bits, 15).bitwise_and_(0x1FFFF))
    bits.mul_(0x846CA68B - (1 << 32))
    low.bitwise_xor_(high)
    return bits


@lru_cache(maxsize=4096)
def _stream(seed: int, stream: str) -> tuple[int, int]:
    """Two signed 32-bit constants of a seed and a stream."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little", signed=True), int.from_bytes(digest[4:], "little", signed=True)


class Streams:
    """Several streams of one seed, all of whose keys are hashed at once, in as many operators as one stream's.

    Its tensors are constants of a graph that hashes, so keep it as long as the graph.
    """

    def __init__(
        self, seed: int, names: Sequence[str], device: torch.device, by_pair: Collection[str] = frozenset()
    ) -> None:
        """by_pair: those of ``names`` for which the positions 2 p and 2 p + 1 share the key of position p."""
        self.names, self.device = tuple(names), device
        constants = [_stream(seed, name) for name in names]
        # The first is mixed with a position's lower half, its upper half is mixed alone.
        first = [[[low, 0]] for low, _ in constants]
        self._first = torch.tensor(first, dtype=torch.int32, device=device).view(-1, 1, 2)
        self._second = torch.tensor([high for _, high in constants], dtype=torch.int32, device=device)[:, None]
        self._shift: Tensor | None = None
        if by_pair:
            self._shift = torch.tensor([int(name in by_pair) for name in names], device=device)[:, None]

    def keys(self, positions: Tensor) -> Tensor:
        """int64 (batch,), 0 or more, to int32 (streams, batch): row p is `sample_keys` of the stream ``names[p]``."""
        if self._shift is not None:
            positions = positions >> self._shift
        return _keys(_halves(positions) ^ self._first, self._second)


def sample_keys(seed: int, stream: str, positions: Tensor) -> Tensor:
    """The key of each position for one stream.

    positions: int64 (batch,), in the training sequence, 0 or more. Returns int32 (batch,). For one seed and stream,
    positions below 2**32 have different keys.
    """
    first, second = _stream(seed, stream)  # as numbers: a tensor of them would make the host wait for a GPU
    halves = _halves(positions).clone()
    halves[..., 0].bitwise_xor_(first)
    return _keys(halves, second)


def _halves(positions: Tensor) -> Tensor:
    """int64 (..., batch) to int32 (..., batch, 2), the lower half first."""
    halves: Tensor = positions.contiguous().view(torch.int32).unflatten(-1, (-1, 2))
    return halves


def _keys(halves: Tensor, second: int | Tensor) -> Tensor:
    mix_(halves)
    return mix_(halves[..., 0] ^ halves[..., 1] ^ second)


def counters(count: int, device: torch.device) -> Tensor:
    """What the random integers of one key differ by: int32 (count,)."""
    return mix_(torch.arange(1, count + 1, dtype=torch.int32, device=device))


_FIRST_COUNTER = int(counters(1, torch.device("cpu")))
_kept_counters = lru_cache(maxsize=256)(counters)


def random_bits(keys: Tensor, count: int) -> Tensor:
    """``count`` random 32-bit integers for each key: int32 (batch,) to int32 (batch, count)."""
    return mix_(keys[:, None] ^ _kept_counters(count, keys.device))


def uniform(keys: Tensor, count: int) -> Tensor:
    """``count`` numbers in [0, 1) for each key, multiples of 2**-24: int32 (batch,) to float32 (batch, count)."""
    return _to_unit(random_bits(keys, count))


def first_uniform(keys: Tensor) -> Tensor:
    """``uniform(keys, 1)`` for keys of any shape: int32 to float32 of the same shape."""
    return _to_unit(mix_(keys ^ _FIRST_COUNTER))


def _to_unit(bits: Tensor) -> Tensor:
    return ((bits >> 8) & 0xFFFFFF) * 2.0**-24


def realised_probability(probability: float) -> float:
    """The probability that `bernoulli` uses: a multiple of 1/256 if that is exact, else of 1/65536."""
    return _threshold(probability) / 65536


def bernoulli(keys: Tensor, count: int, probability: float) -> Tensor:
    """``count`` coin flips for each key: int32 (batch,) to bool (batch, count), True with `realised_probability`.

    32 bits give four flips where the probability is a multiple of 1/256, else two.
    """
    if realised_probability(probability) == 1:
        return torch.ones(len(keys), count, dtype=torch.bool, device=keys.device)
    words = -(-count // flips_in_word(probability))
    return flips(random_bits(keys, words), probability)[:, :count]


def flips_in_word(probability: float) -> int:
    """How many coin flips are taken from one random integer."""
    return 4 if _threshold(probability) % 256 == 0 else 2


def flips(bits: Tensor, probability: float) -> Tensor:
    """Coin flips from random integers, which are overwritten: int32 (batch, words) to bool (batch, flips).

    For a probability below 1.
    """
    threshold = _threshold(probability)
    # Compared in place: comparing uint8 into a new bool tensor takes about 20 times as long on a CPU.
    if threshold % 256 == 0:
        outcomes = bits.view(torch.uint8).lt_(threshold // 256)
    else:
        outcomes = bits.view(torch.int16).lt_(threshold - 32768).to(torch.uint8)
    return outcomes.view(torch.bool)


def _threshold(probability: float) -> int:
    return round(probability * 65536)


def permutation(seed: int, stream: str, count: int, device: torch.device) -> Tensor:
    """A random order of ``range(count)``: int64 (count,). The index breaks ties between 32-bit keys."""
    index = torch.arange(count, device=device)
    keys = sample_keys(seed, stream, index).to(torch.int64)
    keys.bitwise_left_shift_(32).bitwise_or_(index)
    if device.type == "cpu":
        keys.numpy().sort()  # in place: torch.sort needs six times the memory of the keys
    else:
        keys = keys.sort().values
    return keys.bitwise_and_(0xFFFFFFFF)
