"""`predict`: what may be named, what becomes of it, and how it is written."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_ddp
from fer_ddp.__main__ import main
from fer_ddp.deploy.draw import plot_prediction
from fer_ddp.deploy.pictures import Picture, find_files
from fer_ddp.deploy.predict import Predictions
from shards.images import ImageOptions, decode_image
from shards.sources.synthetic_faces import draw_faces

RUN = Path(__file__).parents[2] / "data" / "runs_35d5d40" / "finished"
"""A finished run, of two convolutions in float64."""


@pytest.fixture(scope="module")
def model() -> fer_ddp.Predictor:
    return fer_ddp.load(RUN, "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven faces in folders, among other files."""
    root = tmp_path / "photographs"
    (root / "b" / ".hidden").mkdir(parents=True)
    for label, face in enumerate(draw_faces(np.arange(7), np.random.default_rng(0))):
        Image.fromarray(face).save((root if label < 4 else root / "b") / f"{label}.png")
    for name in ("notes.txt", "b/labels.csv", ".DS_Store", "b/.hidden/0.png"):
        (root / name).write_text("no image")
    return root


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_a_folder_is_all_images_below_it_and_the_rest_is_counted(folder: Path) -> None:
    found = find_files([folder])
    assert [str(path.relative_to(folder)) for path in found.files] == [
        *(f"{label}.png" for label in range(4)),
        *(f"b/{label}.png" for label in range(4, 7)),
    ]
    assert found.notes == (f"{folder}: 7 images, 2 other files left out",)


def test_a_pattern_is_what_it_matches_and_a_file_counts_once(folder: Path) -> None:
    found = find_files([folder / "b" / "*.png", folder / "b" / "5.png", folder / "nothing*"])
    assert [path.name for path in found.files] == ["4.png", "5.png", "6.png"]
    assert found.errors == (f"{folder}/nothing*: no file matches this pattern",)


def test_a_folder_without_images_is_an_error_of_its_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(RUN), str(folder / "0.png"), str(tmp_path / "empty")]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{folder}/0.png: ")
    assert err == f"error: {tmp_path}/empty: is a folder without images\n"


def test_without_an_image_the_command_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(RUN), str(RUN)]) == 2
    assert "there are no images to classify" in capsys.readouterr().err


def test_the_table_holds_the_probabilities_and_the_drawings_are_there(
    model: fer_ddp.Predictor, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, drawn = tmp_path / "out" / "table.csv", tmp_path / "drawn"
    paths = [folder / "0.png", folder / "b" / "4.png"]
    assert main(["predict", str(RUN), *map(str, paths), "--csv", str(table), "--draw", str(drawn)]) == 0
    assert capsys.readouterr().out == f"look at {table} and {drawn}\n"
    expected = model.predict(paths)
    header, *rows = rows_of(table)
    assert header == ["path", "label", *model.class_names]
    assert [row[:2] for row in rows] == [[str(path), name] for path, name in zip(paths, expected.classes, strict=True)]
    np.testing.assert_allclose([[float(value) for value in row[2:]] for row in rows], expected.probabilities, atol=1e-6)
    assert sorted(path.name for path in drawn.iterdir()) == ["0.png.png", "4.png.png"]


def test_several_models_are_averaged_whatever_the_order_of_their_classes(
    model: fer_ddp.Predictor, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(RUN, tmp_path / "other")
    config = tmp_path / "other" / "config.yaml"
    config.write_text(config.read_text().replace("0.5137200572503307", "0.3"))
    other = fer_ddp.load(tmp_path / "other", "cpu")
    face = folder / "0.png"
    assert main(["predict", str(RUN), str(tmp_path / "other"), str(face), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    single = [each.predict(face).probabilities[0] for each in (model, other)]
    assert np.abs(single[0] - single[1]).max() > 1e-3
    np.testing.assert_allclose(list(row["probabilities"].values()), (single[0] + single[1]) / 2, atol=1e-12)


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(90, 50), (31, 97)], ids=str)
def test_an_image_that_is_not_square_is_what_pack_makes_of_it(
    model: fer_ddp.Predictor, tmp_path: Path, fit: str, size: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    packed, _ = decode_image(path.read_bytes(), ImageOptions(size=48, channels=1, fit=fit))
    assert main(["predict", str(RUN), str(path), "--json", *(["--pad"] if fit == "pad" else [])]) == 0
    out, err = capsys.readouterr()
    expected = model.predict(packed[0]).probabilities[0]
    np.testing.assert_allclose(list(json.loads(out)[0]["probabilities"].values()), expected, atol=1e-12)
    done = "the largest square in the centre was used" if fit == "crop" else "put on a black square"
    assert err == f"note: {path} is not square: {done}\n"


@pytest.mark.parametrize("side", [48, 4000])
def test_a_drawing_is_as_large_for_a_small_picture_as_for_a_large_one(side: int) -> None:
    picture = Picture(name="face.png", image=Image.new("L", (side, side), 128))
    box = (side // 4, side // 4, side // 2, side // 2)
    figure = plot_prediction(
        picture, [box, box], np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]), ["happy", "sad", "fear"]
    )
    shown, chart = figure.axes
    assert [text.get_text() for text in figure.texts] == ["2 faces", "face.png"]
    assert max(shown.images[0].get_array().shape) <= 1200
    assert shown.patches[0].get_bbox().bounds == (side // 4, side // 4, side // 4, side // 4)
    assert [label.get_text() for label in chart.get_yticklabels()] == [
        "1  happy",
        "sad",
        "fear",
        "2  fear",
        "happy",
        "sad",
    ]
    assert chart.texts[0].get_text() == "70.0 %"


def test_classes_called_as_other_columns_have_columns_of_their_own() -> None:
    probabilities = np.eye(4)[:1]
    predictions = Predictions(
        images=("a.png",), class_names=("path", "label", "p_label", "left"), probabilities=probabilities
    )
    header = predictions.to_csv().splitlines()[0]
    assert header == "path,label,p_path,p_p_label,p_label,left"
