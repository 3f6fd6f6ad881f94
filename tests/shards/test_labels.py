"""Label schemes: the published orders, and one name for each expression."""

import re
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.labels import (
    AFFECTNET7,
    AFFECTNET8,
    FER2013,
    FERPLUS,
    JAFFE,
    KDEF,
    LABEL_SCHEMES,
    RAFDB,
    SYNONYMS,
    class_labels,
    read_scheme,
)
from shards.splits import split_in_name
from shards.votes import CATEGORIES


@pytest.mark.parametrize(
    ("label", "name"), [*enumerate(["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"], start=1)]
)
def test_rafdb_counts_its_classes_from_one(label: int, name: str) -> None:
    assert RAFDB.class_names[label - RAFDB.first_label] == name


def test_affectnet_has_contempt_as_its_eighth_class() -> None:
    assert AFFECTNET8.class_names[0] == "neutral"
    assert AFFECTNET8.class_names[6:] == ("angry", "contempt")


def test_the_columns_of_ferplus_are_its_classes_and_two_that_are_none() -> None:
    assert [FERPLUS.class_of(column) for column in CATEGORIES] == [*FERPLUS.class_names, None, None]


def test_every_scheme_has_fer2013s_names_and_no_other_but_contempt() -> None:
    names = {name for scheme in LABEL_SCHEMES.values() for name in scheme.class_names}
    assert names == {*FER2013.class_names, "contempt"}
    assert set(SYNONYMS.values()) < names


def test_a_name_is_found_in_any_case_and_by_its_synonyms() -> None:
    assert [FER2013.class_of(name) for name in ("Happiness", "SURPRISED", "sad", "contempt", "6_Suprise ", "1")] == [
        "happy",
        "surprise",
        "sad",
        None,
        "surprise",
        None,
    ]


PLACES = [(label, f"row {row}") for row, label in enumerate(["3", "1.0", "Happiness", "7", "3"], 1)]


def test_numbers_and_names_in_any_spelling_have_the_label_that_the_scheme_gives_them() -> None:
    assert class_labels("list.csv", PLACES, RAFDB) == (
        RAFDB.class_names,
        {"3": 2, "1.0": 0, "Happiness": 3, "7": 6},
        {},
    )


def test_what_is_not_a_class_in_the_scheme_is_left_out_by_what_it_is() -> None:
    labels = [(label, "row 1") for label in ("0", "7", "8", "No-Face", "Contempt")]
    assert class_labels("list.csv", labels, AFFECTNET7)[1:] == (
        {"0": 0},
        {"7": "contempt", "8": "none", "No-Face": "no face", "Contempt": "contempt"},
    )


def test_a_number_without_a_scheme_is_refused_with_the_schemes_that_have_it() -> None:
    with pytest.raises(DataError) as refusal:
        class_labels("list.csv", [("sad", "row 1"), ("1", "row 2"), ("7", "row 3")])
    assert str(refusal.value).startswith("list.csv: row 2 has the label '1', and what a number means differs")
    assert "--scheme rafdb (1 surprise, 2 fear, 3 disgust" in str(refusal.value)
    assert "--scheme ckplus (0 angry" in str(refusal.value)
    assert "fer2013" not in str(refusal.value)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("0", "row 9 has the label '0', which is not in the scheme rafdb; its labels are 1 surprise, 2 fear"),
        ("2.5", "row 9 has the label '2.5', which is not in the scheme rafdb"),
        ("supprise", "row 9 has the label 'supprise', which is not in the scheme rafdb (did you mean surprise?)"),
        (" ", "row 9 has no label"),
    ],
)
def test_a_label_that_is_not_in_the_scheme_is_refused_by_its_place(label: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        class_labels("list.csv", [(label, "row 9")], RAFDB)


@pytest.mark.parametrize("label", ["nan", "3.5", "1e0", "?"])
def test_what_is_neither_a_name_nor_a_number_of_a_class_is_refused(label: str) -> None:
    with pytest.raises(DataError, match=re.escape(f"row 2 has the label {label!r}; it should be the name or the num")):
        class_labels("list.csv", [("happy", "row 1"), (label, "row 2")])


def test_a_folder_whose_name_is_not_utf_8_is_no_class() -> None:
    with pytest.raises(DataError, match="the label .* it should be text that can be printed"):
        class_labels("faces", [("happy", "train/happy/0.png"), ("\udcff", "train/\udcff/0.png")])


def test_kdef_and_jaffe_have_letters_for_their_classes() -> None:
    assert [KDEF.class_of(code) for code in ("AF", "AN", "HA")] == ["fear", "angry", "happy"]
    assert [JAFFE.class_of(code) for code in ("FE", "NE", "SU")] == ["fear", "neutral", "surprise"]


def test_a_yaml_file_is_a_scheme_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("classes: [joy, no, Sad]\nfirst_label: 1\nsynonyms: {grin: joy, 9: Sad}\nleft_out: [unclear]\n")
    labels = [(label, "row 1") for label in ("1", "2", "Grin", "9.0", "sadness", "4")]
    assert class_labels("list.csv", labels, read_scheme(str(path))) == (
        ("joy", "no", "Sad"),
        {"1": 0, "2": 1, "Grin": 0, "9.0": 2, "sadness": 2},
        {"4": "unclear"},
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a]", "has no key classes"),
        ("classes: happy", "classes: is not a list of names"),
        ("classes: [happy, Happiness]", "'Happiness' and 'happy' mean one class"),
        ("classes: [happy]\nfirst: 1", "first: is not a key of a scheme"),
        ("classes: [happy]\nfirst_label: one", "first_label: is not a whole number"),
        ("classes: [happy]\nsynonyms: {grin: joy}", "synonyms: grin is 'joy', which is not one of the classes"),
        ("classes: [1, 2, 3]", "classes: 1 is a number; each class needs a name"),
        ("classes: [happy", "is not YAML in UTF-8"),
    ],
)
def test_a_scheme_of_ones_own_that_is_wrong_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_scheme(str(path))


def test_an_unknown_scheme_is_refused_with_the_one_that_was_probably_meant() -> None:
    with pytest.raises(DataError, match=r"there is no such scheme \(did you mean rafdb\?\)"):
        read_scheme("raf-db")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-000000.tar", "train"),
        ("fer2013-val-000001.tar", "val"),
        ("validation_000.tar", "val"),
        ("Test/00000.tar", "test"),
        ("train/test-0.tar", "test"),
        ("test00.tar.gz", "test"),
        ("00000.tar", None),
        ("latest/contested.tar", None),
    ],
)
def test_a_split_is_a_word_of_a_files_name_or_of_its_folder(path: str, split: str | None) -> None:
    assert split_in_name(path) == split


def test_a_name_of_two_splits_is_refused() -> None:
    with pytest.raises(DataError, match=r"train-val-0\.tar: names train and val; it should name the one split"):
        split_in_name("train-val-0.tar")
