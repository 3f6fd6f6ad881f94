"""The loss against an independent float64 reference on the whole batch, however the batch is split."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fer_ddp.optim.loss import LossConfig, balanced_class_weights, summed_loss

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


def test_balanced_weights_have_mean_1_over_the_training_samples() -> None:
    weights = balanced_class_weights(COUNTS)
    assert weights.dtype == torch.float64
    assert float((weights * torch.tensor(COUNTS)).sum() / sum(COUNTS)) == pytest.approx(1, rel=1e-15)
