"""Ensembles: means by hand, and weights that have a closed form or that a general optimizer finds too."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from fer_ddp.metrics.averaging import FAMILY_WEIGHTS_TOLERANCE, fit_family_weights, mean_probabilities

SURE = np.array([[1.0, 0.0], [0.5, 0.5]])
UNSURE = np.array([[0.5, 0.5], [0.0, 1.0]])


def random_members(count: int) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Members that are right more often than not, each in its own way."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 7, 300)
    return labels, [generator.dirichlet(np.ones(7), 300) * 0.7 + 0.3 * np.eye(7)[labels] for _ in range(count)]


def test_members_weigh_the_same_unless_told() -> None:
    assert mean_probabilities([SURE, UNSURE]).tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_only_the_ratios_of_the_weights_matter() -> None:
    assert mean_probabilities([SURE, UNSURE], [6, 2]).tolist() == [[0.875, 0.125], [0.375, 0.625]]


def test_narrow_members_are_averaged_in_double_precision() -> None:
    thirds = np.full((1, 3), 1 / 3, dtype=np.float32)
    assert mean_probabilities([thirds] * 2).tolist() == [[float(np.float32(1 / 3))] * 3]


@pytest.mark.parametrize("members", [[], [SURE, SURE[:1]]])
def test_members_that_answer_other_samples_are_refused(members: list[NDArray[np.float64]]) -> None:
    shapes = [member.shape for member in members]
    with pytest.raises(ValueError, match=f"^members have the shapes {re.escape(str(shapes))}; one shape for all is"):
        mean_probabilities(members)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    sentence = f"weights {weights} for 2 members; one each, 0 or more, not all 0"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        mean_probabilities([SURE, UNSURE], weights)


def test_families_that_know_different_samples_weigh_as_many_as_they_know() -> None:
    """Each is certain and wrong where the other is right, so w^3 (1 - w) is the likelihood, and w = 3/4 its best."""
    labels = np.array([0, 0, 0, 0])
    knows_three, knows_one = np.eye(2)[[0, 0, 0, 1]], np.eye(2)[[1, 1, 1, 0]]
    fitted = fit_family_weights(labels, [knows_three, knows_one], ["three", "one"])
    assert fitted.families == pytest.approx({"three": 0.75, "one": 0.25}, abs=1e-4)


def test_the_weights_are_those_that_a_general_optimizer_finds() -> None:
    labels, members = random_members(3)
    of_label = np.stack([member[np.arange(300), labels] for member in members], axis=1)
    found = minimize(
        lambda weights: -np.log(of_label @ weights).mean(),
        np.full(3, 1 / 3),
        method="SLSQP",
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-12},
    )
    fitted = fit_family_weights(labels, members, ["a", "b", "c"])
    loss = -np.log(of_label @ np.array(list(fitted.families.values()))).mean()
    assert found.fun - 1e-9 <= loss <= found.fun + FAMILY_WEIGHTS_TOLERANCE
    assert list(fitted.families.values()) == pytest.approx(found.x, abs=0.01)


def test_a_family_that_only_harms_gets_next_to_nothing() -> None:
    labels, (good,) = random_members(1)
    bad = np.eye(7)[(labels + 1) % 7]
    assert fit_family_weights(labels, [bad, good], ["bad", "good"]).families["bad"] < 1e-4


def test_a_family_shares_its_weight_among_its_members() -> None:
    labels, (first, second, third) = random_members(3)
    fitted = fit_family_weights(labels, [first, second, third], ["a", "b", "a"])
    a, b = fitted.families["a"], fitted.families["b"]
    assert fitted.members == (a / 2, b, a / 2)
    alone = fit_family_weights(labels, [mean_probabilities([first, third]), second], ["a", "b"])
    assert fitted.families == alone.families


def test_one_family_has_all_the_weight() -> None:
    assert fit_family_weights(np.array([0, 1]), [SURE, UNSURE], ["a", "a"]).members == (0.5, 0.5)


@pytest.mark.parametrize(("members", "families"), [([SURE, UNSURE], ["a"]), ([], [])])
def test_a_member_without_a_family_or_no_member_is_refused(
    members: list[NDArray[np.float64]], families: list[str]
) -> None:
    sentence = f"{len(families)} families for {len(members)} members; one each, of one member at least, is right"
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        fit_family_weights(np.array([0, 1]), members, families)


def test_members_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^row 0 of the probabilities, \[2.0, 0.0\], is no distribution; "):
        fit_family_weights(np.array([0]), [np.array([[2.0, 0.0]])], ["a"])
