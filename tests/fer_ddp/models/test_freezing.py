"""Frozen layers have no gradient, and stay in evaluation mode."""

import copy

import pytest
import torch
from torch import nn

from fer_ddp.models.freezing import freeze
from fer_ddp.models.registry import create_model


@pytest.fixture
def model() -> nn.Module:
    arguments = {"channels": [4, 8], "hidden": 16, "batch_norm": True, "block_dropout": 0.1}
    return create_model("plain_cnn", arguments, in_channels=1, image_size=16, num_classes=7)


def trained(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_the_backbone_is_all_but_the_head(model: nn.Module) -> None:
    freeze(model, ("backbone",), 7)
    assert trained(model) == ["head.4.weight", "head.4.bias"]
    model.train()
    modes = {type(module).__name__: module.training for module in model.modules()}
    assert (modes["BatchNorm2d"], modes["PlainCNN"]) == (False, True)
    assert model.get_submodule("head.3").training  # the head's dropout


def test_layers_are_frozen_by_name(model: nn.Module) -> None:
    freeze(model, ("blocks.0", "head.1.bias"), 7)
    frozen = ["blocks.0.0.weight", "blocks.0.1.weight", "blocks.0.1.bias", "head.1.bias"]
    assert [name for name, _ in model.named_parameters() if name not in trained(model)] == frozen
    copied = copy.deepcopy(model).train()  # as the average of weights is
    assert [copied.get_submodule(f"blocks.{block}.1").training for block in (0, 1)] == [False, True]


def test_running_statistics_of_frozen_layers_stay(model: nn.Module) -> None:
    freeze(model, ("blocks.0",), 7)
    before = copy.deepcopy(model.state_dict())
    model.train()(torch.rand(4, 1, 16, 16))
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == [f"blocks.1.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("block.0",), "model.freeze: the model has no layer 'block.0'; did you mean blocks.0?"),
        (("xyz",), "model.freeze: the model has no layer 'xyz'; it has blocks, head"),
        (("blocks", "head"), "model.freeze: freezes everything; leave at least the head to train"),
    ],
)
def test_a_name_that_matches_nothing_and_nothing_to_train_are_refused(
    model: nn.Module, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        freeze(model, names, 7)
    assert str(caught.value) == message
