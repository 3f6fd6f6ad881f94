"""A model from a file or a module of the user's own, and one sentence for what is wrong with it."""

import sys
from pathlib import Path

import pytest
import torch

from fer_ddp.errors import JobError
from fer_ddp.models.build import ModelConfig, build_model

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels: int, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, stride=2)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3)))

def wide(num_classes: int) -> nn.Module:
    return Net(1, num_classes, width=8)

def unannotated(num_classes):
    return Net(1, num_classes)

class NoModel:
    pass

class Deep(Net):
    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__(1, num_classes)

class SixClasses(Net):
    def __init__(self) -> None:
        super().__init__(1, 6)

class Pair(Net):
    def forward(self, images):
        return images, images

class Broken(Net):
    def forward(self, images):
        return {}["logits"]

class Double(Net):
    def forward(self, images):
        return self.head(self.conv(images.double()).mean((2, 3)))

class ForTwo(Net):
    def forward(self, images):
        return super().forward(images)[:2]

class NotDifferentiable(Net):
    def forward(self, images):
        return super().forward(images).detach()

class BrokenInTraining(Net):
    def forward(self, images):
        return super().forward(images) if not self.training else self.missing
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "face.py").write_text(NET)
    return tmp_path


def built(name: str, **arguments: object) -> torch.nn.Module:
    return build_model(ModelConfig(name=name, arguments=arguments), seed=0, image_shape=(1, 48, 48), num_classes=7)


def refusal(name: str, **arguments: object) -> str:
    with pytest.raises(JobError) as caught:
        built(name, **arguments)
    return str(caught.value)


def width(model: torch.nn.Module) -> int:
    return model.get_submodule("conv").out_channels  # type: ignore[return-value]


def test_a_class_of_a_file_is_called_with_what_its_signature_takes() -> None:
    assert width(built("nets/face.py:Net")) == 4
    assert width(built("nets/face.py:Net", width=6)) == 6


def test_a_function_annotated_to_return_a_module_serves_too() -> None:
    assert width(built("nets/face.py:wide")) == 8


def test_a_module_is_found_in_the_working_folder(workplace: Path) -> None:
    (workplace / "mine_as_a_package").mkdir()
    (workplace / "mine_as_a_package" / "face.py").write_text(NET)
    assert width(built("mine_as_a_package.face:Net")) == 4


def test_an_edited_file_is_read_again(workplace: Path) -> None:
    assert width(built("nets/face.py:Net")) == 4
    (workplace / "nets" / "face.py").write_text(NET.replace("width: int = 4", "width: int = 5"))
    assert width(built("nets/face.py:Net")) == 5


def test_the_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = built("nets/face.py:Net").state_dict()["conv.weight"]
    torch.manual_seed(6)
    assert torch.equal(built("nets/face.py:Net").state_dict()["conv.weight"], first)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nets/face.py", "model.name: nets/face.py names a file; add the class: nets/face.py:Class"),
        ("nets/fase.py:Net", "model.name: there is no file nets/fase.py; did you mean nets/face.py?"),
        ("nets/face.py:Nett", "model.name: nets/face.py has no 'Nett'; did you mean Net?"),
        (
            "nets/face.py:NoModel",
            "model.name: nets/face.py:NoModel is not a model; the class must derive from torch.nn.Module",
        ),
        (
            "nets/face.py:unannotated",
            "model.name: nets/face.py:unannotated must be a class that derives from torch.nn.Module, or a function "
            "that is annotated to return one: def unannotated(...) -> nn.Module",
        ),
        ("nets/face.py:Deep", "model.arguments.depth: must be given, since nets/face.py:Deep needs it"),
        (
            "nets/face.py:SixClasses",
            "model: nets/face.py:SixClasses can't be built for images of 1 x 48 x 48 (channels, height, width): "
            "it returns (2, 6) for 2 images of 7 classes, not logits (2, 7)",
        ),
        (
            "nets/face.py:Pair",
            "model: nets/face.py:Pair can't be built for images of 1 x 48 x 48 (channels, height, width): "
            "it returns tuple, not logits alone",
        ),
        (
            "nets/face.py:Broken",
            "model: nets/face.py:Broken can't be built for images of 1 x 48 x 48 (channels, height, width): "
            "nets/face.py line 37: KeyError: 'logits'",
        ),
        (
            "nets/face.py:Double",
            "model: nets/face.py:Double can't be built for images of 1 x 48 x 48 (channels, height, width): "
            "nets/face.py line 41: RuntimeError: Input type (double) and bias type (float) should be the same",
        ),
        (
            "nets/face.py:ForTwo",
            "model: nets/face.py:ForTwo returns (2, 7) for 3 images of 7 classes in training, not logits (3, 7)",
        ),
        (
            "nets/face.py:NotDifferentiable",
            "model: nets/face.py:NotDifferentiable fails in training: element 0 of tensors does not require grad and "
            "does not have a grad_fn",
        ),
        (
            "nets/face.py:BrokenInTraining",
            "model: nets/face.py:BrokenInTraining fails in training: nets/face.py line 53: AttributeError: "
            "'BrokenInTraining' object has no attribute 'missing'",
        ),
        (
            "subprocess:run",
            "model.name: subprocess belongs to Python's standard library, which holds no models",
        ),
        (
            "torchvision.models:get_model",
            "model.name: torchvision.models:get_model belongs to torchvision; its models are named timm/NAME and "
            "torchvision/NAME, such as torchvision/resnet18, or used in a class of your own",
        ),
    ],
)
def test_what_is_not_a_model_is_refused(name: str, sentence: str) -> None:
    assert refusal(name) == sentence


def test_a_module_that_is_nowhere_is_refused(workplace: Path) -> None:
    for name in ("nowhere_at_all:Net", "nowhere_at_all.inside:Net"):
        assert refusal(name) == (
            f"model.name: there is no module nowhere_at_all; it must be installed, or in {workplace}"
        )


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("def __getattr__(name):\n    raise RuntimeError(name)\n", "line 2: RuntimeError: Net"),
        ("class Odd(Exception):\n    __str__ = None\nraise Odd\nNet = None\n", "line 3: Odd: Odd"),
        (
            "class Meta(type):\n    @property\n    def __signature__(cls):\n        raise OSError('no')\n"
            "from torch import nn\nclass Net(nn.Module, metaclass=Meta):\n    pass\n",
            "line 4: OSError: no",
        ),
    ],
)
def test_whatever_the_code_raises_is_named_with_its_line(workplace: Path, code: str, sentence: str) -> None:
    (workplace / "nets" / "odd.py").write_text(code)
    assert refusal("nets/odd.py:Net") == f"model.name: nets/odd.py {sentence}"


@pytest.mark.parametrize(
    "name", ["odd.py:X", "odd:X", "odd.inside:X", "inside:X", "nets.odd:NoModel", "odd.py:function"]
)
def test_nothing_is_imported_that_does_not_define_a_model(workplace: Path, name: str) -> None:
    code = "open('executed', 'w')\nclass NoModel:\n    pass\ndef function():\n    pass\n"
    (workplace / "odd").mkdir()
    for file in ("odd.py", "odd/__init__.py", "odd/inside.py", "nets/odd.py"):
        (workplace / file).write_text(code)
    assert refusal(name).startswith("model.name: ")
    assert not (workplace / "executed").exists()


def test_a_module_of_pythons_own_is_not_imported() -> None:
    assert refusal("antigravity:hashlib") == (
        "model.name: antigravity belongs to Python's standard library, which holds no models"
    )
    assert "antigravity" not in sys.modules


def test_a_name_that_cannot_be_a_path_is_refused() -> None:
    assert refusal(f"{'a' * 5000}.py:Net").startswith(f"model.name: {'a' * 99}… is not a path ")


def test_a_float64_model_is_trained_in_the_precision_of_the_job(workplace: Path) -> None:
    file = workplace / "nets" / "face.py"
    file.write_text(
        NET.replace(
            "self.head = nn.Linear(width, num_classes)",
            "self.head = nn.Linear(width, num_classes)\n        self.double()",
        )
    )
    assert built("nets/face.py:Net").get_parameter("head.weight").dtype == torch.float32


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import torch\nclass Net(\n", "nets/bad.py line 2: '(' was never closed"),
        ("import sys\nsys.exit(2)\nNet = None\n", "nets/bad.py line 2: SystemExit: 2"),
        (
            "\n\nimport no_such_package\nNet = None\n",
            "nets/bad.py line 3: ModuleNotFoundError: No module named 'no_such_package'",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_the_line(workplace: Path, code: str, sentence: str) -> None:
    (workplace / "nets" / "bad.py").write_text(code)
    assert refusal("nets/bad.py:Net") == f"model.name: {sentence}"


def test_an_argument_that_the_class_does_not_take_is_refused() -> None:
    assert refusal("nets/face.py:Net", widht=3) == (
        "model.arguments.widht: nets/face.py:Net has no such option (did you mean width?); it has width"
    )
    assert refusal("nets/face.py:Net", in_channels=3) == (
        "model.arguments.in_channels: leave it out; it is that of the data"
    )


@pytest.mark.parametrize("of_a_run", ["checkpoints", "environment.json"])
@pytest.mark.parametrize("name", ["run/face.py:Net", "run.face:Net"])
def test_no_code_in_a_run_folder_is_executed(workplace: Path, name: str, of_a_run: str) -> None:
    (workplace / "run" / of_a_run).mkdir(parents=True)
    (workplace / "run" / "config.yaml").touch()
    for file in ("__init__.py", "face.py"):
        (workplace / "run" / file).write_text("raise SystemExit('executed')")
    assert f"is in the run folder {workplace}/run, from which no code is executed" in refusal(name)
