"""Grad-CAM and the features before the last layer, against what one calculates by hand."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fer_ddp.evaluation.features import grad_cam, penultimate_features
from fer_ddp.models.plain_cnn import PlainCNN


class Small(nn.Module):
    """Convolution, norm, activation, pooling, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.act = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.pool, self.hidden, self.last = nn.AvgPool2d(4), nn.Linear(12, 5), nn.Linear(5, 4)

    def maps(self, images: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(images)))

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.act(self.norm(self.conv(images)))).flatten(1)
        logits: Tensor = self.last(torch.tanh(self.hidden(x)))
        return logits


IMAGES = torch.rand(70, 1, 8, 8, generator=torch.Generator().manual_seed(1))  # more than one batch


def test_the_heat_is_grad_cams_formula_on_the_last_maps() -> None:
    model, classes = Small().eval().requires_grad_(False), torch.arange(70) % 4
    found = grad_cam(model, IMAGES, classes)
    assert found is not None
    with torch.no_grad():
        maps = model.maps(IMAGES)
    expected = []
    for one, label in zip(maps, classes, strict=True):
        # The gradient by differences: the logit is smooth in the maps' pooled means.
        def logit(values: Tensor, label: int = int(label)) -> float:
            x = model.pool(values[None]).flatten(1)
            return float(model.last(torch.tanh(model.hidden(x)))[0, label])

        weights = []
        for channel in range(3):
            step = torch.zeros_like(one, dtype=torch.float64)
            step[channel] = 1e-4
            model.double()
            weights.append((logit(one.double() + step) - logit(one.double() - step)) / 2e-4 / 64)
        heat = np.maximum(sum(w * m for w, m in zip(weights, one.numpy(), strict=True)), 0)
        expected.append(heat / max(heat.max(), 1e-30))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_features_are_what_the_last_linear_layer_gets() -> None:
    model = Small().train()
    found = penultimate_features(model, IMAGES)
    assert model.training
    model.eval()
    with torch.no_grad():
        expected = torch.tanh(model.hidden(model.pool(model.maps(IMAGES)).flatten(1)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_model_that_pools_in_its_block_and_one_without_convolutions() -> None:
    model = PlainCNN(in_channels=1, image_size=8, num_classes=4, channels=[2, 3], hidden=6).eval()
    heat = grad_cam(model, IMAGES, torch.zeros(70, dtype=torch.int64))
    assert heat is not None
    assert heat.shape == (70, 8, 8)
    assert heat.max() <= 1
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    assert grad_cam(linear, IMAGES, torch.zeros(70, dtype=torch.int64)) is None
    np.testing.assert_array_equal(penultimate_features(linear, IMAGES), IMAGES.flatten(1))
