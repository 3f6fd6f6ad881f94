"""Work of several threads, in order and bounded."""

import threading
from itertools import count

import pytest

from shards.parallel import ordered_map


def test_results_come_in_the_order_of_the_items_whichever_is_done_first():
    second_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            second_done.wait(timeout=20)
        else:
            second_done.set()
        return item * 10

    assert list(ordered_map(work, range(5), threads=2)) == [0, 10, 20, 30, 40]


def test_no_more_items_are_drawn_than_may_wait():
    drawn: list[int] = []
    results = ordered_map(lambda item: item, (drawn.append(item) or item for item in count()), threads=2, ahead=3)
    assert [next(results), next(results)] == [0, 1]
    assert drawn == [0, 1, 2, 3, 4]
    results.close()


def test_an_error_is_raised_in_its_turn():
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    results = ordered_map(work, count(), threads=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_a_generator_that_is_closed_leaves_no_thread():
    before = threading.active_count()
    results = ordered_map(lambda item: item, count(), threads=3)
    next(results)
    assert threading.active_count() > before
    results.close()
    assert threading.active_count() == before
