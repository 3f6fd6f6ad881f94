"""Label schemes: the published orders, and one name for each expression."""

import pytest

from shards.labels import AFFECTNET, FER2013, FERPLUS, LABEL_SCHEMES, RAFDB, SYNONYMS
from shards.sources.ferplus_votes import CATEGORIES


@pytest.mark.parametrize(
    ("label", "name"), [*enumerate(["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"], start=1)]
)
def test_rafdb_counts_its_classes_from_one(label: int, name: str) -> None:
    assert RAFDB.class_names[label - RAFDB.first_label] == name


def test_affectnet_has_contempt_as_its_eighth_class() -> None:
    assert AFFECTNET.class_names[0] == "neutral"
    assert AFFECTNET.class_names[6:] == ("angry", "contempt")


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
