"""Targets that move from the labels to the predictions."""

import torch

from fer_ddp.optim.label_correction import LabelCorrection, LabelCorrectionConfig


def test_a_target_is_a_running_average_of_the_label_and_the_predictions() -> None:
    labels = torch.tensor([0, 1, 1])
    correction = LabelCorrection(labels, 2, LabelCorrectionConfig(momentum=0.75), torch.float64)
    indices = torch.tensor([2, 0])
    even = torch.zeros(2, 2, dtype=torch.float64)
    first = correction.corrected(indices, even)
    torch.testing.assert_close(first, torch.tensor([[0.125, 0.875], [0.875, 0.125]], dtype=torch.float64))
    second = correction.corrected(indices, even)
    torch.testing.assert_close(second[:, 1], torch.tensor([0.78125, 0.21875], dtype=torch.float64))
    assert correction.targets[1].tolist() == [0, 1]
