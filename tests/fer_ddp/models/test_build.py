"""The model a job names, as the trainer uses it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fer_ddp.errors import JobError
from fer_ddp.layers.dropout import PositionDropout
from fer_ddp.models.build import ModelConfig, build_model, prepare_model
from fer_ddp.models.registry import MODELS
from shards.manifest import Manifest, read_manifest

CPU = torch.device("cpu")
TINY = ModelConfig(name="plain_cnn", arguments={"channels": [4, 8], "hidden": 16, "batch_norm": True})


@pytest.fixture
def manifest(faces: Path) -> Manifest:
    return read_manifest(faces)


def built(manifest: Manifest, config: ModelConfig = TINY, seed: int = 0) -> nn.Module:
    return build_model(
        config,
        seed=seed,
        image_shape=manifest.image_shape,
        num_classes=len(manifest.class_names),
    )


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def refusal(manifest: Manifest, config: ModelConfig = TINY) -> str:
    with pytest.raises(JobError) as caught:
        built(manifest, config)
    return str(caught.value)


class Own(nn.Module):
    """A model whose training forward is ``forward``."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], object], num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(48 * 48, num_classes)
        self._forward = forward

    def forward(self, images: Tensor) -> object:
        logits = self.linear(images.flatten(1))
        return self._forward(self, logits) if self.training else logits


@pytest.fixture
def own_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[nn.Module, Tensor], object]], ModelConfig]:
    """Registers a model that has the given training forward."""

    def known(forward: Callable[[nn.Module, Tensor], object]) -> ModelConfig:
        def build(*, in_channels: int, image_size: int, num_classes: int) -> nn.Module:
            return Own(forward, num_classes)

        monkeypatch.setitem(MODELS, "own", build)
        return ModelConfig(name="own")

    return known


def test_the_weights_depend_on_the_seed_alone(manifest: Manifest) -> None:
    first = weights(built(manifest))
    torch.manual_seed(123)
    torch.rand(5)
    assert torch.equal(weights(built(manifest)), first)
    assert not torch.equal(weights(built(manifest, seed=1)), first)


def test_building_leaves_torchs_generator_alone(manifest: Manifest) -> None:
    before = torch.get_rng_state()
    built(manifest)
    assert torch.equal(torch.get_rng_state(), before)


def test_building_leaves_the_running_statistics_at_their_start(manifest: Manifest) -> None:
    buffers = dict(built(manifest).named_buffers())
    assert {name: buffer.sum().item() for name, buffer in buffers.items()} == {
        "blocks.0.1.running_mean": 0,
        "blocks.0.1.running_var": 4,
        "blocks.0.1.num_batches_tracked": 0,
        "blocks.1.1.running_mean": 0,
        "blocks.1.1.running_var": 8,
        "blocks.1.1.num_batches_tracked": 0,
    }


def test_input_and_classes_are_those_of_the_data(manifest: Manifest) -> None:
    rgb = dataclasses.replace(manifest, image_shape=(3, 32, 32), class_names=("a", "b"))
    assert built(rgb).eval()(torch.zeros(5, 3, 32, 32)).shape == (5, 2)


def test_dropout_follows_the_positions_of_the_images(manifest: Manifest) -> None:
    model = built(manifest)
    dropout = {name: module for name, module in model.named_modules() if isinstance(module, PositionDropout)}
    assert [(name, module.p, module.name) for name, module in dropout.items()] == [("head.3", 0.5, "head.3")]
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())


def test_a_model_that_uses_torchs_generator_is_refused(
    manifest: Manifest, own_model: Callable[..., ModelConfig]
) -> None:
    config = own_model(lambda self, logits: functional.dropout(logits, 0.5))
    assert refusal(manifest, config) == (
        "model: own uses torch's random generator in training, so its curve would depend on the number of ranks; "
        "set its dropout to 0, or use nn.Dropout modules"
    )


def test_a_model_that_returns_more_than_logits_is_refused(
    manifest: Manifest, own_model: Callable[..., ModelConfig]
) -> None:
    config = own_model(lambda self, logits: (logits, logits))
    assert refusal(manifest, config) == "model: own returns tuple in training, not logits alone; turn that off"


def test_images_that_are_not_square_are_refused(manifest: Manifest) -> None:
    wide = dataclasses.replace(manifest, image_shape=(1, 40, 48))
    assert refusal(wide) == "data: the images are 48 x 40, and the models need square ones; pack square images"


def test_an_unknown_model_is_refused_with_the_one_that_was_meant(manifest: Manifest) -> None:
    assert refusal(manifest, ModelConfig(name="plain_cn")).startswith(
        "model.name: there is no model 'plain_cn' (did you mean plain_cnn?)"
    )


def test_an_unknown_argument_is_refused_by_its_key(manifest: Manifest) -> None:
    assert refusal(manifest, ModelConfig(name="plain_cnn", arguments={"chanels": [4]})).startswith(
        "model.arguments.chanels: plain_cnn has no such option (did you mean channels?)"
    )


def test_a_torchvision_model_is_built_by_the_same_function(manifest: Manifest) -> None:
    model = built(manifest, ModelConfig(name="torchvision/mobilenet_v3_small"))
    assert [module.p for module in model.modules() if isinstance(module, PositionDropout)] == [0.2]
    assert model.eval()(torch.zeros(2, 1, 48, 48)).shape == (2, 7)


def prepared(manifest: Manifest, precision: str = "float32", memory_format: str = "contiguous") -> nn.Module:
    return prepare_model(built(manifest), device=CPU, precision=precision, memory_format=memory_format, world_size=1)


@pytest.mark.parametrize(("precision", "dtype"), [("float64", torch.float64), ("bf16", torch.float32)])
def test_weights_are_float32_unless_float64_is_asked_for(
    manifest: Manifest, precision: str, dtype: torch.dtype
) -> None:
    assert {parameter.dtype for parameter in prepared(manifest, precision).parameters()} == {dtype}


def test_convolutions_are_laid_out_as_asked(manifest: Manifest) -> None:
    def last(memory_format: str) -> bool:
        weight = prepared(manifest, memory_format=memory_format).get_parameter("blocks.1.0.weight")
        return weight.is_contiguous(memory_format=torch.channels_last)

    assert (last("channels_last"), last("contiguous")) == (True, False)
