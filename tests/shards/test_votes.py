"""The targets that FER+'s authors make of votes, on 20 rows of ``fer2013new.csv`` (MIT licence) checked by hand."""

import numpy as np
import pytest

from shards.labels import FER2013_CLASSES, FERPLUS
from shards.votes import (
    clearest_emotion,
    describe_votes,
    in_classes,
    is_usable,
    majority_targets,
    multi_targets,
    probability_targets,
)

N, H, S, D, A, G, F, C = range(8)
"""neutral, happiness, surprise, sadness, anger, disgust, fear, contempt."""

# The row of the file; its votes; the majority; votes that make up the probabilities; the set of several targets.
ROWS = [
    # more than half: 10 of 10; the single vote is an outlier
    (8, (0, 10, 0, 0, 0, 0, 0, 0, 0, 0), H, {H: 10}, {H}),
    # 6 of 8, three quarters exactly, are enough: the 2 add nothing
    (78, (6, 0, 0, 2, 1, 1, 0, 0, 0, 0), N, {N: 6}, {N}),
    (25, (2, 7, 0, 0, 0, 0, 0, 1, 0, 0), H, {H: 7}, {H}),
    # 6 of 9 are not: the 3 are taken too, and are 33 %
    (16, (0, 0, 6, 0, 1, 0, 3, 0, 0, 0), S, {S: 6, F: 3}, {S, F}),
    # 5 of 9 without the outlier, so a majority; contempt and fear have peaks as all others
    (21, (5, 0, 0, 4, 0, 0, 0, 0, 1, 0), N, {N: 5, D: 4}, {N, D}),
    (22, (1, 0, 1, 2, 0, 0, 5, 0, 1, 0), F, {F: 5, D: 2}, {F}),
    (497, (3, 0, 0, 1, 0, 1, 0, 5, 0, 0), C, {C: 5, N: 3}, {C, N}),
    # half is not more than half; two emotions with equally many are taken at once
    (102, (5, 0, 5, 0, 0, 0, 0, 0, 0, 0), None, {N: 5, S: 5}, {N, S}),
    # 4 and 3 of 9 are 78 %, so disgust's 2 are not taken
    (1, (4, 0, 0, 1, 3, 2, 0, 0, 0, 0), None, {N: 4, A: 3}, {N, A}),
    (221, (3, 3, 0, 0, 0, 0, 0, 4, 0, 0), None, {C: 4, N: 3, H: 3}, {C, N, H}),
    # sadness alone has 30 %, and not more than half
    (19, (1, 0, 2, 4, 2, 0, 0, 0, 1, 0), None, {D: 4, S: 2, A: 2}, set()),
    # four emotions are too many; 3 and 3 of 10 are more than half
    (151, (0, 1, 2, 3, 2, 0, 2, 0, 0, 0), None, {}, set()),
    (518, (2, 0, 3, 0, 2, 0, 3, 0, 0, 0), None, {}, {S, F}),
    # unknown comes after the emotions with as many votes, and ends the taking
    (318, (5, 2, 0, 0, 1, 0, 0, 0, 2, 0), N, {N: 5, H: 2}, {N}),
    (710, (3, 1, 3, 0, 0, 0, 0, 0, 3, 0), None, {N: 3, S: 3}, {N, S}),
    # unknown has as many votes as the next: happiness alone has 4 of 9; together they are more than half
    (599, (1, 4, 0, 2, 0, 0, 0, 0, 3, 0), None, {}, {H}),
    (749, (4, 0, 1, 1, 0, 0, 0, 0, 4, 0), None, {}, {N}),
    # unknown has the most votes, or all people see no face
    (606, (0, 2, 1, 3, 0, 0, 0, 0, 4, 0), None, {}, set()),
    (6796, (3, 1, 0, 0, 0, 0, 0, 0, 6, 0), None, {}, set()),
    (18, (0, 0, 0, 0, 0, 0, 0, 0, 0, 10), None, {}, set()),
]
VOTES = np.array([votes for _, votes, _, _, _ in ROWS])


def table(weights: list[dict[int, float]]) -> np.ndarray:
    out = np.zeros((len(weights), 8))
    for row, one in enumerate(weights):
        for emotion, weight in one.items():
            out[row, emotion] = weight / sum(one.values())
    return out


def test_the_majority_is_more_than_half_without_single_votes() -> None:
    expected = table([{} if majority is None else {majority: 1} for _, _, majority, _, _ in ROWS])
    np.testing.assert_array_equal(majority_targets(VOTES), expected)


def test_probabilities_are_of_the_emotions_that_have_three_quarters_of_the_votes() -> None:
    expected = table([weights for _, _, _, weights, _ in ROWS])
    np.testing.assert_allclose(probability_targets(VOTES), expected, rtol=1e-15)


def test_several_targets_are_the_emotions_with_thirty_per_cent() -> None:
    expected = [[float(emotion in chosen) for emotion in range(8)] for _, _, _, _, chosen in ROWS]
    np.testing.assert_array_equal(multi_targets(VOTES), expected)


def test_a_sample_is_usable_if_one_of_the_rules_has_a_target_for_it() -> None:
    assert [row for (row, *_), usable in zip(ROWS, is_usable(VOTES), strict=True) if not usable] == [151, 606, 6796, 18]


def test_the_clearest_emotion_is_the_majority_where_there_is_one() -> None:
    clearest = clearest_emotion(VOTES)
    assert all(clearest[at] == majority for at, (_, _, majority, _, _) in enumerate(ROWS) if majority is not None)
    assert clearest[[7, 9]].tolist() == [N, C]


def test_kinds_of_votes_are_counted() -> None:
    votes = np.concatenate([VOTES, np.zeros((3, 10), np.int64)])
    assert describe_votes(votes) == (
        "majority 8, no majority 10 (4 of them tied), unknown 1, not a face 1, without votes 3"
    )
    assert describe_votes(votes[:0]).startswith("majority 0, no majority 0 (0 of them tied)")


def test_seven_classes_leave_contempt_out_and_have_sum_1_again() -> None:
    rows = np.array([[3, 3, 0, 0, 0, 0, 0, 4, 0, 0], [4, 3, 0, 0, 0, 0, 0, 3, 0, 0]])
    happy, neutral = FER2013_CLASSES.index("happy"), FER2013_CLASSES.index("neutral")
    targets = in_classes(probability_targets(rows), FER2013_CLASSES)
    assert not targets[0].any()  # most say contempt
    assert (targets[1, happy], targets[1, neutral], targets[1].sum()) == pytest.approx((3 / 7, 4 / 7, 1))


def test_all_eight_classes_in_another_order_keep_their_probabilities() -> None:
    names = tuple(reversed(FERPLUS.class_names))
    targets = probability_targets(VOTES)
    np.testing.assert_allclose(in_classes(targets, names), targets[:, ::-1], rtol=1e-15)
