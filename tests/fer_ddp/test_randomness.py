"""The hash behind every random choice: its frozen values, its statistics, and that the batch does not matter."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from fer_ddp.randomness import (
    Streams,
    bernoulli,
    counters,
    first_uniform,
    flips,
    flips_in_word,
    permutation,
    random_bits,
    realised_probability,
    sample_keys,
    uniform,
)

# The seeds are fixed, so a threshold this low fails for a fault and not for bad luck.
IMPLAUSIBLE = 1e-4

FROZEN_WORDS = [[0x4E9CAF97, 0x397AD46C], [0x21BD4A4A, 0xC9DC857D], [0x4A8D726D, 0x35F20294]]


def table_of_bits(positions: int, count: int, *, seed: int = 0, stream: str = "test", start: int = 0) -> Tensor:
    """int32 (positions, count)"""
    return random_bits(sample_keys(seed, stream, torch.arange(start, start + positions)), count)


def unsigned(values: Tensor) -> NDArray[np.uint32]:
    return values.contiguous().numpy().view(np.uint32)


def set_bits(values: Tensor) -> NDArray[np.bool_]:
    """The 32 bits of each integer, lowest first: (..., 32)"""
    return (unsigned(values)[..., None] >> np.arange(32, dtype=np.uint32) & 1).astype(bool)


# What the bits are


def mix(bits: int) -> int:
    bits ^= bits >> 16
    bits = bits * 0x7FEB352D % 2**32
    bits ^= bits >> 15
    bits = bits * 0x846CA68B % 2**32
    return bits ^ bits >> 16


def reference_bits(seed: int, stream: str, position: int, index: int) -> int:
    """The hash as plain integer arithmetic."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    first, second = (int.from_bytes(half, "little") for half in (digest[:4], digest[4:]))
    key = mix(mix(position % 2**32 ^ first) ^ mix(position >> 32) ^ second)
    return mix(key ^ mix(index + 1))


def test_the_bits_are_those_of_plain_integer_arithmetic() -> None:
    positions = [0, 1, 2, 28708, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**45 + 12345]
    expected = [[reference_bits(7, "augment/flip", position, index) for index in range(5)] for position in positions]
    assert unsigned(random_bits(sample_keys(7, "augment/flip", torch.tensor(positions)), 5)).tolist() == expected


def test_numbers_of_several_streams_are_those_of_each_one() -> None:
    positions = torch.tensor([0, 1, 28708, 2**31, 2**32 + 1])
    names = ("order", "augment/flip", "test")
    streams = Streams(7, names, torch.device("cpu"))
    expected = [uniform(sample_keys(7, name, positions), 1)[:, 0] for name in names]
    assert torch.equal(first_uniform(streams.keys(positions)), torch.stack(expected))


def test_counters_are_hashes_of_the_numbers_from_one() -> None:
    """Asked directly: what `random_bits` uses of them is kept from call to call."""
    values = counters(5, torch.device("cpu"))
    assert values.dtype == torch.int32
    assert unsigned(values).tolist() == [mix(number) for number in range(1, 6)]
    assert counters(5, torch.device("meta")).device.type == "meta"


def test_streams_by_pair_have_one_key_for_two_neighbours() -> None:
    positions = torch.tensor([0, 1, 2, 28709, 2**32 + 1])
    streams = Streams(7, ("order", "mix"), torch.device("cpu"), by_pair={"mix"})
    expected = [sample_keys(7, "order", positions), sample_keys(7, "mix", positions // 2)]
    assert torch.equal(streams.keys(positions), torch.stack(expected))


def test_numbers_are_on_the_device_of_their_keys() -> None:
    meta = torch.device("meta")  # the one other device that every machine has
    positions = torch.arange(4, device=meta)
    keys = Streams(7, ("order", "mix"), meta, by_pair={"mix"}).keys(positions)
    assert keys.device == meta
    assert {bernoulli(keys[0], 5, probability).device for probability in (0.25, 0.3, 1.0)} == {meta}
    order = permutation(0, "order/0", 10, meta)
    assert (order.device, order.shape) == (meta, (10,))


def test_the_bits_never_change() -> None:
    # Other values here would change the result of every recipe.
    assert unsigned(random_bits(sample_keys(0, "order/0", torch.tensor([0, 1, 2**32])), 2)).tolist() == FROZEN_WORDS


def test_bernoulli_uses_the_bytes_of_the_bits_from_the_lowest_up() -> None:
    keys = sample_keys(3, "dropout/head/0", torch.arange(4))
    units = [
        [reference_bits(3, "dropout/head/0", position, unit // 4) >> 8 * (unit % 4) & 255 for unit in range(10)]
        for position in range(4)
    ]
    expected = [[unit < 192 for unit in row] for row in units]
    assert bernoulli(keys, 10, 0.75).tolist() == expected


@pytest.mark.parametrize("parts", [[32, 32, 32], [1] * 96, [5, 90, 1]], ids=["thirds", "single samples", "uneven"])
@pytest.mark.parametrize(
    "draw",
    [
        lambda k: random_bits(k, 9),
        lambda k: uniform(k, 3),
        lambda k: bernoulli(k, 50, 0.5),
        lambda k: bernoulli(k, 51, 0.3),
    ],
    ids=["random_bits", "uniform", "bernoulli of 8 bits", "bernoulli of 16 bits"],
)
def test_a_batch_of_96_holds_the_same_bits_however_it_is_split(
    draw: Callable[[Tensor], Tensor], parts: list[int]
) -> None:
    positions = torch.arange(1000, 1096)
    split = torch.cat([draw(sample_keys(0, "test", part)) for part in positions.split(parts)])
    assert torch.equal(split, draw(sample_keys(0, "test", positions)))


def test_the_first_bits_are_the_same_whatever_the_count() -> None:
    keys = sample_keys(0, "test", torch.arange(8))
    assert torch.equal(random_bits(keys, 100)[:, :3], random_bits(keys, 3))


@pytest.mark.gpu
def test_the_gpu_has_the_same_bits() -> None:
    positions = torch.tensor([0, 1, 2**31, 2**32 + 5])
    keys, gpu_keys = sample_keys(0, "test", positions), sample_keys(0, "test", positions.cuda())
    ours = (random_bits(keys, 9), uniform(keys, 9), bernoulli(keys, 9, 0.25), bernoulli(keys, 9, 0.3))
    theirs = (random_bits(gpu_keys, 9), uniform(gpu_keys, 9), bernoulli(gpu_keys, 9, 0.25), bernoulli(gpu_keys, 9, 0.3))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(ours, theirs, strict=True))


# Uniform


def test_the_bytes_of_the_bits_are_uniform() -> None:
    counts = np.bincount(unsigned(table_of_bits(2**15, 16)).view(np.uint8).ravel(), minlength=256)
    assert stats.chisquare(counts).pvalue > IMPLAUSIBLE


def test_each_bit_is_set_half_the_time() -> None:
    bits = set_bits(table_of_bits(2**14, 8)).reshape(-1, 32)
    z = (bits.mean(axis=0) - 0.5) * 2 * len(bits) ** 0.5
    assert stats.chi2.sf((z**2).sum(), df=32) > IMPLAUSIBLE


def test_each_bit_of_the_first_integer_is_set_half_the_time_over_positions() -> None:
    # Augmentation reads one integer a sample and stream.
    bits = set_bits(table_of_bits(2**16, 1)[:, 0])
    z = (bits.mean(axis=0) - 0.5) * 2 * len(bits) ** 0.5
    assert stats.chi2.sf((z**2).sum(), df=32) > IMPLAUSIBLE


def test_uniform_numbers_are_uniform() -> None:
    numbers = uniform(sample_keys(1, "test", torch.arange(2**16)), 4).numpy().ravel()
    assert stats.chisquare(np.histogram(numbers, bins=1000, range=(0, 1))[0]).pvalue > IMPLAUSIBLE


def test_uniform_numbers_are_24_of_the_bits_from_0_to_below_1() -> None:
    keys = sample_keys(1, "test", torch.arange(2**16))
    expected = (unsigned(random_bits(keys, 4)) >> 8) / 2**24
    numbers = uniform(keys, 4)
    assert (numbers.dtype, numbers.shape) == (torch.float32, (2**16, 4))
    assert (numbers.numpy() == expected).all()
    assert 0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1


# Independence


def assert_independent(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> None:
    """The integers are uncorrelated as numbers, bit by bit, and by their four highest and lowest bits together."""
    n = a.size
    a, b = a.ravel(), b.ravel()
    correlation = stats.pearsonr(a.astype(np.float64), b.astype(np.float64))
    same_bits = [((a ^ b) >> np.uint32(bit) & 1).mean() for bit in range(32)]
    chi_of_bits = float(((np.array(same_bits) - 0.5) ** 2).sum() * 4 * n)
    high = np.bincount((a >> 28 << 4 | b >> 28).astype(np.int64), minlength=256)
    low = np.bincount(((a & 15) << 4 | b & 15).astype(np.int64), minlength=256)
    p_values = {
        "correlation": correlation.pvalue,
        "equal bits": stats.chi2.sf(chi_of_bits, df=32),
        "high bits together": stats.chisquare(high).pvalue,
        "low bits together": stats.chisquare(low).pvalue,
    }
    assert min(p_values.values()) > IMPLAUSIBLE, p_values


@pytest.mark.parametrize("distance", [1, 2, 64, 28709, 2**16, 2**32])
def test_positions_are_uncorrelated(distance: int) -> None:
    assert_independent(unsigned(table_of_bits(2**14, 4)), unsigned(table_of_bits(2**14, 4, start=distance)))


@pytest.mark.parametrize("distance", [1, 2, 4, 64, 576])
def test_integers_are_uncorrelated(distance: int) -> None:
    table = unsigned(table_of_bits(64, 1024 + distance))
    assert_independent(table[:, :-distance], table[:, distance:])


@pytest.mark.parametrize(
    "other", ["test ", "order/0", "augment/flip", "dropout/head/0", "dropout/head/1"], ids=lambda name: repr(name)
)
def test_streams_are_uncorrelated(other: str) -> None:
    assert_independent(unsigned(table_of_bits(2**14, 4)), unsigned(table_of_bits(2**14, 4, stream=other)))


@pytest.mark.parametrize("other", [1, 2, 3, 1000, 2**40])
def test_seeds_are_uncorrelated(other: int) -> None:
    assert_independent(unsigned(table_of_bits(2**14, 4)), unsigned(table_of_bits(2**14, 4, seed=other)))


def assert_half_of_the_bits_flip(flips: NDArray[np.bool_]) -> None:
    """flips: (samples, cells). Each cell's share is one half as far as chance allows, the worst of all included."""
    z = (flips.mean(axis=0) - 0.5) * 2 * len(flips) ** 0.5
    assert stats.norm.sf(np.abs(z).max()) * 2 * z.size > IMPLAUSIBLE
    assert stats.chi2.sf((z**2).sum(), df=z.size) > IMPLAUSIBLE


def test_one_bit_of_the_position_flips_half_of_the_bits() -> None:
    positions = torch.arange(2048) * 77
    before = set_bits(random_bits(sample_keys(0, "test", positions), 1)[:, 0])
    after = [set_bits(random_bits(sample_keys(0, "test", positions ^ 1 << bit), 1)[:, 0]) for bit in range(48)]
    assert_half_of_the_bits_flip(np.concatenate([before ^ bits for bits in after], axis=1))


def test_one_bit_of_the_counter_flips_half_of_the_bits() -> None:
    table = set_bits(table_of_bits(1024, 257))
    assert_half_of_the_bits_flip(np.concatenate([table[:, 0] ^ table[:, 1 << bit] for bit in range(9)], axis=1))


def test_neighbouring_positions_share_no_integers() -> None:
    table = unsigned(table_of_bits(1024, 64))
    # 65536 integers of 32 bits: 0.5 pairs are equal by chance.
    assert np.unique(table).size >= table.size - 5


def test_the_keys_of_a_million_positions_are_distinct() -> None:
    assert sample_keys(0, "test", torch.arange(2**20)).unique().numel() == 2**20


def test_the_keys_about_the_sign_bit_are_distinct() -> None:
    assert sample_keys(0, "test", torch.arange(2**31 - 2**16, 2**31 + 2**16)).unique().numel() == 2**17


@pytest.mark.parametrize("high", [2**32, 2**33, 2**40])
def test_positions_beyond_32_bits_have_keys_of_their_own(high: int) -> None:
    low = torch.arange(2**12)
    assert (sample_keys(0, "test", low) != sample_keys(0, "test", low + high)).all()


# Coin flips


@pytest.mark.parametrize("probability", [0.25, 0.5, 0.75, 0.3, 0.05, 0.999])
def test_coins_fall_with_their_probability(probability: float) -> None:
    coins = bernoulli(sample_keys(2, "test", torch.arange(2**10)), 1001, probability)
    test = stats.binomtest(int(coins.sum()), coins.numel(), realised_probability(probability))
    assert (coins.dtype, coins.shape) == (torch.bool, (1024, 1001))
    assert test.pvalue > IMPLAUSIBLE


def test_flips_below_their_threshold_are_true() -> None:
    """Of 16 bits, 0.3 is 19661 of 65536, counted from -32768; of 8 bits, 0.75 is 192 of 256."""
    sixteen = torch.tensor([[-13108, -13107]], dtype=torch.int16).view(torch.int32)
    eight = torch.tensor([[0, 191, 192, 255]], dtype=torch.uint8).view(torch.int32)
    assert (flips_in_word(0.3), flips(sixteen, 0.3).tolist()) == (2, [[True, False]])
    assert (flips_in_word(0.75), flips(eight, 0.75).tolist()) == (4, [[True, True, False, False]])


@pytest.mark.parametrize(("probability", "outcome"), [(0.0, False), (1.0, True)])
def test_coins_of_0_and_1_always_fall_the_same_way(probability: float, outcome: bool) -> None:
    coins = bernoulli(sample_keys(2, "test", torch.arange(64)), 4097, probability)
    assert coins.dtype == torch.bool
    assert torch.equal(coins, torch.full((64, 4097), outcome))


def test_a_probability_is_realised_to_16_bits() -> None:
    assert [realised_probability(p) for p in (0.0, 0.25, 0.5, 0.3, 1.0)] == [0.0, 0.25, 0.5, 19661 / 65536, 1.0]


@pytest.mark.parametrize("probability", [0.5, 0.4], ids=["8 bits", "16 bits"])
def test_neighbouring_coins_are_independent(probability: float) -> None:
    coins = bernoulli(sample_keys(2, "test", torch.arange(2**9)), 1024, probability).reshape(-1, 4)
    pattern = (coins * torch.tensor([1, 2, 4, 8])).sum(dim=1)
    heads = coins.new_tensor([[i >> bit & 1 for bit in range(4)] for i in range(16)], dtype=torch.float64).sum(dim=1)
    chance = realised_probability(probability)
    expected = len(coins) * chance**heads * (1 - chance) ** (4 - heads)
    assert stats.chisquare(pattern.bincount(minlength=16).numpy(), expected.numpy()).pvalue > IMPLAUSIBLE


# Orders


@pytest.mark.parametrize("count", [1, 2, 1000, 2**18])  # at 2**18, keys of 32 bits tie
def test_a_permutation_holds_each_index_once(count: int) -> None:
    order = permutation(0, "order/0", count, torch.device("cpu"))
    assert (order.dtype, order.shape) == (torch.int64, (count,))
    assert torch.equal(order.sort().values, torch.arange(count))


def test_all_24_orders_of_four_are_equally_likely() -> None:
    orders = torch.stack([permutation(seed, "order/0", 4, torch.device("cpu")) for seed in range(1200)])
    numbers = (orders * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    assert stats.chisquare(numbers.unique(return_counts=True)[1].numpy()).pvalue > IMPLAUSIBLE
    assert numbers.unique().numel() == 24


def test_in_a_long_permutation_each_index_is_anywhere() -> None:
    orders = torch.stack([permutation(seed, "order/0", 2000, torch.device("cpu")) for seed in range(20)])
    where = orders.argsort(dim=1) // 200
    cells = (torch.arange(2000) // 200 * 10 + where).flatten().bincount(minlength=100)
    # 100 cells, each row and column of which has a fixed sum.
    assert stats.chi2.sf(float(((cells - 400) ** 2 / 400).sum()), df=81) > IMPLAUSIBLE


@pytest.mark.parametrize(("seed", "stream"), [(1, "order/0"), (0, "order/1")], ids=["seed", "epoch"])
def test_another_seed_or_epoch_gives_another_order(seed: int, stream: str) -> None:
    one = permutation(0, "order/0", 10000, torch.device("cpu"))
    other = permutation(seed, stream, 10000, torch.device("cpu"))
    # Two random orders agree at one position on average.
    assert int((one == other).sum()) < 10
    assert stats.spearmanr(one.numpy(), other.numpy()).pvalue > IMPLAUSIBLE
