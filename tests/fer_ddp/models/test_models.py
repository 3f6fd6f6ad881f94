"""The models: shapes, sizes as their docstrings state them, and what `create_model` refuses."""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fer_ddp.models.face_cnn import FaceCNN
from fer_ddp.models.plain_cnn import PlainCNN
from fer_ddp.models.registry import MODELS, create_model
from fer_ddp.models.residual_cnn import AdvancedFaceCNN, ImprovedFaceCNN

GREY_FACES = {"in_channels": 1, "image_size": 48, "num_classes": 7}


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def refusal(name: str, arguments: dict[str, object], image_size: int = 48, in_channels: int = 1) -> str:
    with pytest.raises(ValueError, match="model") as refused:
        create_model(name, arguments, in_channels=in_channels, image_size=image_size, num_classes=7)
    return str(refused.value)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_finite_logits_for_grey_and_rgb_images(name: str, in_channels: int) -> None:
    model = create_model(name, {}, in_channels=in_channels, image_size=48, num_classes=7)
    with torch.no_grad():
        logits = model(torch.rand(2, in_channels, 48, 48))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("image_size", [32, 45])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_images_of_another_size(name: str, image_size: int) -> None:
    model = create_model(name, {}, in_channels=1, image_size=image_size, num_classes=8)
    with torch.no_grad():
        assert model(torch.rand(2, 1, image_size, image_size)).shape == (2, 8)


@pytest.mark.parametrize("name", MODELS)
def test_the_docstring_states_the_parameters_and_multiply_adds(name: str) -> None:
    model = create_model(name, {}, **GREY_FACES).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, 48, 48))
    stated = re.search(r"([\d,]+) parameters and ([\d.]+) million multiply-adds", MODELS[name].__doc__ or "")
    assert stated is not None
    million_multiply_adds = counter.get_total_flops() / 2e6
    assert stated.groups() == (f"{count_parameters(model):,}", f"{million_multiply_adds:.1f}")


def test_the_docstring_states_the_size_of_the_advanced_model_with_skip() -> None:
    model = create_model("advanced_face_cnn", {"skip": True}, **GREY_FACES)
    assert f"with `skip`, {count_parameters(model):,} and" in (AdvancedFaceCNN.__doc__ or "")


def test_pooling_before_relu_gives_what_relu_before_pooling_gives() -> None:
    model = FaceCNN(**GREY_FACES).eval()
    images = torch.rand(2, 1, 48, 48)
    features = images
    for block in model.blocks:
        convolution, norm, *_ = block.children()
        features = functional.max_pool2d(functional.relu(norm(convolution(features))), 2)
    torch.testing.assert_close(model(images), model.head(features), rtol=0, atol=0)


def test_a_skip_connection_carries_the_image_past_convolutions_that_give_nothing() -> None:
    images = torch.rand(2, 1, 48, 48)
    spread = {}
    for skip in (False, True):
        block = AdvancedFaceCNN(**GREY_FACES, skip=skip).eval().blocks[0]
        nn.init.zeros_(block.get_parameter("convolutions.4.weight"))  # the last batch norm's scale
        spread[skip] = block(images).std().item() > 0
    assert spread == {False: False, True: True}


def test_model_3_has_the_weights_and_outputs_it_had_as_a_class_of_its_own() -> None:
    # Recorded when ImprovedFaceCNN did not yet share Model 4's code, so checkpoints from then load.
    torch.manual_seed(0)
    model = ImprovedFaceCNN(**GREY_FACES).double().eval()
    logits = model(torch.linspace(-1, 1, 4 * 48 * 48).view(4, 1, 48, 48).double())
    recorded = [
        0.06912260977,
        -0.03282779278,
        0.03219525289,
        0.01879036134,
        0.04490067522,
        -0.05318378911,
        0.07089406576,
    ]
    assert logits[0].tolist() == pytest.approx(recorded, rel=1e-6)
    assert len(model.state_dict()) == 80
    assert {"blocks.3.convolutions.4.weight", "blocks.3.shortcut.0.weight", "head.5.bias"} <= model.state_dict().keys()


def test_plain_cnn_puts_batch_norm_after_each_convolution_and_dropout_after_each_block() -> None:
    model = PlainCNN(**GREY_FACES, channels=(8, 16), batch_norm=True, block_dropout=0.1)
    kinds = [[type(layer).__name__ for layer in block.children()] for block in model.blocks]
    assert kinds == [["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU", "Dropout"]] * 2


@pytest.mark.parametrize("name", MODELS)
def test_a_model_draws_random_numbers_only_in_its_dropout_modules(name: str) -> None:
    model = create_model(name, {}, **GREY_FACES)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    before = torch.get_rng_state()
    with torch.no_grad():
        model(torch.zeros(2, 1, 48, 48))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", MODELS)
def test_building_a_model_draws_its_weights_and_nothing_else(name: str) -> None:
    torch.manual_seed(3)
    MODELS[name](**GREY_FACES)
    expected = torch.get_rng_state()
    torch.manual_seed(3)
    create_model(name, {}, **GREY_FACES)
    assert torch.equal(torch.get_rng_state(), expected)


def test_a_model_is_handed_out_in_training_mode_with_untouched_statistics() -> None:
    model = create_model("face_cnn", {}, **GREY_FACES)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert model.training
    assert [int(norm.num_batches_tracked or 0) for norm in norms] == [0, 0, 0, 0]
    assert all(torch.equal(norm.running_mean, torch.zeros(norm.num_features)) for norm in norms)  # type: ignore[arg-type]


def test_lists_and_tuples_are_taken_for_channels() -> None:
    sizes = [
        count_parameters(create_model("plain_cnn", {"channels": channels}, **GREY_FACES))
        for channels in ([8, 16], (8, 16))
    ]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_torchvision_model_takes_grey_and_rgb_images(in_channels: int) -> None:
    model = create_model("torchvision/resnet18", {}, in_channels=in_channels, image_size=48, num_classes=7)
    logits = model(torch.rand(2, in_channels, 48, 48))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


def test_a_grey_torchvision_model_gives_what_the_rgb_one_gives_for_a_grey_image() -> None:
    torch.manual_seed(0)
    rgb = create_model("torchvision/resnet18", {}, in_channels=3, image_size=48, num_classes=7).double().eval()
    torch.manual_seed(0)
    grey = create_model("torchvision/resnet18", {}, **GREY_FACES).double().eval()
    images = torch.rand(2, 1, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        # The three channels' weights were added up in float32.
        torch.testing.assert_close(grey(images), rgb(images.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["squeezenet1_1", "vit_b_16"])
def test_torchvision_models_of_other_families_are_adapted_too(name: str) -> None:
    model = create_model(f"torchvision/{name}", {}, **GREY_FACES)
    with torch.no_grad():
        assert model(torch.rand(2, 1, 48, 48)).shape == (2, 7)


def test_arguments_reach_a_torchvision_model() -> None:
    model = create_model("torchvision/squeezenet1_1", {"dropout": 0.25}, **GREY_FACES)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.25]


def test_torchvision_is_imported_only_when_it_is_asked_for() -> None:
    program = "import sys, fer_ddp.models.registry; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "face_cn",
            {},
            "model.name: there is no model 'face_cn' (did you mean face_cnn?); choose "
            "advanced_face_cnn, compact_cnn, face_cnn, improved_face_cnn, plain_cnn, torchvision/NAME or timm/NAME for "
            "a model of these packages, or your own: path/to/file.py:Class or package.module:Class",
        ),
        (
            "face_cnn",
            {"dropuot": 0.5},
            "model.arguments.dropuot: face_cnn has no such option (did you mean dropout?); it has hidden, dropout",
        ),
        (
            "face_cnn",
            {"in_channels": 3},
            "model.arguments.in_channels: face_cnn has no such option; it has hidden, dropout",
        ),
        (
            "face_cnn",
            {"dropout": "0.5"},
            "model.arguments.dropout: face_cnn can't use '0.5': input should be a valid number",
        ),
        ("face_cnn", {"dropout": 1}, "model.arguments.dropout: face_cnn can't use 1: input should be less than 1"),
        (
            "face_cnn",
            {"hidden": True},
            "model.arguments.hidden: face_cnn can't use True: input should be a valid integer",
        ),
        (
            "plain_cnn",
            {"channels": [8, 0]},
            "model.arguments.channels[1]: plain_cnn can't use 0: input should be greater than or equal to 1",
        ),
        (
            "plain_cnn",
            {"channels": []},
            "model.arguments.channels: plain_cnn can't use []: value should have at least 1 item after validation, "
            "not 0",
        ),
        (
            "torchvision/resnet8",
            {},
            "model.name: torchvision has no classification model 'resnet8'; did you mean torchvision/resnet18 or "
            "torchvision/resnet50 or torchvision/resnet34?",
        ),
        (
            "torchvision/resnet18",
            {"weights": "DEFAULT"},
            "model.arguments.weights: leave it out; models start untrained here, and their classes and image size "
            "are those of the data",
        ),
        (
            "torchvision/resnet18",
            {"depth": 2},
            "model: torchvision/resnet18 with depth=2 can't be built for images of 1 x 48 x 48 (channels, height, "
            "width): ResNet.__init__() got an unexpected keyword argument 'depth'",
        ),
    ],
)
def test_a_wrong_name_or_argument_is_refused_with_what_would_be_right(
    name: str, arguments: dict[str, object], message: str
) -> None:
    assert refusal(name, arguments) == message


@pytest.mark.parametrize("name", ["face_cnn", "torchvision/alexnet"])
def test_images_too_small_for_a_model_are_refused(name: str) -> None:
    assert re.match(
        rf"model: {name} can't be built for images of 1 x 8 x 8 \(channels, height, width\): \S+", refusal(name, {}, 8)
    )


def test_a_plain_cnn_too_deep_for_its_images_is_refused() -> None:
    assert "model: plain_cnn with channels=[4, 4, 4, 4, 4, 4] can't be built for images of 1 x 48 x 48" in refusal(
        "plain_cnn", {"channels": [4] * 6}
    )


def test_torchvision_models_refuse_images_of_two_channels() -> None:
    assert refusal("torchvision/resnet18", {}, in_channels=2).endswith(
        "it needs grey or RGB images, of 1 or 3 channels"
    )


def test_a_name_that_torchvision_has_is_suggested() -> None:
    assert refusal("resnet18", {}).startswith(
        "model.name: there is no model 'resnet18' (did you mean torchvision/resnet18 or timm/resnet18?); choose "
    )
