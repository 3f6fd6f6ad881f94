"""The predictions' CSV: exact bytes, exact numbers back, and a sentence for every damage."""

import csv
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_ddp.errors import RunError
from fer_ddp.runs.predictions import Predictions, read_predictions, write_predictions

NAMES = ("cat", "dog")
SOUND = "key,label,predicted,p_cat,p_dog\na,cat,cat,0.75,0.25\nb,cat,dog,0.1,0.9\n"
EXPECTED_COLUMNS = "key,label,predicted and then one p_CLASS for each class, all different, are expected"


def written(path: Path, dtype: Any = np.float32) -> bytes:
    probabilities = np.array([[0.75, 0.25], [0.1, 0.9]], dtype=dtype)
    write_predictions(path, ["a", "b"], np.array([0, 0]), probabilities, NAMES)
    return path.read_bytes()


def random_predictions(dtype: Any) -> Predictions:
    generator = np.random.default_rng(3)
    probabilities = generator.dirichlet(np.full(7, 0.05), 300).astype(dtype)
    labels = generator.integers(0, 7, 300)
    keys = tuple(f"{row:06d}" for row in range(300))
    return Predictions(keys=keys, labels=labels, probabilities=probabilities, class_names=tuple("abcdefg"))


def through_the_file(predictions: Predictions, path: Path) -> Predictions:
    write_predictions(path, predictions.keys, predictions.labels, predictions.probabilities, predictions.class_names)
    return read_predictions(path)


def test_the_bytes_are_a_plain_csv_with_names_and_shortest_numbers(tmp_path: Path) -> None:
    assert written(tmp_path / "test.csv") == SOUND.encode()


def test_float64_keeps_its_own_shortest_numbers(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    write_predictions(path, ["a"], np.array([1]), np.array([[1 / 3, 2 / 3]]), NAMES)
    assert path.read_text().splitlines()[1] == "a,dog,dog,0.3333333333333333,0.6666666666666666"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_numbers_come_back_in_the_same_precision(tmp_path: Path, dtype: Any) -> None:
    predictions = random_predictions(dtype)
    back = through_the_file(predictions, tmp_path / "test.csv")
    assert (back.probabilities.dtype, back.probabilities.tobytes()) == (dtype, predictions.probabilities.tobytes())


def test_keys_labels_predictions_and_names_come_back(tmp_path: Path) -> None:
    predictions = random_predictions(np.float32)
    back = through_the_file(predictions, tmp_path / "test.csv")
    assert (back.keys, back.labels.tolist(), back.predicted.tolist(), back.class_names) == (
        predictions.keys,
        predictions.labels.tolist(),
        predictions.probabilities.argmax(axis=1).tolist(),
        predictions.class_names,
    )


def test_half_precision_is_written_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    write_predictions(path, ["a"], np.array([0]), np.array([[0.1, 0.9]], dtype=np.float16), NAMES)
    assert path.read_text().splitlines()[1] == "a,cat,dog,0.099975586,0.89990234"


def test_names_and_keys_with_commas_quotes_and_other_scripts_come_back(tmp_path: Path) -> None:
    names = ('sad, "very"', "მხიარული", "p_p_")
    predictions = Predictions(
        keys=("a,b", "ü\u2028", 'c"'),
        labels=np.array([0, 1, 2]),
        probabilities=np.eye(3, dtype=np.float32),
        class_names=names,
    )
    back = through_the_file(predictions, tmp_path / "test.csv")
    assert (back.keys, back.class_names, back.labels.tolist()) == (predictions.keys, names, [0, 1, 2])


def test_any_csv_reader_reads_it(tmp_path: Path) -> None:
    written(tmp_path / "test.csv")
    with (tmp_path / "test.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first == {"key": "a", "label": "cat", "predicted": "cat", "p_cat": "0.75", "p_dog": "0.25"}


def test_the_folder_is_made_and_nothing_else_is_left_in_it(tmp_path: Path) -> None:
    written(tmp_path / "predictions" / "test.csv")
    assert os.listdir(tmp_path / "predictions") == ["test.csv"]


def test_wrong_predictions_leave_the_old_file_as_it_was(tmp_path: Path) -> None:
    before = written(tmp_path / "test.csv")
    with pytest.raises(ValueError, match="^1 keys for 2 labels: each sample needs one$"):
        write_predictions(tmp_path / "test.csv", ["a"], np.array([0, 0]), np.array([[0.5, 0.5], [1.0, 0.0]]), NAMES)
    assert (tmp_path / "test.csv").read_bytes() == before


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "predictions").write_text("a file, not a folder")
    path = tmp_path / "predictions" / "test.csv"
    with pytest.raises(RunError, match=f"^{re.escape(str(path))}: cannot be written: File exists$"):
        written(path)


def test_an_absent_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    with pytest.raises(RunError, match=f"^{re.escape(str(path))}: cannot be read: No such file or directory$"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the last line does not end, so the file was cut short; `evaluate` writes it again"),
        (SOUND[:-2], "the last line does not end, so the file was cut short; `evaluate` writes it again"),
        (
            SOUND.replace("key,", "id,"),
            f"the columns are id,label,predicted,p_cat,p_dog; {EXPECTED_COLUMNS}",
        ),
        (
            SOUND.replace("p_dog", "dog"),
            f"the columns are key,label,predicted,p_cat,dog; {EXPECTED_COLUMNS}",
        ),
        (
            SOUND.replace("p_dog", "p_cat"),
            f"the columns are key,label,predicted,p_cat,p_cat; {EXPECTED_COLUMNS}",
        ),
        (SOUND.splitlines(keepends=True)[0], "holds no prediction; at least one line must follow the header"),
        (SOUND.replace(",0.9\n", "\n"), "line 3 has 4 fields; 5 are expected, as in the header"),
        (SOUND.replace("b,cat", "b,cow"), "line 3 names the class 'cow'; cat, dog are the classes"),
        (SOUND.replace("cat,dog,0.1", "cat,cow,0.1"), "line 3 names the class 'cow'; cat, dog are the classes"),
        (
            SOUND.replace("0.9", "much"),
            "line 3: could not convert string to float: 'much'; a probability is a number in 0 to 1",
        ),
        (
            SOUND.replace("0.9", "nan"),
            "line 3: the probabilities 0.1, nan are not a distribution; they must be in 0 to 1 and sum to 1",
        ),
        (
            SOUND.replace("0.9", "0.8"),
            "line 3: the probabilities 0.1, 0.8 are not a distribution; they must be in 0 to 1 and sum to 1",
        ),
        (
            SOUND.replace("a,cat,cat", "a,cat,dog"),
            "line 2 has the prediction 'dog', but its highest probability is that of 'cat'",
        ),
        (SOUND.replace("b,cat", '"b"x,cat'), "line 3 is not CSV: ',' expected after '\"'"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "test.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=f"^{re.escape(f'{path}: {sentence}')}$"):
        read_predictions(path)


def test_bytes_that_are_no_text_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_bytes(b"key\xff")
    sentence = f"{path}: byte 3 is not UTF-8; predictions are a UTF-8 CSV"
    with pytest.raises(RunError, match=f"^{re.escape(sentence)}$"):
        read_predictions(path)


def test_a_file_that_an_office_program_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_bytes(SOUND.replace("\n", "\r\n").encode())
    assert read_predictions(path).keys == ("a", "b")


def test_the_numbers_can_be_read_as_they_stand(tmp_path: Path) -> None:
    probabilities = np.array([[0.1, 0.9]], dtype=np.float32)
    write_predictions(tmp_path / "val.csv", ["a"], np.array([1]), probabilities, ["calm", "glad"])
    read = read_predictions(tmp_path / "val.csv", as_float64=True).probabilities
    assert (read.dtype, read.tolist()) == (np.float64, [[0.1, 0.9]])
