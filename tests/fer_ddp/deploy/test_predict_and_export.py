"""What a finished run is used for: predictions for image files, and one file that torch alone loads."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from fer_ddp.__main__ import main
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.deploy.load import load
from fer_ddp.errors import JobError
from fer_ddp.evaluation.trained_model import load_trained_model
from fer_ddp.runs.folder import RunFolder
from fer_ddp.runs.predictions import read_predictions
from fer_ddp.training.run import train
from shards.labels import DISPLAY_NAMES, FER2013_CLASSES

TEST = "test"


@pytest.fixture(scope="module")
def run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, its weights averaged, its batch norms and dropout used, evaluated on ten views of an image."""
    folder = tmp_path_factory.mktemp("finished")
    job = {
        "run": str(folder / "run"),
        "data": {"path": str(faces)},
        "model": {
            "name": "plain_cnn",
            "arguments": {"channels": [4, 8], "hidden": 16, "batch_norm": True, "dropout": 0.3},
        },
        "optimizer": {"name": "adam", "lr": 0.003},
        "ema": {"decay": 0.9},
        "views": {"flip": True, "shift_pixels": 2},
        "epochs": 1,
        "global_batch_size": 24,
        "precision": "float32",
        "memory_format": "channels_last",
        "wandb": {"mode": "disabled"},
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    train(load_job(folder / "job.yaml", []), torch.device("cpu"))
    return folder / "run"


@pytest.fixture
def moved(run: Path, faces: Path, tmp_path: Path) -> Path:
    """The run folder alone, as on a machine that doesn't have its data."""
    shutil.copytree(run, tmp_path / "moved")
    config = tmp_path / "moved" / "config.yaml"
    edited = config.read_text().replace(str(faces), str(tmp_path / "absent"))
    config.write_text(edited[: edited.index("# crc32 ")])
    assert not Path(load_job(config, []).data.path).exists()
    return tmp_path / "moved"


def image_file(faces: Path, index: int, path: Path, mode: str = "L", size: tuple[int, int] = (48, 48)) -> Path:
    Image.fromarray(FERDataset(faces, TEST).images[index, 0].numpy()).convert(mode).resize(size, 0).save(path)
    return path


def test_predict_gives_the_probabilities_of_the_evaluation(
    moved: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [image_file(faces, index, tmp_path / f"{index}.png") for index in (3, 0)]
    assert main(["predict", str(moved), *map(str, paths), "--json"]) == 0
    predictions = json.loads(capsys.readouterr().out)
    evaluated = read_predictions(moved / "predictions" / "test.csv")
    assert [prediction["image"] for prediction in predictions] == [str(path) for path in paths]
    for prediction, index in zip(predictions, (3, 0), strict=True):
        assert list(prediction["probabilities"]) == list(evaluated.class_names)
        np.testing.assert_allclose(
            list(prediction["probabilities"].values()), evaluated.probabilities[index], rtol=0, atol=1e-6
        )
        assert prediction["class"] == max(prediction["probabilities"], key=prediction["probabilities"].get)


def test_an_image_in_colour_and_of_another_size_is_made_to_fit(
    run: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = image_file(faces, 0, tmp_path / "large.png", "RGB", (96, 96))
    assert main(["predict", str(run), str(large)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    shares = [float(part.split()[1]) for part in line.removeprefix(f"{large}: ").split(", ")]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_a_photograph_that_exif_turns_is_predicted_upright(run: Path, faces: Path, tmp_path: Path) -> None:
    upright = image_file(faces, 0, tmp_path / "upright.png")
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(upright) as image:
        image.rotate(90).save(turned, exif=exif)
    with Image.open(turned) as image:
        probabilities = load(run, torch.device("cpu")).predict([upright, turned, image]).probabilities
    assert np.allclose(probabilities, probabilities[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file or directory; give image files, PNG or JPEG"),
        (b"no image", "is not an image that can be decoded; it should be a whole PNG or JPEG"),
    ],
    ids=["absent", "no image"],
)
def test_what_is_no_image_is_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "face.png"
    if content is not None:
        path.write_bytes(content)
    assert main(["predict", str(run), str(path)]) == 1
    assert capsys.readouterr().err == f"error: {path}: {sentence}\n"


def test_a_bad_file_costs_only_its_own_prediction_and_a_wide_one_is_noted(
    run: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, wide = image_file(faces, 0, tmp_path / "0.png"), image_file(faces, 1, tmp_path / "1.png", size=(90, 50))
    bad = tmp_path / "clip.mp4"
    bad.write_bytes(b"\0\0\0\x18ftypisom")
    assert main(["predict", str(run), str(good), str(bad), str(wide)]) == 1
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(good), str(wide)]
    assert err.splitlines() == [
        "note: 1 of 3 images is not square: the largest square in the centre was used",
        f"error: {bad}: is a video without frames that OpenCV can read",
        "error: 1 of 3 images could not be classified",
    ]


def test_classes_that_train_has_no_sample_of_are_not_listed(faces: Path, tiny_job: Path, tmp_path: Path) -> None:
    manifest = json.loads((shutil.copytree(faces, tmp_path / "data") / "manifest.json").read_text())
    for split in manifest["splits"].values():
        split["class_counts"].append(0)
    manifest["class_names"].append("contempt")
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    run = tmp_path / "seven-of-eight"
    assert main(["train", str(tiny_job), f"data.path={tmp_path / 'data'}", f"run={run}"]) == 0
    predictions = load(run, torch.device("cpu")).predict(FERDataset(faces, TEST).images[:2])
    assert predictions.class_names == tuple(manifest["class_names"][:7])
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("words", [["predict", "RUN", "face.png"], ["export", "RUN", "--out", "exported"]], ids=str)
def test_a_folder_that_is_no_run_is_one_sentence(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("RUN", str(tmp_path)) for word in words]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_model_is_not_put_before_images_of_another_size(run: Path, faces: Path) -> None:
    chosen = load_trained_model(RunFolder(run), load_job(run / "config.yaml", []), torch.device("cpu"))
    manifest = FERDataset(faces, TEST).manifest
    chosen.check_data(manifest, "faces")
    with pytest.raises(JobError) as caught:
        chosen.check_data(dataclasses.replace(manifest, image_shape=(3, 24, 24)), "small")
    assert str(caught.value) == (
        "small: its images are 3 x 24 x 24 (channels, height, width); the model takes 1 x 48 x 48; "
        "pack the source again with --size 48"
    )


def test_a_run_keeps_the_normalization_it_was_trained_with(run: Path, faces: Path) -> None:
    job, manifest = load_job(run / "config.yaml", []), FERDataset(faces, TEST).manifest
    assert (job.data.mean, job.data.std) == (manifest.mean, manifest.std)


def test_names_are_printed_in_georgian_on_request(
    run: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face = image_file(faces, 0, tmp_path / "face.png")
    assert main(["predict", str(run), str(face), "--language", "ka"]) == 0
    printed = capsys.readouterr().out
    assert all(DISPLAY_NAMES["ka"][name] in printed for name in FER2013_CLASSES)
    assert "happy" not in printed
