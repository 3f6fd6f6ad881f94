"""The endless sequence: each sample once an epoch, the same positions on any number of ranks, any step by itself."""

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from fer_ddp import randomness
from fer_ddp.data.sampler import (
    StepPlan,
    among,
    build_sampler,
    class_balanced_sampler,
    repeated,
    shuffled_sampler,
)
from fer_ddp.errors import JobError

CPU = torch.device("cpu")
# 5, 2, 7 and 3 samples of the classes 0, 1, 2 and 5; 3 and 4 have none.
LABELS = torch.tensor([0, 2, 2, 5, 1, 0, 2, 2, 0, 5, 2, 0, 1, 2, 0, 5, 2])
CLASSES = [0, 1, 2, 5]


# StepPlan


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_the_parts_of_all_ranks_are_the_step_of_one(world_size: int) -> None:
    steps = StepPlan(samples=1000, global_batch_size=96, world_size=world_size)
    parts = [steps.positions(7, rank) for rank in range(world_size)]
    assert [len(part) for part in parts] == [96 // world_size] * world_size
    assert [position for part in parts for position in part] == list(range(7 * 96, 8 * 96))


def test_an_epoch_ends_at_the_step_nearest_to_its_last_sample() -> None:
    # 2.5, 5, 7.5 and 10 steps; a half goes up.
    steps = StepPlan(samples=10, global_batch_size=4)
    assert [steps.end_of_epoch(epoch) for epoch in range(5)] == [0, 3, 5, 8, 10]


def test_an_epoch_ends_at_the_nearest_step_of_fer2013() -> None:
    # (2 * e * N + B) // (2 * B): FER2013's train split in batches of 64, 448.58 steps an epoch.
    steps = StepPlan(samples=28709, global_batch_size=64, world_size=4)
    assert [steps.end_of_epoch(epoch) for epoch in (1, 2, 3, 30)] == [449, 897, 1346, 13457]


def test_the_ranks_do_not_change_where_an_epoch_ends() -> None:
    ends = {StepPlan(samples=500, global_batch_size=96, world_size=w).end_of_epoch(3) for w in (1, 2, 3, 4, 96)}
    assert ends == {16}


def test_a_batch_that_the_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(JobError) as refusal:
        StepPlan(samples=1000, global_batch_size=64, world_size=3)
    assert str(refusal.value) == (
        "global_batch_size: 64 can't be shared evenly by 3 ranks; choose a multiple of 3, such as 63"
    )


def test_a_batch_of_fewer_samples_than_ranks_is_refused() -> None:
    with pytest.raises(JobError) as refusal:
        StepPlan(samples=1000, global_batch_size=2, world_size=4)
    assert str(refusal.value) == (
        "global_batch_size: 2 can't be shared evenly by 4 ranks; choose a multiple of 4, such as 4"
    )


def test_a_batch_larger_than_the_split_is_refused() -> None:
    with pytest.raises(JobError) as refusal:
        StepPlan(samples=50, global_batch_size=64)
    assert str(refusal.value) == ("global_batch_size: 64 is more than the 50 training samples; choose 50 or less")


def test_a_batch_as_large_as_the_split_is_an_epoch_a_step() -> None:
    assert [StepPlan(samples=50, global_batch_size=50).end_of_epoch(epoch) for epoch in (1, 2)] == [1, 2]


# What data.order names


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("shuffled", "0 9 2 1 10 12 14 7 13 15 6 16 5 2 12 13 9 11 5 4 3 8 1 10 0 7 16 14 15 6 12 9 5 7 8 1"),
        ("class_balanced", "9 8 1 12 11 12 7 15 9 6 5 4 3 0 12 2 15 4 14 13 11 12 10 3 16 8 15 4 9 6 4 0 12 5 9 7"),
    ],
)
def test_the_orders_never_change(order: str, expected: str) -> None:
    # Another order here would change the result of every recipe. Two ends of epochs are among them.
    assert build_sampler(order, LABELS, 3, CPU)(range(4, 40)).tolist() == [int(index) for index in expected.split()]


@pytest.mark.parametrize("order", ["shuffled", "class_balanced"])
def test_an_order_is_on_the_device_that_is_asked_for(order: str) -> None:
    meta = torch.device("meta")  # the one other device that every machine has
    assert build_sampler(order, LABELS, 3, meta)(range(4, 44)).device == meta


def test_among_some_of_the_samples_only_those_are_shown() -> None:
    used, sampler = torch.tensor([3, 5, 8]), shuffled_sampler(3, 0, CPU)
    assert torch.equal(among(used, sampler)(range(2, 9)), used[sampler(range(2, 9))])


# The shuffled order


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_each_sample_occurs_once_in_n_positions_from_a_multiple_of_n(epoch: int) -> None:
    order = shuffled_sampler(101, 0, CPU)
    assert order(range(epoch * 101, (epoch + 1) * 101)).sort().values.tolist() == list(range(101))


def test_epochs_have_orders_of_their_own() -> None:
    order = shuffled_sampler(1000, 0, CPU)
    assert int((order(range(1000)) == order(range(1000, 2000))).sum()) < 8


def test_seeds_have_orders_of_their_own() -> None:
    assert int((shuffled_sampler(1000, 0, CPU)(range(1000)) == shuffled_sampler(1000, 1, CPU)(range(1000))).sum()) < 8


def test_steps_over_an_epochs_end_continue_with_the_next_order() -> None:
    whole = shuffled_sampler(10, 0, CPU)(range(40))
    order, steps = shuffled_sampler(10, 0, CPU), StepPlan(samples=10, global_batch_size=4)
    assert torch.cat([order(steps.positions(step)) for step in range(10)]).tolist() == whole.tolist()


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_the_ranks_together_see_the_samples_of_one(world_size: int) -> None:
    steps = StepPlan(samples=100, global_batch_size=96, world_size=world_size)
    orders = [shuffled_sampler(100, 0, CPU) for _ in range(world_size)]
    seen = torch.cat([orders[rank](steps.positions(1, rank)) for rank in range(world_size)])
    assert seen.tolist() == shuffled_sampler(100, 0, CPU)(range(96, 192)).tolist()


@pytest.mark.parametrize("kind", ["shuffled", "class_balanced"])
def test_any_step_by_itself_is_that_of_the_whole_training(kind: str) -> None:
    def new_order(positions: range) -> Tensor:
        fresh = shuffled_sampler(17, 3, CPU) if kind == "shuffled" else class_balanced_sampler(LABELS, 3, CPU)
        return fresh(positions)

    steps = StepPlan(samples=17, global_batch_size=10)
    order = shuffled_sampler(17, 3, CPU) if kind == "shuffled" else class_balanced_sampler(LABELS, 3, CPU)
    in_turn = [order(steps.positions(step)).tolist() for step in range(30)]
    assert [new_order(steps.positions(step)).tolist() for step in (29, 0, 13, 7)] == [
        in_turn[i] for i in (29, 0, 13, 7)
    ]
    assert [order(steps.positions(step)).tolist() for step in (29, 0, 13, 7)] == [in_turn[i] for i in (29, 0, 13, 7)]


# The class-balanced order


def test_each_class_occurs_once_in_each_block_of_as_many_positions() -> None:
    classes = LABELS[class_balanced_sampler(LABELS, 0, CPU)(range(4 * 100))]
    assert classes.view(100, 4).sort(dim=1).values.tolist() == [CLASSES] * 100


def test_classes_without_samples_are_left_out() -> None:
    order = class_balanced_sampler(torch.tensor([6, 6, 3]), 0, CPU)(range(8))
    assert torch.tensor([6, 6, 3])[order].view(4, 2).sort(dim=1).values.tolist() == [[3, 6]] * 4


@pytest.mark.parametrize("label", CLASSES)
def test_a_classs_own_samples_occur_once_in_each_of_their_rounds(label: int) -> None:
    order = class_balanced_sampler(LABELS, 0, CPU)(range(4 * 70))
    members = [i for i, other in enumerate(LABELS.tolist()) if other == label]
    rounds = order[LABELS[order] == label][: 9 * len(members)].view(9, len(members))
    assert rounds.sort(dim=1).values.tolist() == [members] * 9
    assert len(set(map(tuple, rounds.tolist()))) > 1


def test_the_classes_change_their_order_from_block_to_block() -> None:
    # All 24 orders of the four classes, equally often.
    classes = LABELS[class_balanced_sampler(LABELS, 0, CPU)(range(4 * 1200))].view(1200, 4)
    counts = classes.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_a_part_of_the_class_balanced_order_may_begin_and_end_inside_a_block() -> None:
    order = class_balanced_sampler(LABELS, 0, CPU)
    whole = order(range(60)).tolist()
    assert [order(range(start, start + 7)).tolist() for start in range(50)] == [whole[i : i + 7] for i in range(50)]


def test_a_class_of_one_sample_occurs_as_often_as_the_others() -> None:
    labels = torch.tensor([0] * 500 + [1])
    order = class_balanced_sampler(labels, 0, CPU)(range(1000))
    assert int((order == 500).sum()) == 500


def test_batches_of_an_epoch_share_its_permutation() -> None:
    order = shuffled_sampler(1000, 0, CPU)
    first, other, next_epoch = (order(range(start, start + 10)) for start in (0, 500, 1500))
    storages = [part.untyped_storage().data_ptr() for part in (first, other, next_epoch)]
    assert (storages[0] == storages[1], storages[0] == storages[2]) == (True, False)


def test_only_the_orders_of_the_last_positions_are_made_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """In millions of samples they would fill the memory."""
    made, permutation_of = [], randomness.permutation

    def permutation(seed: int, stream: str, *others: Any) -> Tensor:
        made.append(stream)
        return permutation_of(seed, stream, *others)

    monkeypatch.setattr("fer_ddp.data.sampler.randomness.permutation", permutation)
    order = shuffled_sampler(10, 0, CPU)
    for positions in (range(52, 58), range(58, 62), range(70, 71), range(62, 63), range(70, 71)):
        order(positions)
    assert made == ["order/5", "order/6", "order/7", "order/6", "order/7"]
    made.clear()
    class_balanced_sampler(torch.tensor([0, 1]), 0, CPU)(range(5, 8))
    assert made == ["order/class 0/2", "order/class 0/3", "order/class 1/2", "order/class 1/3"]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_repeats_show_each_sample_of_a_step_so_often_and_then_the_next_ones(ranks: int) -> None:
    samples, batch_size, times = 20, 12, 3
    plan = StepPlan(samples=samples, global_batch_size=batch_size, world_size=ranks)
    sampler = shuffled_sampler(samples, 5, CPU)
    of_repeats = repeated(times, batch_size, sampler)
    steps = [torch.cat([of_repeats(plan.positions(step, rank)) for rank in range(ranks)]) for step in range(10)]
    single = sampler(range(40))
    for step, indices in enumerate(steps):
        assert torch.equal(indices, single[4 * step : 4 * step + 4].repeat(times))
        assert not (indices[::2] == indices[1::2]).any()
    assert torch.cat(steps).bincount().tolist() == [6] * samples
