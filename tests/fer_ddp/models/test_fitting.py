"""Weights from elsewhere in a model of other classes or channels: what is loaded, adapted, left out or refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fer_ddp.models.fitting import fit_weights
from fer_ddp.models.registry import create_model


def network(channels: int = 1, classes: int = 7, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    arguments = {"channels": [4, 8], "hidden": 16, "batch_norm": True}
    return create_model("plain_cnn", arguments, in_channels=channels, image_size=16, num_classes=classes)


def fit(model: nn.Module, weights: dict[str, Tensor], classes: int = 7, new_head: bool = False) -> object:
    return fit_weights(model, weights, classes, new_head=new_head)


def test_weights_of_the_same_model_are_loaded_whole() -> None:
    model, other = network(), network(seed=1).state_dict()
    fitted = fit_weights(model, other, 7, new_head=False)
    assert (fitted.loaded, fitted.replaced, fitted.adapted, fitted.left_out) == (len(other), (), None, ())
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("classes", "new_head"), [(5, False), (7, True)])
def test_the_head_stays_as_initialized_for_other_classes(classes: int, new_head: bool) -> None:
    model, own, other = (
        network(classes=7),
        network(classes=7).state_dict(),
        network(classes=classes, seed=1).state_dict(),
    )
    fitted = fit_weights(model, other, 7, new_head=new_head)
    assert fitted.replaced == ("head.4.weight", "head.4.bias")
    for name, value in model.state_dict().items():
        assert torch.equal(value, (own if name in fitted.replaced else other)[name])


def test_rgb_weights_see_in_a_grey_image_what_they_saw_in_rgb() -> None:
    rgb, grey = network(channels=3).double().eval(), network(channels=1, seed=1).double().eval()
    assert fit_weights(grey, rgb.state_dict(), 7, new_head=False).adapted == "summed over RGB for grey images"
    images = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(grey(images), rgb(images.expand(-1, 3, -1, -1)))


def test_grey_weights_see_in_an_rgb_image_its_mean() -> None:
    grey, rgb = network(channels=1).double().eval(), network(channels=3, seed=1).double().eval()
    fit(rgb, grey.state_dict())
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(rgb(images), grey(images.mean(dim=1, keepdim=True)))


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "model.module._orig_mod."])
def test_prefixes_of_wrappers_are_understood(prefix: str) -> None:
    model, other = network(), network(seed=1).state_dict()
    fit(model, {f"{prefix}{name}": value for name, value in other.items()} | {"criterion.weight": torch.ones(1)})
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())


def test_what_the_model_does_not_have_is_left_out() -> None:
    weights = network(seed=1).state_dict() | {"auxiliary.weight": torch.ones(1)}
    assert fit_weights(network(), weights, 7, new_head=False).left_out == ("auxiliary.weight",)


def test_weights_that_lack_something_or_have_other_shapes_change_nothing() -> None:
    model, before = network(), network().state_dict()
    weights = network(seed=1).state_dict()
    del weights["blocks.1.0.weight"]
    weights["blocks.0.1.bias"] = torch.ones(5)
    with pytest.raises(ValueError, match=r".") as caught:
        fit(model, weights)
    assert str(caught.value) == (
        "it lacks blocks.1.0.weight; it has other shapes: blocks.0.1.bias (5,) instead of (4,)"
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor * torch.nan, "NaN"),
        (lambda tensor: tensor / 0, "NaN or infinity"),
        (lambda tensor: tensor.long(), "is int64"),
        (lambda tensor: tensor.bool(), "is bool"),
        (lambda tensor: tensor.to(torch.complex64), "is complex64"),
        (lambda tensor: tensor.to(torch.float8_e5m2), "is float8_e5m2"),
    ],
)
def test_weights_that_are_no_finite_floating_point_numbers_are_refused(
    change: Callable[[Tensor], Tensor], message: str
) -> None:
    model = network()
    with pytest.raises(ValueError, match=message):
        fit(model, {name: change(tensor) for name, tensor in network(seed=1).state_dict().items()})
    torch.testing.assert_close(model.state_dict(), network().state_dict(), rtol=0, atol=0)
