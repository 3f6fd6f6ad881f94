"""Folders that cannot be the classes of their images are refused by name."""

from pathlib import Path

import pytest

from shards.errors import DataError
from shards.sources.class_folders import check_class_folders

ROOT = Path("faces")


def images(folder: str, count: int = 1) -> list[tuple[str, str]]:
    split = {"train": "train", "val": "val", "validation": "val", "test": "test"}[folder.split("/")[0]]
    return [(f"{folder}/{number}.png", split) for number in range(count)]


def refusal(*folders: list[tuple[str, str]], allowed: tuple[str, ...] = ()) -> str:
    """What the images of these folders are refused with; empty if they are accepted."""
    try:
        check_class_folders(ROOT, [image for folder in folders for image in folder], allowed)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("spelling", ["Anger", "angry ", "0_angry", "ANGRY", "0-Anger"])
def test_another_spelling_in_another_split_is_the_same_class(spelling: str) -> None:
    assert not refusal(images("train/angry"), images(f"test/{spelling}"))


def test_a_class_in_one_split_alone_is_refused_by_name() -> None:
    stray = (images("train/sad"), images("train/models", 2), images("test/sad"))
    assert refusal(*stray) == (
        "faces: the class 'models' is in train alone, with 2 images (in train/models); "
        "rename or remove the folder, or keep the class with --allow-class models"
    )
    assert not refusal(*stray, allowed=("Models",))


def test_a_misspelt_expression_is_refused_beside_the_right_one() -> None:
    message = refusal(images("train/happy", 40), images("train/hapy"), images("train/sad", 40))
    assert "the class 'hapy' is probably 'happy' misspelt, with 1 image (in train/hapy)" in message
    assert not refusal(images("train/happily surprised"), images("train/happy"), images("train/surprise"))


def test_every_mistaken_class_is_named_with_a_flag_that_a_shell_takes() -> None:
    message = refusal(
        images("train/sad"), images("train/not sure"), images("val/sad"), images("val/b"), images("test/sad")
    )
    assert (
        "the class 'not sure' is in train alone, with 1 image (in train/not sure); the class 'b' is in val" in message
    )
    assert message.endswith("keep the class with --allow-class not_sure --allow-class b")


def test_a_class_that_one_split_of_three_lacks_is_accepted() -> None:
    assert not refusal(
        *(images(f"{split}/sad") for split in ("train", "val", "test")), images("train/fear"), images("test/fear")
    )


def test_a_class_of_a_handful_of_images_is_refused_where_most_have_many() -> None:
    many = (images("train/sad", 101), images("train/fear", 101), images("train/happy", 101))
    assert "the class 'old' has only 4 images, while most classes have more than 100 (in train/old)" in refusal(
        *many, images("train/old", 4)
    )
    assert not refusal(*many, images("train/old", 5))
    assert not refusal(*many, images("train/old", 4), allowed=("old",))
    assert not refusal(images("train/sad", 90), images("train/old", 1))


@pytest.mark.parametrize("folder", ["images", "unknown", "test"])
def test_unlabelled_test_images_are_refused_with_the_path_that_would_be_right(folder: str) -> None:
    message = refusal(
        images("train/angry"), images("train/sad"), images("val/sad"), images("val/angry"), images(f"test/{folder}", 3)
    )
    assert message.startswith(
        f"faces/test/{folder}: holds all 3 images of test and is no class of train, so they have no labels; "
        f"they should be in class folders, such as faces/test/angry/IMAGE; "
    )
    assert "fer-ddp predict" in message


def test_one_folder_of_unlabelled_training_images_is_refused() -> None:
    assert "the class 'images' is the only one, with 2 images" in refusal(images("train/images"), images("test/images"))
    assert not refusal(images("train/sad"), images("test/sad"))


@pytest.mark.parametrize(
    ("folders", "wrong", "right"),
    [
        (["train/train/sad", "train/train/fear"], "train/train/sad", "train/sad"),
        (["train/train/bored", "train/train/calm"], "train/train/bored", "train/bored"),
        (["train/images/0_angry", "train/images/misc"], "train/images/0_angry", "train/0_angry"),
        (["train/data/a/Happy", "train/data/b/Happy"], "train/data/a/Happy", "train/Happy"),
        (["train/subject1/sad", "train/subject2/sad"], "train/subject1/sad", "train/sad"),
        (["train/data/bored", "train/data/calm"], "train/data/bored", "train/bored"),
    ],
)
def test_class_folders_that_are_too_deep_are_refused_with_the_right_path(
    folders: list[str], wrong: str, right: str
) -> None:
    message = refusal(*map(images, folders), allowed=("train",))
    assert message.startswith(f"faces/{wrong}/0.png: is too deep, its class would be ")
    assert message.endswith(f"it should be faces/{right}/0.png, and every other image of train likewise")


def test_a_whole_data_set_inside_a_split_folder_is_packed_from_there() -> None:
    message = refusal(*(images(f"train/{split}/sad") for split in ("test", "train", "val")))
    assert message.endswith("it should be SPLIT/CLASS/IMAGE below SOURCE: pack faces/train instead of faces")


def test_folders_below_a_class_are_part_of_it() -> None:
    assert not refusal(images("train/sad/subject1"), images("train/sad/subject2"))
    assert not refusal(
        images("train/sad/subject1"), images("train/sad/subject2"), images("train/bored/fear"), images("train/bored")
    )


def test_a_class_to_allow_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="--allow-class model: faces has no such class; it has models, sad") as caught:
        check_class_folders(ROOT, images("train/sad") + images("train/models"), ("model",))
    assert caught.value.exit_status == 2
