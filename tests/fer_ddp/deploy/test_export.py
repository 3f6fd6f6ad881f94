"""An exported folder gives the evaluation's probabilities, with onnxruntime, with torch alone and from its weights."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from fer_ddp.__main__ import main
from fer_ddp.augment.views import ViewsConfig, mean_over_views
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.deploy import export as export_module
from fer_ddp.deploy import int8 as int8_module
from fer_ddp.deploy import onnx as onnx_module
from fer_ddp.deploy.export import export
from fer_ddp.deploy.load import load
from fer_ddp.deploy.model_card import Data, model_card
from fer_ddp.errors import JobError, RunError
from fer_ddp.evaluation.ensemble import write_ensemble
from fer_ddp.models.registry import create_model
from fer_ddp.runs.predictions import Predictions, read_predictions, write_predictions
from shards.manifest import read_manifest
from shards.packing.packer import pack
from shards.sources.synthetic_faces import Faces, scan_faces

RECORDED = Path(__file__).parents[2] / "data" / "runs_35d5d40" / "finished"
"""A finished run, of two convolutions in float64."""
FILES = ["README.md", "example.py", "model.onnx", "model.int8.onnx", "model.pt2", "model.safetensors"]
FILES += ["config.json", "labels.json", "model.json"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the recorded run, with its data; with 30 views of each image."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copytree(RECORDED, folder / "run")
    pack(partial(scan_faces, Faces(train=224, val=64, test=64)), folder / "fake")
    change_config(folder / "run", "data/fake", str(folder / "fake"))
    change_config(
        folder / "run", "epochs: 4", "epochs: 4\nviews:\n  flip: true\n  shift_pixels: 2\n  rotation_degrees: 8"
    )
    predict_again(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def printed() -> io.StringIO:
    return io.StringIO()


def let_int8_lose(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """Count ``images`` fewer correct of int8 than of float32, calibrate and measure speed only briefly."""
    count = int8_module._count_correct

    def counted(sessions: dict[str, Any], split: FERDataset) -> dict[str, int]:
        correct = count(sessions, split)
        return correct | {"model.int8.onnx": correct["model.onnx"] - images}

    monkeypatch.setattr(int8_module, "_count_correct", counted)
    monkeypatch.setattr(int8_module, "_SECONDS", 0)
    monkeypatch.setattr(int8_module, "_CALIBRATION_IMAGES", 64)


@pytest.fixture(scope="module")
def exported(run: Path, printed: io.StringIO) -> Path:
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as monkeypatch:
        let_int8_lose(monkeypatch, 0)
        assert main(["export", str(run), "--out", str(run.parent / "exported"), "--int8"]) == 0
    return run.parent / "exported"


def change_config(run: Path, old: str, new: str) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(old, new))


def predict_again(run: Path) -> None:
    """Replace the predictions by those of the run as its config.yaml has it now."""
    for split in ("val", "test"):
        old = predicted(run, split)
        probabilities = load(run, CPU).predict(torch.from_numpy(images_of(run, split))).probabilities
        path = run / "predictions" / f"{split}.csv"
        write_predictions(path, old.keys, old.labels, probabilities, old.class_names)


def images_of(run: Path, split: str) -> np.ndarray:
    """uint8 (n, channels, height, width)."""
    return FERDataset(run.parent / "fake", split).images.numpy()


def predicted(run: Path, split: str) -> Predictions:
    return read_predictions(run / "predictions" / f"{split}.csv")


def in_onnxruntime(exported: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    probabilities: np.ndarray = session.run(None, {"images": images})[0]
    return probabilities


def test_the_files_are_listed_and_described(exported: Path, printed: io.StringIO) -> None:
    assert printed.getvalue() == f"look at {', '.join(f'{exported}/{name}' for name in FILES)}\n"
    assert sorted(path.name for path in exported.iterdir()) == sorted(FILES)
    card = (exported / "README.md").read_text()
    assert [name for name in FILES if f"| `{name}` |" not in card] == ["README.md"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_onnxruntime_gives_the_evaluations_probabilities(run: Path, exported: Path, split: str) -> None:
    evaluated = predicted(run, split)
    found = in_onnxruntime(exported, images_of(run, split).transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found, evaluated.probabilities, rtol=0, atol=1e-5)
    assert (found.argmax(axis=1) == evaluated.predicted).all()


def test_the_onnx_file_names_its_operators_once(exported: Path) -> None:
    assert [opset.domain for opset in onnx.load(exported / "model.onnx").opset_import] == [""]


@pytest.mark.parametrize("size", [(48, 48), (60, 60), (31, 97)], ids=str)
def test_onnxruntime_resizes_as_predict_does(run: Path, exported: Path, size: tuple[int, int]) -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = load(run, CPU).predict([photograph, photograph[..., 0]]).probabilities
    tolerance = 1e-5 if size == (48, 48) else 1e-3
    for image, row in zip((photograph, photograph[..., :1]), expected, strict=True):
        np.testing.assert_allclose(in_onnxruntime(exported, image[None])[0], row, rtol=0, atol=tolerance)


def test_example_py_runs_as_it_is(run: Path, exported: Path, tmp_path: Path) -> None:
    Image.fromarray(images_of(run, "test")[5, 0]).save(tmp_path / "face.png")
    words = [sys.executable, "-P", str(exported / "example.py"), "face.png"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    path, first, *others = ended.stdout.strip().split("  ")
    expected = load(run, CPU).predict(tmp_path / "face.png").text()
    assert path == "face.png"
    assert expected.startswith(f"{tmp_path}/face.png: {first} %")
    assert len(others) == 6


def test_int8_as_accurate_as_float32_is_kept_and_described(run: Path, exported: Path) -> None:
    evaluated = predicted(run, "val")
    session = onnxruntime.InferenceSession(exported / "model.int8.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"class_names": json.dumps(evaluated.class_names)}
    found = session.run(None, {"images": images_of(run, "val").transpose(0, 2, 3, 1)})[0]
    assert 1e-4 < abs(found - evaluated.probabilities).max() < 0.05
    files = json.loads((exported / "model.json").read_text())["int8"]["files"]
    accuracy = float(np.mean(evaluated.predicted == evaluated.labels))
    assert [(name, file["precision"], file["val_accuracy"]) for name, file in files.items()] == [
        ("model.onnx", "float32", accuracy),
        ("model.int8.onnx", "int8", accuracy),
    ]
    assert all(speed > 0 for file in files.values() for speed in file["images_per_second"].values())
    card, example = ((exported / name).read_text() for name in ("README.md", "example.py"))
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| `model.") and " MB |" in line]
    assert [[row[0], row[1], row[3]] for row in rows] == [
        ["| `model.onnx`", "float32", f"{100 * accuracy:.2f} %"],
        ["| `model.int8.onnx`", "int8", f"{100 * accuracy:.2f} %"],
    ]
    assert f"It computes in int8: accuracy on val {rows[1][3]} instead of\n# {rows[0][3]}, and" in example


def test_int8_less_accurate_than_float32_is_not_kept(
    run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_int8_lose(monkeypatch, 1)
    data = int8_module.open_calibration_data(run, load_job(run / "config.yaml", []).data)
    assert isinstance(data.train, FERDataset)
    assert data.train.split == "train"
    written, note = int8_module.write_int8(tmp_path / "model.int8.onnx", exported / "model.onnx", data)
    correct = int((predicted(run, "val").predicted == predicted(run, "val").labels).sum())
    assert note == (
        f"model.int8.onnx is not kept: its accuracy on val is {(correct - 1) / 0.64:.2f} %, and that of model.onnx "
        f"{correct / 0.64:.2f} %; it may be at most 0.3 points less"
    )
    assert written is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("int8", "kept"), [(703, True), (697, True), (696, False)])
def test_int8_may_lose_three_images_of_a_thousand(int8: int, kept: bool) -> None:
    assert int8_module.is_as_accurate(int8, 700, 1000) is kept


def test_int8_without_the_runs_data_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    change_config(copy, str(run.parent / "fake"), str(tmp_path / "moved"))
    assert main(["export", str(copy), "--out", str(tmp_path / "out"), "--int8"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --int8 needs the run's data: {tmp_path}/moved: ")
    assert not (tmp_path / "out").exists()


def test_torch_alone_gives_the_evaluations_probabilities(run: Path, exported: Path, tmp_path: Path) -> None:
    torch.save(torch.from_numpy(images_of(run, "test")), tmp_path / "images.pt")
    code = (
        "import sys, torch\n"
        "model = torch.export.load(sys.argv[1]).module()\n"
        "images = torch.load('images.pt')\n"
        "torch.save([model(images), model(images[:1])], 'predictions.pt')\n"
        "assert not [name for name in sys.modules if name.startswith(('fer_ddp', 'shards'))]\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code, exported / "model.pt2"], cwd=tmp_path, check=True)
    whole, one = (part.detach().numpy() for part in torch.load(tmp_path / "predictions.pt"))
    evaluated = predicted(run, "test")
    np.testing.assert_allclose(whole, evaluated.probabilities, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one, evaluated.probabilities[:1], rtol=0, atol=1e-5)
    card, summary = (json.loads(path.read_text()) for path in (exported / "model.json", run / "summary.json"))
    assert card["class_names"] == list(evaluated.class_names) == json.loads((exported / "labels.json").read_text())
    assert card["input"] == {"dtype": "uint8", "shape": ["batch", 1, 48, 48]}
    assert card["test"]["accuracy"] == summary["test"]["accuracy"]
    assert card["views"] == 30


def test_the_weights_and_their_description_are_the_network(run: Path, exported: Path) -> None:
    config = json.loads((exported / "config.json").read_text())
    (member,) = config["members"]
    model = create_model(
        member["model"]["name"], member["model"]["arguments"], in_channels=1, image_size=48, num_classes=7
    )
    model.load_state_dict(load_file(exported / "model.safetensors"))
    images = torch.from_numpy(images_of(run, "test"))

    def probabilities(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model.eval()((images / 255 - member["mean"][0]) / member["std"][0]).softmax(dim=1)

    found = mean_over_views(probabilities, images, ViewsConfig(**member["views"])).numpy()
    np.testing.assert_allclose(found, predicted(run, "test").probabilities, rtol=0, atol=1e-5)


def test_an_exported_folder_predicts_and_a_replaced_model_is_refused(run: Path, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    images = torch.from_numpy(images_of(run, "test"))
    expected = predicted(run, "test").probabilities
    np.testing.assert_allclose(load(folder, CPU).predict(images).probabilities, expected, rtol=0, atol=1e-5)
    card = json.loads((folder / "model.json").read_text())
    with open(folder / "model.pt2", "ab") as file:
        file.write(b"\0")
    np.testing.assert_allclose(load(folder, CPU).predict(images).probabilities, expected, rtol=0, atol=1e-5)
    with open(folder / "config.json", "ab") as file:
        file.write(b" ")
    with pytest.raises(RunError, match=r"config\.json is not the file whose SHA-256 is in model\.json"):
        load(folder, CPU)
    (folder / "model.safetensors").unlink()  # then the program is used, which may hold its author's code
    with pytest.raises(RunError) as caught:
        load(folder, CPU)
    assert str(caught.value) == (
        f"{folder}: model.pt2 or model.json is damaged (model.pt2 is not the file whose SHA-256 is in model.json); "
        "export the run again"
    )
    shutil.copy(exported / "model.pt2", folder)
    del card["sha256"]  # as an earlier version wrote it
    (folder / "model.json").write_text(json.dumps(card))
    assert load(folder, CPU).class_names == predicted(run, "test").class_names
    (folder / "model.json").write_text(json.dumps(card | {"class_names": card["class_names"][::-1]}))
    with pytest.raises(RunError, match="labels.json and model.json have other classes, or another order of them"):
        load(folder, CPU)


@pytest.fixture
def ensemble(run: Path) -> Path:
    """Of the run and one with a single view and another normalization, with a temperature."""
    folder = run.parent / "ensemble"
    if not folder.exists():
        other = run.parent / "other"
        shutil.copytree(run, other)
        change_config(other, "0.5137200572503307", "0.3")
        change_config(other, "views:\n  flip: true\n  shift_pixels: 2\n  rotation_degrees: 8\n", "")
        change_config(other, "seed: 0", "seed: 1")
        predict_again(other)
        write_ensemble([run, other], folder, temperature=True)
    return folder


def test_an_ensemble_is_one_model_and_without_onnx_the_rest_is_written(
    run: Path, ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    folder = tmp_path / "exported"
    assert main(["export", str(ensemble), "--out", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "model.onnx is not written: it needs onnx, onnxruntime and onnxscript; pip install 'fer-ddp[onnx]' and "
        "export again"
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        set(FILES) - {"model.onnx", "model.int8.onnx", "example.py"}
    )
    card = (folder / "README.md").read_text()
    assert "onnxruntime" not in card
    assert "2 networks (plain_cnn), whose probabilities are averaged" in card
    found = load(folder, CPU).predict(torch.from_numpy(images_of(run, "test"))).probabilities
    np.testing.assert_allclose(found, predicted(ensemble, "test").probabilities, rtol=0, atol=1e-5)
    assert abs(found - predicted(run, "test").probabilities).max() > 0.01
    assert json.loads((folder / "model.json").read_text())["temperature"] != 1


def test_a_member_that_changed_or_is_absent_is_refused(run: Path, ensemble: Path, tmp_path: Path) -> None:
    other = run.parent / "other"
    change_config(other, "seed: 1", "seed: 2")
    with pytest.raises(JobError) as caught:
        export(ensemble, tmp_path / "out")
    assert (
        str(caught.value) == f"{other}: its config.yaml has changed since {ensemble} was made; make the ensemble again"
    )
    change_config(other, "seed: 2", "seed: 1")
    other.rename(tmp_path / "moved")
    try:
        with pytest.raises(JobError) as caught:
            export(ensemble, tmp_path / "out")
    finally:
        (tmp_path / "moved").rename(other)
    assert str(caught.value) == f"{ensemble}: the run folder of its member {other} is needed and is not there"


def test_a_file_that_does_not_give_the_models_output_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(path: Path, *_: object) -> None:
        path.write_bytes(b"model")
        onnx_module._check_probabilities(path, lambda images: np.zeros((len(images), 7)), torch.nn.Flatten(), (1, 1, 7))

    monkeypatch.setattr(export_module, "write_onnx", wrong)
    with pytest.raises(RunError, match=r"model\.onnx: its probabilities differ by .* from the model's"):
        export(run, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("added", [0, 1, 2])
def test_resizing_may_differ_from_pillows_by_one_level(added: int, tmp_path: Path) -> None:
    def prepare(images: np.ndarray) -> np.ndarray:
        image = Image.fromarray(images[0].repeat(4 - images.shape[-1], axis=-1)[..., :3]).convert("L")
        left, top = ((side - min(image.size)) // 2 for side in image.size)
        square = image.crop((left, top, left + min(image.size), top + min(image.size)))
        resized = np.asarray(square.resize((48, 48), Image.Resampling.BILINEAR))
        return np.where(resized < 250, resized + np.uint8(added), resized)[None, None]

    expectation = pytest.raises(RunError, match="another way than Pillow") if added > 1 else contextlib.nullcontext()
    with expectation:
        onnx_module._check_preparation(tmp_path / "model.onnx", prepare, (1, 48, 48))


def test_a_folder_that_holds_something_is_not_written_to(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    assert main(["export", str(run), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: is not an empty folder; choose another --out\n"


def test_the_model_card_gives_the_metrics_with_and_without_leaks_and_the_selection(run: Path, exported: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    clean = {"val": summary["val"] | {"n": 60, "accuracy": 0.25, "accuracy_ci95": [0.2, 0.3]}, "test": summary["test"]}
    card = json.loads((exported / "model.json").read_text())
    job = yaml.safe_load((run / "config.yaml").read_text())
    manifest = read_manifest(run.parent / "fake")

    def text(data: Data | None) -> str:
        return model_card(
            name="mine", summary=summary, jobs=[job], card=card, parameters=1234, data=data, files=("model.onnx",)
        )

    known = text(Data(manifest=manifest, without_leaks=clean))
    front = yaml.safe_load(known.split("---\n")[1])
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == round(summary["val"]["accuracy"], 4)
    rows = [line for line in known.splitlines() if line.startswith(("| val", "| test"))]
    assert [row.split(" | ")[0] for row in rows] == [
        "| val",
        "| val, without those that also appear in train",
        "| test",
    ]
    assert rows[1].split(" | ")[1:3] == ["60", "25.0 % (20.0 to 30.0 %)"]
    assert "4 of 64 val images and 0 of 64 test images" in known
    assert "the epoch with the best accuracy on val was kept" in known
    assert "Measured in float64 by fer-ddp, Wilson intervals, while the exported files compute in float32" in known
    assert "drawn from formulas" in known
    assert "Its licence is not known to fer-ddp" in text(None)
    assert (exported / "README.md").read_text().count("Equal or nearly equal to an image of train") == 1
