"""The loss against an independent float64 reference on the whole batch, however the batch is split."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fer_ddp.config.load import load_job
from fer_ddp.errors import JobError
from fer_ddp.optim.loss import (
    LossConfig,
    balanced_class_weights,
    class_weights,
    logit_offsets,
    smoothing_matrix,
    summed_loss,
)

COUNTS = (50, 5, 0, 120, 31)


def batch(samples: int = 23) -> tuple[Tensor, Tensor]:
    """float64 logits and mixed targets (samples, 5); class 2 has no sample."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(samples, 5, generator=generator, dtype=torch.float64)
    present = torch.tensor([0, 1, 3, 4])
    pairs = present[torch.randint(0, 4, (2, samples), generator=generator)]
    share = torch.rand(samples, 1, generator=generator, dtype=torch.float64)
    one_hot = functional.one_hot(pairs, 5).double()
    return logits, share * one_hot[0] + (1 - share) * one_hot[1]


def reference(
    logits: NDArray[np.float64], targets: NDArray[np.float64], smoothing: float, weights: NDArray[np.float64]
) -> float:
    """The mean over the samples of -sum_c weight_c * smoothed_c * log(softmax_c), as its definition says."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        probabilities = np.exp(row) / np.exp(row).sum()
        for c in range(len(row)):
            smoothed = (1 - smoothing) * target[c] + smoothing / len(row)
            total -= weights[c] * smoothed * np.log(probabilities[c])
    return total / len(logits)


def reference_weights() -> NDArray[np.float64]:
    """Inverse to the counts and with mean 1 over the samples, found without our formula."""
    counts = np.array(COUNTS, dtype=np.float64)
    inverse = np.where(counts > 0, 1 / np.maximum(counts, 1), 0)
    weights: NDArray[np.float64] = inverse * counts.sum() / (inverse * counts).sum()
    return weights


@pytest.mark.parametrize("parts", [[23], [11, 12], [3, 15, 5]], ids=["whole", "two", "three unequal"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("balanced", [False, True], ids=["unweighted", "weighted"])
def test_the_parts_losses_add_up_to_the_reference_of_the_whole_batch(
    parts: list[int], smoothing: float, balanced: bool
) -> None:
    logits, targets = batch()
    config = LossConfig(label_smoothing=smoothing, class_weights="balanced" if balanced else "none")
    weights = balanced_class_weights(COUNTS) if balanced else None
    pieces = zip(logits.split(parts), targets.split(parts), strict=True)
    total = sum(summed_loss(part, target, config, weights) / len(logits) for part, target in pieces)
    expected = reference(logits.numpy(), targets.numpy(), smoothing, reference_weights() if balanced else np.ones(5))
    assert float(total) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_weights_it_is_torchs_mean(smoothing: float) -> None:
    logits, _ = batch()
    labels = torch.arange(23) % 5
    targets = functional.one_hot(labels, 5).double()
    ours = summed_loss(logits, targets, LossConfig(label_smoothing=smoothing), None) / len(logits)
    theirs = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="mean")
    assert float(ours) == pytest.approx(float(theirs), rel=1e-14)


def test_the_gradient_is_that_of_the_whole_batch() -> None:
    logits, targets = batch()
    config = LossConfig(label_smoothing=0.1, class_weights="balanced")
    weights = balanced_class_weights(COUNTS)

    def gradient(parts: list[int]) -> Tensor:
        leaf = logits.clone().requires_grad_()
        for part, target in zip(leaf.split(parts), targets.split(parts), strict=True):
            (summed_loss(part, target, config, weights) / len(leaf)).backward()
        assert leaf.grad is not None
        return leaf.grad

    assert torch.allclose(gradient([3, 15, 5]), gradient([23]), rtol=1e-13, atol=0)


def test_half_precision_logits_are_summed_in_the_precision_of_the_targets() -> None:
    logits, targets = batch()
    loss = summed_loss(logits.bfloat16(), targets.float(), LossConfig(), None)
    expected = reference(logits.bfloat16().double().numpy(), targets.numpy(), 0.0, np.ones(5)) * len(logits)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_inverse_to_the_counts() -> None:
    # 206 samples in 4 classes that have any.
    assert balanced_class_weights(COUNTS).tolist() == [206 / 200, 206 / 20, 0.0, 206 / 480, 206 / 124]


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(JobError, match="^loss.class_weights: all are 0, so nothing would be learned; give a weight ab"):
        class_weights(LossConfig(class_weights=(0.0, 0.0)), ("happy", "sad"), (3, 4))


def test_balanced_weights_have_mean_1_over_the_training_samples() -> None:
    weights = balanced_class_weights(COUNTS)
    assert weights.dtype == torch.float64
    assert float((weights * torch.tensor(COUNTS)).sum() / sum(COUNTS)) == pytest.approx(1, rel=1e-15)


def focal_reference(
    logits: NDArray[np.float64],
    targets: NDArray[np.float64],
    gamma: float,
    smoothing: float,
    weights: NDArray[np.float64],
    tau: float,
) -> float:
    """The mean of sum_c weight_c * smoothed_c * (1 - p_c)^gamma * -log(p_c), p of the logits plus tau * log(prior).

    The prior of the class without samples is that of one sample.
    """
    total, counts = 0.0, [max(count, 1) for count in COUNTS]
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        exponents = [np.exp(value) * (count / sum(COUNTS)) ** tau for value, count in zip(row, counts, strict=True)]
        for c in range(len(row)):
            p = exponents[c] / sum(exponents)
            smoothed = (1 - smoothing) * target[c] + smoothing / len(row)
            total -= weights[c] * smoothed * (1 - p) ** gamma * np.log(p)
    return float(total / len(logits))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("balanced", [False, True], ids=["unweighted", "weighted"])
def test_focal_loss_and_logit_adjustment_are_those_of_the_reference(gamma: float, tau: float, balanced: bool) -> None:
    logits, targets = batch()
    config = LossConfig(
        name="focal",
        focal_gamma=gamma,
        label_smoothing=0.1,
        class_weights="balanced" if balanced else "none",
        logit_adjustment=tau,
    )
    weights, offsets = class_weights(config, "abcde", COUNTS), logit_offsets(config, COUNTS)
    pieces = zip(logits.split([3, 15, 5]), targets.split([3, 15, 5]), strict=True)
    total = sum(summed_loss(part, target, config, weights, offsets) / len(logits) for part, target in pieces)
    of_reference = reference_weights() if balanced else np.ones(5)
    expected = focal_reference(logits.numpy(), targets.numpy(), gamma, 0.1, of_reference, tau)
    assert float(total) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("tau", [1.0, 1.5])
def test_logit_adjustment_of_the_cross_entropy_is_the_focal_one_with_gamma_0(tau: float) -> None:
    logits, targets = batch()
    config = LossConfig(label_smoothing=0.1, logit_adjustment=tau)
    ours = summed_loss(logits, targets, config, None, logit_offsets(config, COUNTS)) / len(logits)
    expected = focal_reference(logits.numpy(), targets.numpy(), 0.0, 0.1, np.ones(5), tau)
    assert float(ours) == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_the_focal_loss_is_finite_where_a_class_is_as_good_as_certain() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    summed_loss(logits, torch.tensor([[1.0, 0.0]] * 2), LossConfig(name="focal", focal_gamma=0.5), None).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_the_loss_of_sets_is_that_of_the_most_probable_right_class(weighted: bool) -> None:
    logits, _ = batch()
    sets = (torch.arange(23)[:, None] // torch.tensor([1, 2, 3, 4, 5]) % 2).double()
    weights = balanced_class_weights(COUNTS) if weighted else torch.ones(5, dtype=torch.float64)
    expected = 0.0
    for row, one in zip(logits.tolist(), sets.tolist(), strict=True):
        exponents = [np.exp(value) for value in row]
        # As FER+'s authors write it: a class that is not right counts a thousandth.
        scores = [(0.999 * each + 0.001) * e / sum(exponents) for each, e in zip(one, exponents, strict=True)]
        expected -= weights[int(np.argmax(scores))].item() * np.log(max(scores))
    ours = summed_loss(logits, sets, LossConfig(), weights if weighted else None, None, True)
    assert float(ours) == pytest.approx(expected, rel=1e-12)


NAMES = ("angry", "disgust", "fear", "happy", "sad")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ([1, 3, 1, 0.5, 1], [1, 3, 1, 0.5, 1]),
        ({"disgust": 3, "Happiness": 0.5}, [1, 3, 1, 0.5, 1]),
        ("balanced", balanced_class_weights(COUNTS).tolist()),
    ],
    ids=["list", "names", "balanced"],
)
def test_class_weights_are_given_as_a_list_or_by_name(tiny_job: Path, chosen: Any, expected: list[float]) -> None:
    config = load_job(tiny_job, [f"loss.class_weights={chosen}"]).loss
    weights = class_weights(config, NAMES, COUNTS)
    assert weights is not None
    assert weights.tolist() == expected


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            [1, 2],
            r"class_weights: has 2 numbers; the data have 5 classes, so give one number for each of angry, disgust",
        ),
        ({"disgusst": 2}, r"class_weights\.disgusst: is not a class of the data; did you mean disgust\?"),
        ({"contempt": 2}, r"class_weights\.contempt: is not a class of the data; the classes are angry, disgust, fear"),
        ([0, 0, 0, 0, 0], r"class_weights: all are 0"),
        ("balnced", r"class_weights: is \"balnced\"; it must be none, balanced, a list of a number for each class"),
        ([1, -2], r"class_weights: is \[1, -2\]; it must be none, balanced, a list of a number for each class"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused_by_name(tiny_job: Path, chosen: Any, message: str) -> None:
    with pytest.raises(JobError, match=f"loss.{message}"):
        class_weights(load_job(tiny_job, [f"loss.class_weights={chosen}"]).loss, NAMES, COUNTS)


MATRIX = [[0.5, 0.5, 0, 0, 0], [0.1, 0.6, 0.1, 0.1, 0.1], [0, 0, 1, 0, 0], [0.25, 0, 0, 0.75, 0], [0, 0, 0.5, 0.5, 0]]


def no_votes() -> Tensor:
    raise AssertionError


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_a_target_is_smoothed_by_the_row_of_each_of_its_classes(name: str) -> None:
    logits, targets = batch()
    config = LossConfig(name=name, focal_gamma=0.0, label_smoothing=0.3, smoothing_matrix=MATRIX)  # type: ignore[arg-type]
    smoothed = [
        [0.7 * target[c] + 0.3 * sum(target[k] * MATRIX[k][c] for k in range(5)) for c in range(5)]
        for target in targets.tolist()
    ]
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    matrix = smoothing_matrix(config, NAMES, no_votes)
    ours = summed_loss(logits, targets, config, weights, None, False, matrix) / len(logits)
    expected = reference(logits.numpy(), np.array(smoothed), 0.0, weights.numpy())
    assert float(ours) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_an_even_matrix_is_plain_label_smoothing(name: str) -> None:
    logits, targets = batch()
    config = LossConfig(name=name, label_smoothing=0.3)  # type: ignore[arg-type]
    even = torch.full((5, 5), 0.2, dtype=torch.float64)
    ours = summed_loss(logits, targets, config, None, None, False, even)
    torch.testing.assert_close(ours, summed_loss(logits, targets, config, None), rtol=1e-12, atol=0)
    assert smoothing_matrix(config, NAMES, no_votes) is None


@pytest.mark.parametrize(
    ("smoothing", "matrix", "message"),
    [
        (0.0, MATRIX, "is of no effect without loss.label_smoothing; set that, such as to 0.1"),
        (0.0, "votes", "is of no effect without loss.label_smoothing; set that, such as to 0.1"),
        (0.1, MATRIX[:4], "has 4 rows of 5 numbers; the data have 5 classes, so give 5 rows of 5, for angry, disgust"),
        (0.1, [*MATRIX[:4], [1.0]], "has 5 rows of 1 or 5 numbers; the data have 5 classes"),
        (0.1, [*MATRIX[:4], [0, 0, 0, 0, 0.9]], f"the row of {NAMES[4]} sums to 0.9; it must sum to 1"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(smoothing: float, matrix: Any, message: str) -> None:
    with pytest.raises(JobError) as refused:
        smoothing_matrix(LossConfig(label_smoothing=smoothing, smoothing_matrix=matrix), NAMES, no_votes)
    assert str(refused.value).startswith(f"loss.smoothing_matrix: {message}")


def test_what_is_no_matrix_is_refused_as_the_job_is_read(tiny_job: Path) -> None:
    with pytest.raises(JobError) as refused:
        load_job(tiny_job, ["loss.smoothing_matrix=[[0.5, -1]]"])
    assert str(refused.value) == (
        "command line: loss.smoothing_matrix: is [[0.5, -1]]; it must be even, votes, or a list of a row for each "
        "class, of a number for each class, all 0 or more"
    )
