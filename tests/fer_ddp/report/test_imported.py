"""``import-predictions``: another model's predictions, from a CSV or an ONNX model, measured by the report's rules."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import write_run
from numpy.typing import NDArray

from fer_ddp.__main__ import main
from fer_ddp.errors import JobError, RunError
from fer_ddp.report.across import collect_across
from fer_ddp.report.imported import Imported, Origin, import_predictions
from fer_ddp.report.imported_classes import ClassesOfFile
from fer_ddp.report.imported_onnx import InputDescription
from fer_ddp.report.write import write_report
from fer_ddp.runs.finished import read_runs
from fer_ddp.runs.folder import RunFolder
from shards.errors import UserError
from shards.manifest import read_manifest
from shards.reading.reader import DecodedSplit, read_split

NAMES = ("Anger", "disgusted", "afraid", "Happiness", "sadness", "surprised", "NEUTRAL")
"""The classes of the data in other spellings."""
ORDER = (3, 0, 6, 1, 2, 5, 4)


@pytest.fixture(scope="module")
def val(faces: Path) -> DecodedSplit:
    return read_split(faces, "val")


@pytest.fixture(scope="module")
def logits(val: DecodedSplit) -> NDArray[np.float64]:
    """(samples, classes): right for about two thirds."""
    random = np.random.default_rng(0)
    return random.normal(size=(70, 7)) + 2.2 * np.eye(7)[val.labels]


@pytest.fixture
def table(val: DecodedSplit, logits: NDArray[np.float64]) -> list[list[str]]:
    """A CSV with other names and another order of classes and rows; first the header."""
    shown = softmax(logits)
    rows = [["split_name", *(f"p_{NAMES[index]}" for index in ORDER), "key"]]
    for place in np.random.default_rng(1).permutation(70):
        rows.append(["x", *(str(shown[place, index]) for index in ORDER), val.keys[place]])
    return rows


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(values)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


Import = Callable[..., Imported]


@pytest.fixture
def imported(tmp_path: Path, faces: Path) -> Import:
    """``imported(rows, ...)``: import a CSV of ``rows`` for val into the folder ``other``."""

    def run(rows: Sequence[Sequence[str]], delimiter: str = ",", **options: Any) -> Imported:
        with open(tmp_path / "other.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows(rows)
        options = {"splits": ["val"], "run": tmp_path / "other"} | options
        return import_predictions(tmp_path / "other.csv", faces, "theirs", **options)

    return run


def test_the_reports_row_of_a_csv_is_what_one_calculates_by_hand(
    imported: Import,
    table: list[list[str]],
    val: DecodedSplit,
    logits: NDArray[np.float64],
    faces: Path,
    tmp_path: Path,
) -> None:
    imported(table, origin=Origin(selection="epoch by val", source="https://example.org/x", note="ten crops"))
    ours = softmax(logits[::-1])
    write_run(
        *(tmp_path / "ours", {"val": (val.labels, ours)}),
        classes=read_manifest(faces).class_names,
        digest=digest_of(tmp_path / "other"),
        keys={"val": val.keys},
    )
    leaking = {"val": val.keys[:10]}
    written = write_report([tmp_path / "other", tmp_path / "ours"], tmp_path / "report.html", leaking=leaking)
    (row,) = [row for row in csv.DictReader(written.table.read_text().splitlines()) if row["recipe"] == "theirs"]

    probabilities, correct = softmax(logits), logits.argmax(axis=1) == val.labels
    n, hits, z = len(correct), int(correct.sum()), 1.959963984540054
    assert float(row["val_accuracy"]) == hits / n
    assert float(row["val_accuracy_without_leaks"]) == correct[10:].mean()
    centre = (hits / n + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(hits / n * (1 - hits / n) / n + z**2 / (4 * n**2))
    interval = f"{100 * (centre - half):.1f} to {100 * (centre + half):.1f} %"
    assert f"| theirs | 1 | {100 * hits / n:.1f} % ({interval}) |" in written.markdown.read_text()
    f1 = []
    for label in range(7):
        both = ((logits.argmax(axis=1) == label) & (val.labels == label)).sum()
        f1.append(2 * both / ((logits.argmax(axis=1) == label).sum() + (val.labels == label).sum()))
    assert float(row["val_macro_f1"]) == pytest.approx(np.mean(f1))
    confidence, error = probabilities.max(axis=1), 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        error += abs(correct[inside].sum() - confidence[inside].sum()) / n
    assert float(row["val_calibration_error"]) == pytest.approx(error)
    page = written.page.read_text()
    for text in ("epoch by val", 'href="https://example.org/x"', "ten crops", "theirs"):
        assert text in page
    assert "selection epoch by val" in written.markdown.read_text()


def digest_of(folder: Path) -> str:
    return read_runs([folder])[0][0].data_digest


def test_logits_need_the_option_and_give_their_softmax(
    imported: Import, table: list[list[str]], val: DecodedSplit, logits: NDArray[np.float64], tmp_path: Path
) -> None:
    rows = [["key", *NAMES], *([key, *map(str, row)] for key, row in zip(val.keys, logits, strict=True))]
    with pytest.raises(RunError, match=r"line 2 \(.*\) holds .*, which are not probabilities: .* add --logits"):
        imported(rows)
    imported(rows, logits=True, run=tmp_path / "other2")
    found = read_runs([tmp_path / "other2"])[0][0].predictions("val")
    np.testing.assert_allclose(found.probabilities, softmax(logits), atol=1e-15)


def test_labels_alone_are_measured_without_calibration(
    imported: Import, val: DecodedSplit, logits: NDArray[np.float64], tmp_path: Path
) -> None:
    predicted = logits.argmax(axis=1)
    rows = [["path", "predicted"]]
    rows += [[f"C:\\faces\\{key}.png", NAMES[index]] for key, index in zip(val.keys, predicted, strict=True)]
    made = imported(rows, delimiter=";")
    assert made.text().splitlines()[-2] == ("the file holds labels alone, so loss and calibration are not measured")
    assert "loss" not in made.summary["val"]
    (run,) = read_runs([tmp_path / "other"])[0]
    np.testing.assert_array_equal(run.predictions("val").predicted, predicted)
    written = write_report([tmp_path / "other"], tmp_path / "report.html", images=True)
    assert "only its predicted classes are known" in written.page.read_text()
    (row,) = csv.DictReader(written.table.read_text().splitlines())
    assert (float(row["val_accuracy"]), row["val_calibration_error"]) == ((predicted == val.labels).mean(), "")


def test_a_class_the_data_lack_is_merged_or_dropped(imported: Import, table: list[list[str]], tmp_path: Path) -> None:
    wide = [[*row, "0.25"] for row in table]
    wide[0][-1] = "contempt"
    for row in wide[1:]:
        row[1:8] = [str(0.75 * float(cell)) for cell in row[1:8]]
    with pytest.raises(RunError, match=r"contempt is not a class of the data .*--merge contempt=neutral.*--drop"):
        imported(wide)
    plain = imported(table).summary["val"]["loss"]
    dropped = imported(wide, run=tmp_path / "b", classes=ClassesOfFile(drop=("contempt",)))
    merged = imported(wide, run=tmp_path / "c", classes=ClassesOfFile(merge=("Contempt=neutral",)))
    assert dropped.summary["val"]["loss"] == pytest.approx(plain)
    sums = read_runs([tmp_path / "c"])[0][0].predictions("val").probabilities
    assert sums.sum(axis=1) == pytest.approx(1)
    assert merged.summary["val"]["loss"] != pytest.approx(plain)


def without_last(rows: list[list[str]]) -> None:
    rows.pop()


def doubled(rows: list[list[str]]) -> None:
    rows.append(rows[1])


def unknown(rows: list[list[str]]) -> None:
    rows[3][-1] = "row-9999999"


def misspelt(rows: list[list[str]]) -> None:
    rows[0][1] = "p_hapy"


def no_number(rows: list[list[str]]) -> None:
    rows[2][1] = "-"


def no_key(rows: list[list[str]]) -> None:
    rows[0][-1] = "when"


def nan(rows: list[list[str]]) -> None:
    rows[5][2] = "nan"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_last, r"other\.csv: has no row for 1 sample of the 70 of val, the first is .*; every sample needs"),
        (doubled, r"line 72 \((.*)\) is the sample of line 2 \(\1\) again; each sample has one row"),
        (unknown, r"line 4 \(row-9999999\) is not a sample of val; their keys are such as "),
        (misspelt, r"hapy is not a class of the data \(angry, .*\) \(did you mean happy\?\)"),
        (no_number, r"line 3 \(.*\) has '-' for Happiness, which is no number"),
        (no_key, r"has the columns .*; one must name the sample: key, as in the data; row"),
        (nan, r"line 6 \(.*\) holds a number that is not finite"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused_with_line_and_sample(
    imported: Import, table: list[list[str]], damage: Callable[[list[list[str]]], None], message: str, tmp_path: Path
) -> None:
    damage(table)
    with pytest.raises(RunError, match=message):
        imported(table)
    assert not (tmp_path / "other").exists()


def test_the_true_class_is_no_prediction_and_must_be_the_datas(
    imported: Import, val: DecodedSplit, table: list[list[str]]
) -> None:
    alone = [["key", "label"], *([key, NAMES[label]] for key, label in zip(val.keys, val.labels, strict=True))]
    with pytest.raises(RunError, match="has a column label, which is taken as the true class, and no predictions"):
        imported(alone)
    labelled = [[*row, NAMES[0]] for row in table]
    labelled[0][-1] = "label"
    with pytest.raises(RunError, match=r"has the true class Anger, the data have .*: these are other data"):
        imported(labelled)


def test_train_evaluate_and_export_refuse_the_folder(
    imported: Import, table: list[list[str]], tmp_path: Path, tiny_job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = imported(table).folder
    commands = (["evaluate", folder], ["predict", folder, tiny_job], ["export", folder, "--out", tmp_path / "x"])
    for command in commands:
        assert main([str(word) for word in command]) == 2
        assert f"error: {folder}: holds imported predictions, not a run" in capsys.readouterr().err
    with pytest.raises(JobError, match="holds imported predictions, .* choose another run="):
        RunFolder(folder).check_own()
    with pytest.raises(JobError, match="holds predictions of another file, name, seed or data set"):
        imported(table, seed=3)


def test_seeds_of_one_name_are_one_recipe_and_across_data_sets_trained_elsewhere(
    imported: Import, table: list[list[str]], tmp_path: Path
) -> None:
    for seed in (0, 1):
        imported(table, run=tmp_path / "runs" / f"{seed}", seed=seed)
    written = write_report([tmp_path / "runs"], tmp_path / "report.html")
    assert "| theirs | 2 | " in written.markdown.read_text()
    (row,) = collect_across([tmp_path / "runs"]).rows
    (cell,) = row.cells.values()
    assert (row.trained_on, row.seeds, cell.is_own) == ("elsewhere", 2, False)


# ONNX.


def model_of(path: Path, shape: list[int | str], weights: NDArray[np.float32]) -> Path:
    """A model whose logits are linear in the mean of its input's pixels above and below the middle."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_onnx_model_is_given_what_was_described(faces: Path, tmp_path: Path, val: DecodedSplit, layout: str) -> None:
    pytest.importorskip("onnxruntime")
    weights = np.random.default_rng(3).normal(size=(48 * 48, 7)).astype(np.float32)
    shape = [32, 1, 48, 48] if layout == "NCHW" else [32, 48, 48, 1]  # 70 images in batches of just 32
    path = model_of(tmp_path / "model.onnx", list(shape), weights)
    names = tuple(NAMES[index] for index in ORDER)
    description = InputDescription(scale=255.0, mean=(0.5,), std=(0.5,))
    made = import_predictions(
        *(path, faces, "theirs"),
        splits=["val"],
        run=tmp_path / "other",
        classes=ClassesOfFile(order=names),
        logits=True,
        input_description=description,
    )
    expected = ((val.images.reshape(70, -1) / 255 - 0.5) / 0.5) @ weights.astype(np.float64)
    expected -= expected.max(axis=1, keepdims=True)
    found = read_runs([tmp_path / "other"])[0][0].predictions("val").probabilities
    np.testing.assert_allclose(found[:, list(ORDER)], softmax(expected), atol=2e-4)
    assert made.assumptions == (
        f"the model is given uint8 grey images of 48 x 48, {layout}, as (pixel / 255 - 0.5) / 0.5 in float32",
        f"its output scores is taken as logits of {', '.join(names)}",
    )


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ([1, 1, 48, 48], {}, "add --scale 255 if pixels are 0 to 1"),
        (["n", 1, "h", "w"], {"scale": 255.0}, "takes images of any size; add --size PIXELS"),
        (["n", "c", 48, 48], {"scale": 255.0}, "add --layout NCHW or NHWC"),
        (["n", 1, 48, 48], {"scale": 255.0, "color": "rgb"}, "--color rgb: .* takes 1 channel"),
        (["n", 1, 48, 48], {"scale": 255.0, "size": 64}, "--size 64: .* takes images of 48 x 48"),
        (["n", 1, 48, 48], {"scale": 255.0, "std": (0.5, 0.5)}, "--std: has 2 numbers; the model takes 1 channel"),
    ],
)
def test_what_remains_open_is_asked_for(
    faces: Path, tmp_path: Path, shape: list[int | str], options: dict[str, Any], message: str
) -> None:
    pytest.importorskip("onnxruntime")
    path = model_of(tmp_path / "model.onnx", shape, np.zeros((2304, 7), np.float32))
    with pytest.raises(JobError, match=message):
        import_predictions(
            *(path, faces, "theirs"),
            run=tmp_path / "other",
            classes=ClassesOfFile(order=NAMES),
            input_description=InputDescription(**options),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no input", "takes 0 inputs of shape"),
        ("no images at once", "takes 1 input of shape"),
        ("texts", "its output y is not a row of numbers for each image"),
        ("one number", "its output y is not a row of numbers for each image"),
    ],
)
def test_a_model_of_another_kind_is_refused(faces: Path, tmp_path: Path, change: str, message: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make, number, text = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.STRING
    is_text = change == "texts"
    value = make.make_tensor("v", text, [1], [b"happy"]) if is_text else make.make_tensor("v", number, [], [1.0])
    images = make.make_tensor_value_info("x", number, [0 if change == "no images at once" else "n", 1, 48, 48])
    graph = make.make_graph(
        [make.make_node("Constant", [], ["y"], value=value)],
        "g",
        [] if change == "no input" else [images],
        [make.make_tensor_value_info("y", text if is_text else number, [1] if is_text else [])],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UserError, match=message):
        import_predictions(
            *(tmp_path / "model.onnx", faces, "theirs"),
            run=tmp_path / "other",
            classes=ClassesOfFile(order=NAMES),
            input_description=InputDescription(scale=255.0),
        )


def test_a_model_with_class_names_that_takes_uint8_describes_itself(faces: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = onnx.load(model_of(tmp_path / "model.onnx", ["batch", "h", "w", "c"], np.ones((2304, 7), np.float32)))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node[0].input[0] = "numbers"
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["numbers"], to=onnx.TensorProto.FLOAT))
    onnx.helper.set_model_props(model, {"class_names": json.dumps(NAMES)})
    onnx.save(model, tmp_path / "model.onnx")
    made = import_predictions(tmp_path / "model.onnx", faces, "theirs", run=tmp_path / "other", logits=True)
    assert made.assumptions[0] == "the model is given uint8 grey images of 48 x 48, NHWC"
    assert made.summary["val"]["loss"] == made.summary["test"]["loss"] == pytest.approx(np.log(7))


@pytest.mark.long
def test_an_exported_model_describes_itself(
    tiny_job: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import fer_ddp

    fer_ddp.train(fer_ddp.load_job(tiny_job), "cpu")
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "exported")]) == 0
    words = ["import-predictions", str(tmp_path / "exported" / "model.onnx"), "--data", str(faces), "--name", "again"]
    assert main([*words, "--run", str(tmp_path / "again")]) == 0
    assert "uint8 grey images of 48 x 48, NHWC" in capsys.readouterr().out
    ours, again = read_runs([tmp_path / "run", tmp_path / "again"])[0]
    for split in ("val", "test"):
        np.testing.assert_allclose(
            again.predictions(split).probabilities, ours.predictions(split).probabilities, atol=1e-5
        )
