"""timm's models: their names and arguments, their sizes, their batch norm on several ranks."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

from fer_ddp.layers.sync_batch_norm import SyncBatchNormAct, convert_batch_norm
from fer_ddp.models.default_weights import default_weights
from fer_ddp.models.registry import create_model

FACES = {"image_size": 48, "num_classes": 7}


def refusal(name: str, arguments: dict[str, object]) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        create_model(name, arguments, in_channels=1, **FACES)
    return str(caught.value)


@pytest.mark.parametrize("name", ["timm/test_efficientnet", "timm/test_vit"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_takes_images_of_the_datas_size_and_channels(name: str, channels: int) -> None:
    model = create_model(name, {}, in_channels=channels, **FACES)
    assert model(torch.rand(2, channels, 48, 48)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("timm/resnet81", {}, "model.name: timm has no model 'resnet81'; did you mean timm/resnet18?"),
        ("timm/hf-hub:a/b", {}, "model.name: timm has no model 'hf-hub:a/b'; timm/resnet18 is one of many it has"),
        (
            "timm/resnet18",
            {"pretrained": True},
            "model.arguments.pretrained: leave it out; classes, channels and image size are those of the data, and "
            "pretrained weights are model.weights=default",
        ),
    ],
)
def test_a_wrong_name_or_argument_is_refused(name: str, arguments: dict[str, object], message: str) -> None:
    assert refusal(name, arguments) == message


def test_an_argument_that_its_constructor_can_not_use_is_one_message() -> None:
    assert refusal("timm/resnet18", {"block": "basic"}).endswith(": 'str' object has no attribute 'expansion'")


def test_without_timm_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "timm" else find(name))
    assert refusal("timm/resnet18", {}) == (
        "model.name: timm/resnet18 needs the package timm; pip install 'fer-ddp[timm]'"
    )


def test_batch_norm_with_an_activation_is_synchronized_with_it() -> None:
    torch.manual_seed(0)
    model = create_model("timm/test_efficientnet", {}, in_channels=1, **FACES).double()
    synchronized = convert_batch_norm(copy.deepcopy(model))
    assert any(isinstance(module, SyncBatchNormAct) for module in synchronized.modules())
    images = torch.rand(4, 1, 48, 48, dtype=torch.float64)
    torch.testing.assert_close(synchronized(images), model(images))
    torch.testing.assert_close(synchronized.state_dict(), model.state_dict())


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torch's downloads, empty, where nothing can be downloaded."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize(
    ("name", "url", "file"),
    [
        (
            "torchvision/resnet18",
            "https://download.pytorch.org/models/resnet18-f37072fd.pth",
            "resnet18-f37072fd.pth",
        ),
        (
            "timm/resnet18",
            "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors",
            "resnet18.a1_in1k.safetensors",
        ),
    ],
)
def test_without_a_network_it_says_what_to_download_and_finds_it_there(
    name: str, url: str, file: str, offline: Path
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        default_weights(name)
    assert str(caught.value) == (
        "model.weights: default could not be downloaded (Name or service not known); where there is a network, "
        f"download {url}, and put it here as {offline / file}"
    )
    (offline / file).touch()
    found = default_weights(name)
    assert (found.file, found.mean) == (offline / file, (0.485, 0.456, 0.406))


def test_models_of_this_project_have_no_default_weights() -> None:
    with pytest.raises(ValueError, match="default is for torchvision/NAME and timm/NAME; plain_cnn has no pretrained"):
        default_weights("plain_cnn")
