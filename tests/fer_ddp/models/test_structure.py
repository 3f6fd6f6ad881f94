"""The head, the first convolution and the depth of layers are found in models of any origin."""

import pytest
from torch import nn

from fer_ddp.models.registry import create_model
from fer_ddp.models.structure import first_convolution, head_of, layers_by_depth

GREY_FACES = {"in_channels": 1, "image_size": 64, "num_classes": 7}


@pytest.mark.parametrize(
    ("name", "head", "first", "layers"),
    [
        ("plain_cnn", "head.4", "blocks.0.0", ["blocks.0.0", "blocks.1.0", "head.1"]),
        (
            "torchvision/resnet18",
            "fc",
            "conv1",
            ["conv1", *(f"layer{stage}.{block}.conv1" for stage in (1, 2, 3, 4) for block in (0, 1)), "fc"],
        ),
        (
            "torchvision/mobilenet_v3_small",
            "classifier.3",
            "features.0.0",
            [
                "features.0.0",
                *(f"features.{block}.block.0.0" for block in range(1, 12)),
                "features.12.0",
                "classifier.0",
            ],
        ),
        (
            "timm/test_vit",
            "head",
            "patch_embed.proj",
            ["patch_embed.proj", *(f"blocks.{i}.norm1" for i in range(6)), "norm"],
        ),
    ],
)
def test_layers_are_found_by_depth(name: str, head: str, first: str, layers: list[str]) -> None:
    model = create_model(name, {}, **GREY_FACES)
    assert (head_of(model, 7), first_convolution(model)) == (head, first)
    found = layers_by_depth(model, 7)
    assert [layer[0].rpartition(".")[0] for layer in found] == layers
    assert sorted(name for layer in found for name in layer) == sorted(name for name, _ in model.named_parameters())


def test_a_model_of_plain_layers_has_a_head_and_the_rest() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 7))
    assert layers_by_depth(model, 7) == [["1.weight", "1.bias"], ["3.weight", "3.bias"]]


def test_a_model_without_a_layer_for_the_classes_has_no_head() -> None:
    for find in (head_of, layers_by_depth):
        with pytest.raises(ValueError, match="the model has no linear or convolution layer with 7 outputs"):
            find(nn.Linear(9, 6), 7)
    assert layers_by_depth(nn.Linear(9, 7), 7) == [["weight", "bias"]]
