"""``evaluate RUN data.path=OTHER``: classes by name, images in the model's channels, results in their own folder."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fer_ddp import evaluate
from fer_ddp.__main__ import main
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import JobError
from fer_ddp.evaluation.class_mapping import in_channels
from fer_ddp.training.run import train
from shards.errors import DataError
from shards.images import ImageOptions
from shards.labels import FER2013_CLASSES, FERPLUS
from shards.packing.classes import ClassChoice
from shards.packing.packer import pack
from shards.sources.listing import SourceOptions
from shards.sources.registry import source_of


@pytest.fixture(scope="module", autouse=True)
def drawn() -> Iterator[list[int]]:
    """The numbers of images in the sheets of errors; nothing is drawn, which takes a second."""
    counts: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("plot_confusion_matrix", "plot_per_class", "plot_learning_curves", "save_figure"):
            patch.setattr(f"fer_ddp.evaluation.evaluate.{name}", lambda *_, **__: None)
        patch.setattr(
            "fer_ddp.evaluation.evaluate.plot_worst_errors", lambda images, *_, **__: counts.append(len(images))
        )
        yield counts


@pytest.fixture(scope="module")
def run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    job = {
        "run": str(folder / "run"),
        "data": {"path": str(faces)},
        "model": {"name": "plain_cnn", "arguments": {"channels": [4, 8], "hidden": 16}},
        "optimizer": {"name": "adam", "lr": 0.003},
        "epochs": 1,
        "global_batch_size": 24,
        "precision": "float32",
        "wandb": {"mode": "disabled"},
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    train(load_job(folder / "job.yaml", []), torch.device("cpu"))
    return folder / "run"


@pytest.fixture(scope="module")
def images(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces of test in colour, in folders of eight classes with other names; every tenth has contempt."""
    names = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral")
    dataset = FERDataset(faces, "test")
    root = tmp_path_factory.mktemp("images")
    for index, (grey, label) in enumerate(zip(dataset.images.numpy()[:, 0], dataset.labels.tolist(), strict=True)):
        path = root / "test" / ("Contempt" if index % 10 == 0 else names[label]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([grey, np.roll(grey, 1, 0), np.roll(grey, 1, 1)], axis=2)).save(path)
    return root


@pytest.fixture(scope="module")
def other(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RGB, in FER+'s order of classes."""
    out = tmp_path_factory.mktemp("other") / "other"
    assert pack(source_of(images), out).manifest.class_names == FERPLUS.class_names
    return out


def rows(folder: Path) -> list[str]:
    head, *lines = (folder / "predictions" / "test.csv").read_text().splitlines()
    return [head, *sorted(lines)]


@pytest.mark.parametrize(
    ("flags", "choice"),
    [
        (
            {"merge": ["contempt=neutral"]},
            ClassChoice(merge=("contempt=neutral",), classes=FER2013_CLASSES),
        ),
        ({"drop_classes": ["Contempt"]}, ClassChoice(classes=FER2013_CLASSES)),
    ],
    ids=["merged", "left out"],
)
def test_data_of_another_scheme_and_in_colour_give_what_the_same_packed_as_the_models_give(
    flags: dict[str, list[str]], choice: ClassChoice, run: Path, images: Path, other: Path, tmp_path: Path
) -> None:
    source = source_of(images, options=SourceOptions(images=ImageOptions(channels=1)))
    pack(source, tmp_path / "relabelled", classes=choice)
    found, expected = evaluate(run, other, **flags), evaluate(run, tmp_path / "relabelled")  # type: ignore[arg-type]
    assert rows(found.folder) == rows(expected.folder)
    results = [each.summary["test"] for each in (found, expected)]
    assert results[0].pop("loss") == pytest.approx(results[1].pop("loss"))  # summed in another order
    assert {**results[0], "predictions_sha256": None} == {**results[1], "predictions_sha256": None}  # in another order
    assert found.summary["class_names"] == list(FER2013_CLASSES)


def test_a_class_that_the_model_does_not_have_is_refused_by_name(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), f"data.path={other}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {other}: its class contempt, of 7 samples, is not one of the model's ({', '.join(FER2013_CLASSES)}); "
        "leave those samples out with --drop-classes contempt, or count them as another class with --merge "
        "contempt=neutral or the like\n"
    )


def test_what_was_merged_and_converted_is_printed_and_recorded(
    run: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "summary.json").read_bytes()
    assert main(["evaluate", str(run), f"data.path={other}", "--merge", "contempt=neutral"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "merged: contempt into neutral (test 7 samples)"
    assert printed[1].startswith("classes mapped by name: the data have neutral, happy, surprise")
    assert printed[2] == "its RGB images were made grey"
    (folder,) = {
        path.parent for path in run.glob("evaluations/*/summary.json") if printed[-1].find(path.parent.name) > 0
    }
    recorded = json.loads((folder / "summary.json").read_text())["data"]
    assert recorded["path"] == str(other)
    assert recorded["classes"] == {name: "neutral" if name == "contempt" else name for name in FERPLUS.class_names}
    assert recorded["notes"] == printed[:3]
    assert (run / "summary.json").read_bytes() == before


def test_a_class_that_is_to_be_left_out_must_be_one(run: Path, other: Path) -> None:
    with pytest.raises(
        DataError, match=r"--drop-classes: 'contemt' is not one of the classes \(did you mean contempt\?\)"
    ):
        evaluate(run, other, drop_classes=["contemt"])


def test_results_go_where_out_names_and_a_place_that_cannot_be_made_names_it(run: Path, tmp_path: Path) -> None:
    before = (run / "summary.json").stat().st_mtime_ns
    assert main(["evaluate", str(run), "--out", str(tmp_path / "results")]) == 0
    assert json.loads((tmp_path / "results" / "summary.json").read_text())["test"]["n"] == 70
    assert (run / "summary.json").stat().st_mtime_ns == before
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="file/results: cannot be made .* choose another place with --out"):
        evaluate(run, out=tmp_path / "file" / "results")


def test_data_with_train_alone_are_refused_with_what_makes_them_a_test(run: Path, faces: Path, tmp_path: Path) -> None:
    path = tmp_path / "images" / "train" / "happy" / "0.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(FERDataset(faces, "test").images.numpy()[0, 0]).save(path)
    pack(source_of(tmp_path / "images"), tmp_path / "train_alone")
    with pytest.raises(JobError, match="has no val and no test to evaluate on; pack the source again with --test-frac"):
        evaluate(run, tmp_path / "train_alone")


def test_colours_become_grey_as_pillow_makes_them_and_grey_becomes_rgb() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 3, 40, 40), dtype=np.uint8)
    grey = in_channels(torch.from_numpy(colours), 1).numpy()
    pillow = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in colours]
    assert np.array_equal(grey[:, 0], pillow)
    assert np.array_equal(in_channels(torch.from_numpy(grey), 3).numpy(), np.repeat(grey, 3, axis=1))
