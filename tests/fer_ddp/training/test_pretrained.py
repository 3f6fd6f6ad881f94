"""A run that starts from weights: what it says and records, how it resumes, and what stays frozen."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import JobError
from fer_ddp.models.build import build_model
from fer_ddp.models.registry import create_model
from fer_ddp.runs.checkpoint import load_checkpoint, save_checkpoint
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.weights import read_weights
from fer_ddp.signals import StopFlag
from fer_ddp.training.checks import check_run
from fer_ddp.training.pretrained import first_weights
from fer_ddp.training.run import open_run
from fer_ddp.training.setup import build_trainer, resolve_auto
from fer_ddp.yaml_io import to_yaml
from shards.errors import UserError
from shards.files import write_json
from shards.manifest import Manifest, read_manifest

CPU = torch.device("cpu")
SMALL = "model={name: plain_cnn, arguments: {channels: [4, 8], hidden: 16, batch_norm: true}}"


@pytest.fixture
def manifest(faces: Path) -> Manifest:
    return read_manifest(faces)


@pytest.fixture
def run_folder(tiny_job: Path, manifest: Manifest, tmp_path: Path) -> Path:
    """A run with averaged weights of seed 5, of data with another mean, and the classes of ``faces``."""
    job = load_job(tiny_job, [SMALL, "seed=5", "ema.decay=0.9", "data.mean=[0.25]", "data.std=[0.5]"])
    model = build_model(job.model, seed=5, image_shape=(1, 48, 48), num_classes=7)
    names = {"image_shape": [1, 48, 48], "class_names": list(manifest.class_names)}
    folder = tmp_path / "before"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(job.to_dict()))
    save_checkpoint(
        folder / "checkpoints" / "best.safetensors", {"step": 20, "epoch": 2, **names, "network": model.state_dict()}
    )
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    return dict(read_weights(str(folder), "plain_cnn").tensors)


def test_a_run_starts_from_the_selected_weights_of_another(
    tiny_job: Path, run_folder: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    job = load_job(tiny_job, [SMALL, f"from={run_folder}"])
    run = RunFolder(job.run)
    opened, _ = open_run(run, job, manifest, CPU, StopFlag())
    assert (opened.data.mean, opened.data.std) == ((0.25,), (0.5,))
    assert capsys.readouterr().out == (
        f"weights of {run_folder} (best, epoch 2, averaged): 16 tensors loaded; mean 0.25 as for the weights, "
        "std 0.5 as for the weights\n"
    )
    record = json.loads((run.path / "weights.json").read_text())
    assert (record["file"], record["loaded"]) == (f"{run_folder}/checkpoints/best.safetensors", 16)
    expected, trainer = tensors(run_folder), build_trainer(opened, FERDataset(job.data.path, "train"), 1, CPU)
    assert all(torch.equal(value, expected[name]) for name, value in trainer.state.model.state_dict().items())
    run.unlock()


def test_the_jobs_own_mean_wins(tiny_job: Path, run_folder: Path, manifest: Manifest) -> None:
    first = first_weights(load_job(tiny_job, [SMALL, f"from={run_folder}", "data.mean=[0.4]"]), manifest)
    assert first is not None
    assert (first.data.mean, first.data.std) == ((0.4,), (0.5,))
    assert first.line.endswith("; mean as the job gives it, std 0.5 as for the weights")


def test_a_run_that_has_a_state_resumes_without_the_weights(
    tiny_job: Path, run_folder: Path, manifest: Manifest
) -> None:
    job = load_job(tiny_job, [SMALL, f"from={run_folder}"])
    run = RunFolder(job.run)
    opened, _ = open_run(run, job, manifest, CPU, StopFlag())
    run.unlock()
    weights = run_folder / "checkpoints" / "best.safetensors"
    save_checkpoint(weights, load_checkpoint(weights) | {"epoch": 3})
    with pytest.raises(JobError, match=f"{weights} has changed since {run.path} was started"):
        open_run(run, job, manifest, CPU, StopFlag())
    run.unlock()
    run.save_state({"step": 1})
    weights.unlink()
    again, _ = open_run(run, job, manifest, CPU, StopFlag())
    run.unlock()
    assert again == opened
    build_trainer(opened, FERDataset(job.data.path, "train"), 1, CPU, pretrained=False)


def test_from_and_model_weights_are_the_same_key(tiny_job: Path) -> None:
    assert load_job(tiny_job, ["from=runs/a"]).model.weights == "runs/a"
    with pytest.raises(JobError) as caught:
        load_job(tiny_job, ["from=runs/a", "model.weights=runs/b"])
    assert str(caught.value) == (
        f"{tiny_job}: from: is short for model.weights, which is given too; leave one of them out"
    )


def test_weights_that_are_nowhere_are_refused_before_anything_starts(
    tiny_job: Path, manifest: Manifest, tmp_path: Path
) -> None:
    job = load_job(tiny_job, [f"model.weights={tmp_path}/none.pt"])
    with pytest.raises(JobError, match=f"model.weights: there is no file or folder {tmp_path}/none.pt"):
        check_run(RunFolder(job.run), job, manifest, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nn.Linear(2, 2), "is not a state dict"),
        ({"epoch": 3}, "holds no tensors by name (it has ['epoch'])"),
        ({0: torch.ones(1)}, "holds no tensors by name (it has ['0'])"),
        ({"state_dict": {"a": torch.ones(1)}}, "does not fit plain_cnn: it lacks blocks.0.0.weight, blocks.0.0.bias"),
    ],
)
def test_a_file_that_does_not_hold_its_weights_is_refused(
    tiny_job: Path, manifest: Manifest, tmp_path: Path, content: object, message: str
) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(JobError) as caught:
        first_weights(load_job(tiny_job, [f"model.weights={tmp_path}/weights.pt"]), manifest)
    assert f"model.weights: {tmp_path}/weights.pt {message}" in str(caught.value)


def _state(path: Path, state: dict[str, object]) -> None:
    save_checkpoint(path.with_suffix(".safetensors"), state)


LIES: dict[str, Callable[[Path], object]] = {
    "an empty file": lambda path: path.with_suffix(".pt").write_bytes(b""),
    "a pickle that ends early": lambda path: path.with_suffix(".pt").write_bytes(b"\x80\x02X"),
    "a state without classes": lambda path: _state(path, {"network": {}}),
    "a state that is not one": lambda path: _state(path, {"class_names": 5, "network": 3}),
    "a header nested too deep": lambda path: save_file({}, path.with_suffix(".safetensors"), {"state": "[" * 5000}),
    "a run without a model": lambda path: (
        (path / "checkpoints").mkdir(parents=True),
        (path / "config.yaml").write_text("model: {}\nselect: last\n"),
        save_checkpoint(path / "checkpoints" / "last.safetensors", {"class_names": ["a"], "network": {}, "epoch": 1}),
    ),
    "an export without members": lambda path: (
        path.mkdir(),
        save_file({}, path / "model.safetensors"),
        write_json(path / "config.json", {"members": [{}]}),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_only_looks_like_weights_is_refused_by_its_name(tmp_path: Path, lie: str) -> None:
    LIES[lie](tmp_path / "weights")
    (written,) = tmp_path.iterdir()
    with pytest.raises(UserError, match=str(written)):
        read_weights(str(written), "plain_cnn")


@pytest.mark.parametrize("optimizer", ["{name: adamw, lr: 0.01, weight_decay: 0.1}", "{name: sgd, lr: 0.1}"])
def test_frozen_layers_stay_the_same_to_the_bit(tiny_job: Path, faces: Path, optimizer: str) -> None:
    overrides = [SMALL, "model.freeze=[blocks]", f"optimizer={optimizer}", "ema.decay=0.9"]
    trainer = build_trainer(load_job(tiny_job, overrides), FERDataset(faces, "train"), 1, CPU)
    state = trainer.state
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    for step in range(3):
        trainer.step(trainer.loader.raw_batch(step))
    for model in (state.model, state.evaluated_model):
        changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
        assert changed == ["head.1.weight", "head.1.bias", "head.4.weight", "head.4.bias"]


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/test_efficientnet"])
def test_the_first_loss_is_that_of_plain_torch_with_the_same_weights(
    name: str, tiny_job: Path, faces: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    rgb = create_model(name, {}, in_channels=3, image_size=48, num_classes=5)
    torch.save({"state_dict": {f"module.{key}": value for key, value in rgb.state_dict().items()}}, tmp_path / "w.pth")
    overrides = [f"model={{name: {name}, weights: {tmp_path}/w.pth}}", "precision=float64", "global_batch_size=24"]
    job = load_job(tiny_job, [*overrides, "data.mean=[0.5]", "data.std=[0.25]"])
    trainer = build_trainer(job, FERDataset(faces, "train"), 1, CPU)
    head = {key: value.clone() for key, value in trainer.state.model.state_dict().items() if value.shape[:1] == (7,)}
    raw = trainer.loader.raw_batch(0)
    images, labels = raw.pixels.clone().double(), raw.labels.clone()
    found = trainer.step(raw).item()
    plain = create_model(name, {}, in_channels=3, image_size=48, num_classes=7).double()
    plain.load_state_dict({**rgb.state_dict(), **head})
    expected = nn.functional.cross_entropy(plain((images / 255 - 0.5).div(0.25).expand(-1, 3, -1, -1)), labels)
    assert found == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("option", ["model.freeze=backbone", "optimizer.layer_decay=0.5"])
def test_options_that_need_a_head_are_refused_for_a_model_without_one(
    tiny_job: Path, faces: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, num_classes: int) -> None:\n"
        "        super().__init__()\n"
        "        self.matrix = torch.nn.Parameter(torch.zeros(48, num_classes))\n"
        "    def forward(self, images):\n"
        "        return images.mean((1, 2)) @ self.matrix\n"
    )
    job = load_job(tiny_job, [f"model={{name: '{tmp_path}/net.py:Net'}}", option])
    with pytest.raises(JobError, match=f"^{option.partition('=')[0]}: the model has no linear or convolution layer"):
        resolve_auto(job, read_manifest(faces), CPU)


def test_what_is_frozen_is_written_as_a_name_or_a_list(tiny_job: Path) -> None:
    assert load_job(tiny_job, ["model.freeze=backbone"]).model.freeze == ("backbone",)
    assert load_job(tiny_job, ["model.freeze=[blocks.0, head.1]"]).model.freeze == ("blocks.0", "head.1")
    with pytest.raises(JobError) as caught:
        load_job(tiny_job, ["model.freeze=3"])
    assert str(caught.value) == (
        "command line: model.freeze: is 3; it must be backbone, or a list of layers such as [conv1, layer1]"
    )


def test_an_exported_folder_gives_weights_and_a_head_of_other_names_is_left_out(
    tiny_job: Path, manifest: Manifest, tmp_path: Path
) -> None:
    job = load_job(tiny_job, [SMALL, f"model.weights={tmp_path}/exported"])
    model = build_model(job.model, seed=9, image_shape=(3, 48, 48), num_classes=7)
    folder = tmp_path / "exported"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    member = {"model": {"name": "plain_cnn"}, "weights_prefix": "", "mean": [0.1, 0.2, 0.3], "std": [0.5]}
    config = {"members": [member], "class_names": list(reversed(manifest.class_names))}
    write_json(folder / "config.json", config)
    first = first_weights(job, manifest)
    assert first is not None
    assert first.line == (
        f"weights of {folder}: 14 tensors loaded; the head starts untrained (head.4.weight, head.4.bias); the first "
        "convolution is summed over RGB for grey images; mean 0.2 as for the weights, std 0.5 as for the weights"
    )
    write_json(folder / "config.json", config | {"members": [member, member]})
    with pytest.raises(JobError, match=f"model.weights: {folder} holds 2 models; give one of their runs"):
        first_weights(job, manifest)
