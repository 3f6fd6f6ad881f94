"""Published data sets in the layouts in which they are delivered: RAF-DB, AffectNet, FER+, KDEF, JAFFE, CK+48, ExpW."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.errors import DataError
from shards.images import ImageOptions
from shards.labels import AFFECTNET7, AFFECTNET8
from shards.manifest import Manifest
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.listing import Box, Listing, SourceOptions
from shards.sources.registry import SOURCES, source_of
from shards.votes import CATEGORIES


def draw(path: Path, shade: int = 0, size: tuple[int, int] = (6, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(path)


def listing(path: Path) -> Listing:
    """What the first source that matches lists."""
    source = next(source for source in SOURCES.values() if source.matches(path))
    return source.lists(path, SourceOptions())


def samples(out: Path, split: str) -> list[tuple[list[int], int]]:
    """Pixels and label of each sample, sorted."""
    read = read_split(out, split)
    return sorted(zip(read.images.reshape(len(read.images), -1).tolist(), read.labels.tolist(), strict=True))


RAF = [("train_00001", 5), ("train_00002", 1), ("test_0001", 7)]


def raf_db(root: Path) -> Path:
    for shade, (name, _) in enumerate(RAF):
        draw(root / "basic" / "Image" / "aligned" / f"{name}_aligned.jpg", 50 * shade)
    (root / "basic" / "EmoLabel").mkdir()
    lines = "".join(f"{name}.jpg {label}\n" for name, label in RAF)
    (root / "basic" / "EmoLabel" / "list_patition_label.txt").write_text(lines)
    return root


def kaggles_raf_db(root: Path) -> Path:
    for shade, (name, label) in enumerate(RAF):
        draw(root / "DATASET" / name.split("_")[0] / str(label) / f"{name}_aligned.jpg", 50 * shade)
    (root / "DATASET" / "train" / "1").mkdir(exist_ok=True)
    (root / "train_labels.csv").write_text("image,label\n")
    return root


def test_raf_dbs_list_and_kaggles_folders_pack_to_the_same_samples(tmp_path: Path) -> None:
    manifest = pack(source_of(raf_db(tmp_path / "list")), tmp_path / "out").manifest
    assert manifest.class_names[:2] == ("surprise", "fear")
    assert manifest.source_format == "rafdb"
    pack(source_of(kaggles_raf_db(tmp_path / "folders")), tmp_path / "out2")
    for split, labels in (("train", [4, 0]), ("test", [6])):
        assert samples(tmp_path / "out", split) == samples(tmp_path / "out2", split)
        assert [label for _, label in samples(tmp_path / "out", split)] == labels


def test_a_row_of_raf_db_without_its_image_is_named(tmp_path: Path) -> None:
    root = raf_db(tmp_path)
    (root / "basic" / "Image" / "aligned" / "train_00002_aligned.jpg").unlink()
    (reject,) = listing(root).rejects
    assert reject.place == "row 2 of EmoLabel/list_patition_label.txt"
    assert reject.reason == "Image/aligned/train_00002_aligned.jpg: there is no such file"


def affectnet_arrays(root: Path, labels: dict[str, list[str]]) -> Path:
    for name, values in labels.items():
        (root / name / "annotations").mkdir(parents=True)
        for number, label in enumerate(values):
            draw(root / name / "images" / f"{number}.jpg", number)
            np.save(root / name / "annotations" / f"{number}_exp.npy", np.array(label))
            np.save(root / name / "annotations" / f"{number}_val.npy", np.array("0.1"))
    return root


def test_affectnets_arrays_are_read_and_its_classes_are_eight_with_contempt(tmp_path: Path) -> None:
    found = listing(affectnet_arrays(tmp_path / "8", {"train_set": ["0", "6", "7"], "val_set": ["1"]}))
    assert [(image.location, image.label, image.split) for image in found.images][2:] == [
        ("train_set/images/2.jpg", "7", "train"),
        ("val_set/images/0.jpg", "1", "val"),
    ]
    assert found.scheme == AFFECTNET8
    assert listing(affectnet_arrays(tmp_path / "7", {"train_set": ["0", "6"]})).scheme == AFFECTNET7


def test_an_array_of_affectnet_that_needs_pickle_is_not_loaded(tmp_path: Path) -> None:
    root = affectnet_arrays(tmp_path, {"train_set": ["0", "1"]})
    np.save(root / "train_set" / "annotations" / "1_exp.npy", np.array({"a": 1}, dtype=object))
    draw(root / "train_set" / "images" / "2.jpg")
    array, missing = listing(root).rejects
    assert (array.place, array.reason[:31]) == ("train_set/annotations/1_exp.npy", "is not an array of one label (O")
    assert missing.reason == "has no label; it should be in train_set/annotations/2_exp.npy"


HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"


def affectnet_lists(root: Path, header: str = HEADER) -> Path:
    draw(root / "Manually_Annotated_Images" / "1" / "a.jpg", size=(9, 7))
    rows = [f"1/a.jpg,2,1,5,4,{';'.join(['1.0'] * 136)},{label},0.1,0.2\n" for label in ("3", "8")]
    (root / "training.csv").write_text(header + rows[0] + rows[1].replace("1/a", "1/b"))
    draw(root / "Manually_Annotated_Images" / "1" / "b.jpg")
    draw(root / "Manually_Annotated_Images" / "1" / "c.jpg", size=(9, 7))
    (root / "validation.csv").write_text(header + rows[0].replace("1/a", "1/c"))
    return root


@pytest.mark.parametrize("header", [HEADER, ""], ids=["header", "no-header"])
def test_affectnets_lists_give_the_faces_box(header: str, tmp_path: Path) -> None:
    root = affectnet_lists(tmp_path, header)
    found = listing(root)
    assert [(image.split, image.label, image.box) for image in found.images] == [
        ("train", "3", Box(2, 1, 7, 5)),
        ("train", "8", Box(2, 1, 7, 5)),
        ("val", "3", Box(2, 1, 7, 5)),
    ]
    assert [image.split for image in listing(root / "validation.csv").images] == ["val"]


def test_what_is_no_expression_in_affectnet_is_left_out_and_counted(tmp_path: Path) -> None:
    options = SourceOptions(images=ImageOptions(size=6, fit="crop"))
    packed = pack(source_of(affectnet_lists(tmp_path / "a"), options=options), tmp_path / "out")
    assert packed.manifest.samples == 2
    assert "left out: 1 with the label none, which is not a class" in packed.notes


FERPLUS_ROWS = [  # split folder, usage, votes in the order of CATEGORIES
    ("FER2013Train", "Training", "1,8,0,0,0,0,0,0,1,0"),
    ("FER2013Train", "Training", "0,0,0,0,0,0,2,8,0,0"),
    ("FER2013Train", "Training", "0,0,0,0,0,0,0,0,10,0"),
    ("FER2013Valid", "PublicTest", "10,0,0,0,0,0,0,0,0,0"),
]


def test_ferpluss_folders_pack_to_the_samples_of_the_csv_with_votes(
    tmp_path: Path, write_csv: Callable[..., Path]
) -> None:
    rows = []
    for number, (folder, usage, votes) in enumerate(FERPLUS_ROWS):
        draw(tmp_path / "ferplus" / folder / f"fer{number:07d}.png", number)
        with open(tmp_path / "ferplus" / folder / "label.csv", "a") as file:
            file.write(f'fer{number:07d}.png,"(0, 0, 48, 48)",{votes}\n')
        rows.append(f"0,{' '.join([str(number)] * 36)},{usage}")
    names = ",".join(("Usage", "Image name", *CATEGORIES))
    lines = [f"{usage},fer{number:07d}.png,{votes}" for number, (_, usage, votes) in enumerate(FERPLUS_ROWS)]
    manifest = pack(source_of(tmp_path / "ferplus"), tmp_path / "out").manifest
    assert (manifest.class_names[7], manifest.splits["train"].samples) == ("contempt", 2)
    options = SourceOptions(scheme=SOURCES["ferplus"].lists(tmp_path / "ferplus", SourceOptions()).scheme)
    other = source_of(write_csv(rows), votes=write_csv(lines, names, "votes.csv"), options=options)
    pack(other, tmp_path / "out2")
    for split in ("train", "val"):
        assert samples(tmp_path / "out", split) == samples(tmp_path / "out2", split)


def test_kdefs_names_give_person_and_expression_and_other_angles_are_left_out(tmp_path: Path) -> None:
    for name in ("AF01/AF01ANS.JPG", "BF01/BF01AFS.JPG", "AF01/AF01ANFL.JPG", "AM31/AM31H.JPG"):
        draw(tmp_path / name)
    found = listing(tmp_path)
    assert [(image.subject, image.label) for image in found.images] == [("F01", "AN"), ("F01", "AF")]
    assert found.notes[1:] == [
        "left out: 1 that are not frontal (all but S in their names)",
        "left out: 1 not named as KDEF's, such as AM31/AM31H.JPG",
    ]


def test_jaffes_names_give_person_and_expression(tmp_path: Path) -> None:
    for name in ("KA.AN1.39.tiff", "YM.FE3.66.tiff"):
        draw(tmp_path / "jaffe" / name)
    found = listing(tmp_path)
    assert [(image.subject, image.label) for image in found.images] == [("KA", "AN"), ("YM", "FE")]


def test_ck_48s_folders_give_the_class_and_names_the_person(tmp_path: Path) -> None:
    for name in ("anger/S010_004_00000017.png", "contempt/S138_008_00000007.png"):
        draw(tmp_path / "CK+48" / name)
    found = listing(tmp_path)
    assert [(image.subject, image.label) for image in found.images] == [("S010", "anger"), ("S138", "contempt")]


@pytest.mark.parametrize(("list_place", "folder"), [("label.lst", "image"), ("label/label.lst", "image/origin")])
def test_expws_faces_have_top_before_left(list_place: str, folder: str, tmp_path: Path) -> None:
    draw(tmp_path / folder / "a_1.jpg", size=(20, 20))
    (tmp_path / list_place).parent.mkdir(exist_ok=True)
    (tmp_path / list_place).write_text("a_1.jpg 0 1 2 13 14 50.5 3\na_1.jpg 1 5 6 9 10 2.5 6\nb.jpg 0 1 2 13 14 5 3\n")
    found = listing(tmp_path)
    assert [(image.name, image.label, image.box) for image in found.images] == [
        (f"{folder}/a_1-face0.jpg", "3", Box(2, 1, 13, 14)),
        (f"{folder}/a_1-face1.jpg", "6", Box(6, 5, 9, 10)),
    ]
    assert found.rejects[0].place == f"row 3 of {list_place}"


@pytest.mark.parametrize("name", ["rafdb", "affectnet", "ferplus", "expw", "kdef", "jaffe", "ckplus", "list"])
def test_another_layout_is_refused_with_the_right_one(name: str, tmp_path: Path) -> None:
    draw(tmp_path / "train" / "sad" / "1.png")
    with pytest.raises(DataError) as caught:
        source_of(tmp_path, name)
    assert (caught.value.exit_status, SOURCES[name].layout in str(caught.value)) == (2, True)
    assert next(known for known, source in SOURCES.items() if source.matches(tmp_path)) == "folders"


def test_every_named_set_is_packed_with_its_classes_in_its_schemes_order(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "KA.AN1.39.tiff")
    draw(tmp_path / "a" / "KA.NE1.40.tiff", 9)
    manifest: Manifest = pack(source_of(tmp_path / "a"), tmp_path / "out").manifest
    assert (manifest.options["scheme"], manifest.splits["train"].class_counts) == ("jaffe", (1, 0, 0, 0, 0, 0, 1))


@pytest.mark.parametrize(
    "name", ["FER2013Train/label.csv", "training.csv", "label.lst", "EmoLabel/list_patition_label.txt"]
)
def test_a_list_that_is_not_utf_8_is_named_as_such(name: str, tmp_path: Path) -> None:
    (tmp_path / "set" / name).parent.mkdir(parents=True)
    (tmp_path / "set" / name).write_bytes(HEADER.encode() + b"Ren\xe9.jpg,1,1,5,5,1;2,3,0,0\n")
    with pytest.raises(DataError, match="has a list that is not UTF-8 .*; save it as UTF-8"):
        pack(source_of(tmp_path / "set"), tmp_path / "out")


@pytest.mark.parametrize("votes", ["²,0,0,0,0,0,0,0,0,0", f"{'9' * 30},0,0,0,0,0,0,0,0,0"])
def test_votes_that_are_no_small_numbers_are_rejects(votes: str, tmp_path: Path) -> None:
    draw(tmp_path / "FER2013Train" / "a.png")
    good = 'a.png,"(0, 0, 8, 8)",8,0,0,0,0,0,0,0,0,0'
    (tmp_path / "FER2013Train" / "label.csv").write_text(f'{good}\nb.png,"(0, 0, 8, 8)",{votes}\n')
    (reject,) = listing(tmp_path).rejects
    assert reject.reason.startswith("should have an image, a box, and the votes for")
