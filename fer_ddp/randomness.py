"""A random number is a function of (seed, stream, position, counter), never of a state.

Every random choice in training reads its bits here: a counter-based hash (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"; JAX works the same way) of the seed, the stream (what the number
is for, such as ``augment/flip``) and the sample's position in the training sequence. Plain integer tensor operations
give the same bits on CPU and GPU, whatever the rank, the batch, the memory layout or the interruptions.
"""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

_LOW_16_BITS = 0xFFFF
_LOW_17_BITS = 0x1FFFF


def mix_(bits: Tensor) -> Tensor:
    """Scramble int32 ``bits`` in place: a bijection without visible structure.

    The constants are lowbias32 of C. Wellons, "Prospecting for Hash Functions" (2018). torch's int32 ``>>`` is
    arithmetic, hence the masks. One pass is not enough: `sample_keys` and `random_bits` apply one each.
    """
    scratch = torch.empty_like(bits)
    bits.bitwise_xor_(_shift_right(bits, 16, _LOW_16_BITS, scratch))
    bits.mul_(0x7FEB352D)
    bits.bitwise_xor_(_shift_right(bits, 15, _LOW_17_BITS, scratch))
    bits.mul_(0x846CA68B - (1 << 32))
    bits.bitwise_xor_(_shift_right(bits, 16, _LOW_16_BITS, scratch))
    return bits


def _shift_right(bits: Tensor, count: int, mask: int, out: Tensor) -> Tensor:
    return torch.bitwise_right_shift(bits, count, out=out).bitwise_and_(mask)


@lru_cache(maxsize=4096)
def _stream(seed: int, stream: str) -> tuple[int, int]:
    """Two signed 32-bit constants of a seed and a stream."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little", signed=True), int.from_bytes(digest[4:], "little", signed=True)


@lru_cache(maxsize=64)
def _streams(seed: int, streams: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """`_stream` of several streams: two int32 (streams, 1)."""
    constants = torch.tensor([_stream(seed, stream) for stream in streams], dtype=torch.int32, device=device)
    return constants[:, :1].contiguous(), constants[:, 1:].contiguous()


def sample_keys(seed: int, stream: str, positions: Tensor) -> Tensor:
    """The key of each position for one stream.

    positions: int64 (batch,), in the training sequence, 0 or more. Returns int32 (batch,). For one seed and stream,
    positions below 2**32 have different keys.
    """
    return _keys(*_stream(seed, stream), positions)


def _keys(first: int | Tensor, second: int | Tensor, positions: Tensor) -> Tensor:
    keys = mix_(positions.to(torch.int32) ^ first)
    high = mix_((positions >> 32).to(torch.int32))
    return mix_(keys ^ high ^ second)


@lru_cache(maxsize=256)
def _counters(count: int, device: torch.device) -> Tensor:
    return mix_(torch.arange(1, count + 1, dtype=torch.int32, device=device))


def random_bits(keys: Tensor, count: int) -> Tensor:
    """``count`` random 32-bit integers for each key: int32 (batch,) to int32 (batch, count)."""
    return mix_(keys[:, None] ^ _counters(count, keys.device))


def uniform(keys: Tensor, count: int) -> Tensor:
    """``count`` numbers in [0, 1) for each key, multiples of 2**-24: int32 (batch,) to float32 (batch, count)."""
    return ((random_bits(keys, count) >> 8) & 0xFFFFFF) * 2.0**-24


def uniform_by_stream(seed: int, streams: tuple[str, ...], positions: Tensor) -> Tensor:
    """One number in [0, 1) for each stream and position: int64 (batch,) to float32 (streams, batch).

    Row p is ``uniform(sample_keys(seed, streams[p], positions), 1)``; computing all rows costs as much as one.
    """
    keys = _keys(*_streams(seed, streams, positions.device), positions)
    return uniform(keys.flatten(), 1).view(keys.shape)


def realised_probability(probability: float) -> float:
    """The probability that `bernoulli` uses: a multiple of 1/256 if that is exact, else of 1/65536."""
    return round(probability * 65536) / 65536


def bernoulli(keys: Tensor, count: int, probability: float) -> Tensor:
    """``count`` coin flips for each key: int32 (batch,) to bool (batch, count), True with `realised_probability`.

    32 bits give four flips where the probability is a multiple of 1/256, else two.
    """
    threshold = round(probability * 65536)
    # Compared in place: comparing uint8 into a new bool tensor takes about 20 times as long on a CPU.
    if threshold == 65536:
        flips = torch.ones(len(keys), count, dtype=torch.uint8, device=keys.device)
    elif threshold % 256 == 0:
        flips = random_bits(keys, (count + 3) // 4).view(torch.uint8).lt_(threshold // 256)
    else:
        flips = random_bits(keys, (count + 1) // 2).view(torch.int16).lt_(threshold - 32768).to(torch.uint8)
    return flips[:, :count].view(torch.bool)


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
