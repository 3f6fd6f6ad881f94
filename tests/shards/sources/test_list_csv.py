"""Lists of image files: how they are written, and how the images are found."""

import os
from pathlib import Path

import pytest
from PIL import Image

from shards.errors import DataError
from shards.labels import FER2013
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.list_csv import list_images, matches
from shards.sources.listing import Box, Listing, SourceOptions
from shards.sources.registry import source_of

IMAGES = ("images/a/1.png", "images/b/1.png", "images/b/2 x.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "faces"
    for shade, name in enumerate(IMAGES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 60 * shade).save(root / name)
    return root


def listing(root: Path, text: str, name: str = "labels.csv") -> Listing:
    (root / name).write_text(text, encoding="utf-8")
    return list_images(root / name, SourceOptions())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("image,label\nimages/a/1.png,happy\nimages/b/1.png,sad\n", "labels.csv"),
        ("\ufeffpth;Emotion\r\nimages/a/1.png;happy\r\nimages/b/1.png;sad\r\n", "labels.csv"),
        ("File Name\texpression\tage\nimages/a/1.png\thappy\t3\nimages/b/1.png\tsad\t4\n", "labels.tsv"),
        ("images/a/1.png happy\nimages/b/1.png sad\n", "labels.txt"),
        ("images/a/1.png,happy\nimages/b/1.png,sad", "labels.csv"),
        (",class,filepath\n0,happy,./images/a/1.png\n1,sad,images\\b\\1.png\n", "labels.csv"),
        ("image,label\na/1.png,happy\nb/1,sad\n", "labels.csv"),
        ("image,label\n/kaggle/input/faces/images/a/1.png,happy\n/kaggle/input/faces/images/b/1.png,sad\n", "l.csv"),
    ],
    ids=["csv", "semicolons", "tabs", "blanks", "no-header", "index-and-backslashes", "below", "from-another-machine"],
)
def test_a_list_is_read_however_it_is_written(text: str, name: str, root: Path) -> None:
    found = listing(root, text, name)
    assert [(image.location, image.label, image.split) for image in found.images] == [
        ("images/a/1.png", "happy", "train"),
        ("images/b/1.png", "sad", "train"),
    ]
    assert not found.rejects
    assert "has no splits, so all of it is train; --val-fraction 0.1" in found.notes[0]


def test_split_subject_and_box_are_read(root: Path) -> None:
    text = "person,image,label,usage,xmin,ymin,xmax,ymax\nS1,a/1.png,0,PublicTest,1,0,3,2\nS2,b/1.png,1,Training,,,,\n"
    first, second = listing(root, text).images
    assert (first.subject, first.split, first.box) == ("S1", "val", Box(1, 0, 3, 2))
    assert (second.subject, second.split, second.box) == ("S2", "train", None)
    (image,) = listing(root, "image,label,x,y,w,h\na/1.png,0,1,1,2,3\n").images
    assert image.box == Box(1, 1, 3, 4)


def test_a_path_with_blanks_in_a_text_list_is_found(root: Path) -> None:
    found = listing(root, "images/a/1.png 0\nimages/b/2 x.png 1\nimages/b/1.png 2\n", "labels.txt")
    assert (found.images[1].location, found.images[1].label) == (IMAGES[2], "1")


def test_rows_that_cannot_be_used_are_named(root: Path) -> None:
    lines = (
        "nowhere.png,sad,train",
        "1.png,sad,train",
        "a/1.png,,train",
        "a/1.png,sad,all",
        "a/1.png",
        "a/1.png,sad,val",
    )
    found = listing(root, "image,label,split\n" + "\n".join([*lines, "", "images/a/1.png,sad,val"]) + "\n")
    assert [image.split for image in found.images] == ["val"]
    assert [(reject.place, reject.reason) for reject in found.rejects] == [
        ("row 1 of labels.csv", f"nowhere.png: there is no such file in {root} or below it"),
        ("row 2 of labels.csv", "1.png: may be images/a/1.png or images/b/1.png; the list should name one of them"),
        ("row 3 of labels.csv", "has no label; it should have the name or the number of a class"),
        ("row 4 of labels.csv", "is of the split 'all'; it should be train, val or test"),
        ("row 5 of labels.csv", "has 1 field; it should have 3"),
        ("row 8 of labels.csv", "images/a/1.png: is listed in row 6 already; remove one"),
    ]


def test_several_faces_of_an_image_are_samples_of_their_own(root: Path) -> None:
    found = listing(root, "image,label,x1,y1,x2,y2\na/1.png,0,0,0,2,2\na/1.png,1,2,2,4,4\n")
    assert [image.name for image in found.images] == ["images/a/1.png", "images/a/1-2.png"]


def test_an_image_that_is_named_by_two_paths_is_a_reject(root: Path) -> None:
    other = ("images/b/../a/1.png", str(root / "images/a/1.png"))
    text = "".join(f"{path},sad\n" for path in ("images/a/1.png", *other))
    found = listing(root, f"image,label\n{text}")
    assert [image.location for image in found.images] == ["images/a/1.png"]
    assert [reject.reason for reject in found.rejects] == [
        f"{path}: is listed in row 1 already; remove one" for path in other
    ]


def test_an_image_in_the_lists_of_two_splits_is_a_reject(root: Path, tmp_path: Path) -> None:
    (root / "train.csv").write_text("image,label\na/1.png,sad\nb/1.png,sad\n")
    (root / "test.csv").write_text("image,label\na/1.png,sad\n")
    packed = pack(source_of(root), tmp_path / "out", max_rejects=1)
    assert packed.rejects[0].reason == "is the image of row 1 of test.csv (a/1.png) again; remove one"
    assert packed.manifest.samples == 2


def test_a_second_face_has_another_key_than_an_image_of_its_name(root: Path, tmp_path: Path) -> None:
    Image.new("L", (4, 4), 200).save(root / "images" / "a" / "1-2.png")
    boxes = "a/1.png,sad,0,0,2,2\na/1.png,sad,2,2,4,4\na/1-2.png,sad,0,0,2,2\n"
    (root / "labels.csv").write_text(f"image,label,x1,y1,x2,y2\n{boxes}")
    pack(source_of(root), tmp_path / "out")
    assert len(set(read_split(tmp_path / "out", "train").keys)) == 3


def test_a_class_that_one_split_alone_has_is_refused_as_in_folders(root: Path) -> None:
    text = "image,label,split\na/1.png,happy,train\nb/1.png,happy,test\nb/2 x.png,models,test\n"
    with pytest.raises(DataError, match="the class 'models' is in test alone, with 1 image; .* --allow-class models"):
        listing(root, text)


def test_a_flag_that_a_source_has_no_use_for_is_refused(root: Path) -> None:
    (root / "labels.csv").write_text("image,label,emotion\na/1.png,happy,sad\n")
    with pytest.raises(DataError, match="--label-field is for webdataset and parquet; .* is read as list"):
        source_of(root, options=SourceOptions(label_field="emotion"))
    (root / "label.lst").write_text("")
    with pytest.raises(DataError, match="--allow-class: .* is read as expw, which has its own classes"):
        source_of(root, options=SourceOptions(allowed_classes=("bored",)))


def test_a_list_is_not_read_as_class_folders(root: Path, tmp_path: Path) -> None:
    (root / "labels.csv").write_text("image,label\na/1.png,happy\n")
    with pytest.raises(DataError, match="holds a list of images and no class folders; leave out --format folders"):
        pack(source_of(root, "folders"), tmp_path / "out")


def test_a_list_whose_images_are_elsewhere_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="none of its 1 rows can be used; the first, row 1 of labels.csv, x.png: th"):
        listing(root, "image,label\nx.png,0\n")


def test_a_list_and_class_folders_of_the_same_images_pack_to_the_same_samples(root: Path, tmp_path: Path) -> None:
    listed = "\n".join(f"{split}/{name},{label},{split}" for split, name, label in CLASSED)
    for number, (split, name, label) in enumerate(CLASSED):
        for base in (tmp_path / "folders" / split / label, tmp_path / "list" / split):
            base.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), number).save(base / name)
    (tmp_path / "list" / "labels.csv").write_text(f"image,label,split\n{listed}\n")
    found = []
    for form in ("folders", "list"):
        pack(source_of(tmp_path / form), tmp_path / f"{form}-out")
        for split in ("train", "test"):
            read = read_split(tmp_path / f"{form}-out", split)
            found.append(sorted(zip(read.images.reshape(-1, 16).tolist(), read.labels.tolist(), strict=True)))
    assert found[:2] == found[2:]


CLASSED = [
    ("train", "0.png", "Happiness"),
    ("train", "1.png", "sad"),
    ("test", "2.png", "sad"),
    ("test", "3.png", "happy"),
]


def test_hugging_faces_metadata_in_each_split_folder_is_read(tmp_path: Path) -> None:
    for split, name in (("train", "0.png"), ("validation", "0.png"), ("test", "1.png")):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        Image.new("L", (4, 4)).save(folder / name)
        (folder / "metadata.csv").write_text(f"file_name,label\n{name},happy\n")
    assert matches(tmp_path)
    found = list_images(tmp_path, SourceOptions(scheme=FER2013))
    assert [(image.location, image.split) for image in found.images] == [
        ("data/test/1.png", "test"),
        ("data/train/0.png", "train"),
        ("data/validation/0.png", "val"),
    ]


def test_of_the_lists_in_a_folder_those_of_one_split_each_are_read(root: Path) -> None:
    for name, image in (("train.csv", "a/1.png"), ("test_labels.csv", "b/1.png"), ("sample.csv", "b/1.png")):
        (root / name).write_text(f"image,label\n{image},sad\n")
    found = list_images(root, SourceOptions())
    assert [(image.location, image.split) for image in found.images] == [(IMAGES[1], "test"), (IMAGES[0], "train")]
    (root / "train_2.csv").write_text("image,label\na/1.png,sad\n")
    with pytest.raises(DataError, match=r"holds 4 lists \(sample.csv, test_labels.csv, train.csv, train_2.csv\)"):
        list_images(root, SourceOptions())


def test_class_folders_are_not_taken_for_a_list_that_lies_beside_them(root: Path) -> None:
    (root / "labels.csv").write_text("image,label\na/1.png,sad\n")
    assert matches(root)
    (root / "train" / "sad").mkdir(parents=True)
    assert not matches(root)


@pytest.mark.parametrize(
    "text", ["emotion,pixels,Usage\n0,1 2 3,Training\n", "see 1.png for an example of this\n", "a,b\n1,2\n", ""]
)
def test_other_text_is_no_list(text: str, root: Path) -> None:
    (root / "notes.csv").write_text(text)
    assert not matches(root / "notes.csv")
    assert not matches(root)


def test_a_list_of_a_terabyte_made_of_nothing_is_refused_at_its_first_line_without_an_end(root: Path) -> None:
    path = root / "labels.csv"
    path.write_text("image,label\nimages/a/1.png,happy\n")
    os.truncate(path, 10**12)
    with pytest.raises(DataError, match=r"labels\.csv: has a line of more than 1,048,576 letters"):
        list_images(path, SourceOptions())
