"""What is not the data set that was asked for, or holds none of its images, is refused in one message that names it."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import DataError
from shards.images import ImageOptions
from shards.labels import AFFECTNET7, FERPLUS
from shards.sources import affectnet, expw, ferplus_folders, list_csv, raf_db
from shards.sources.file_names import JAFFE_FILES
from shards.sources.image_folders import list_folders
from shards.sources.listing import Listing, SourceOptions
from shards.sources.registry import source_of
from shards.sources.webdataset_tars import list_tars

Files = dict[str, str | bytes]
VOTES = "fer0.png,(0 0 48 48),10,0,0,0,0,0,0,0,0,0"
TRAIN_LIST = ",".join(
    ["subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression"]
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Files], Path]:
    def written(files: Files) -> Path:
        root = tmp_path / "source"
        root.mkdir()
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return written


@pytest.mark.parametrize(
    ("lists", "files", "message"),
    [
        (raf_db.list_images, {}, f"is not RAF-DB; it should hold {raf_db.LAYOUT}"),
        (
            raf_db.list_images,
            {"train_labels.csv": "", "DATASET/train/1/notes.txt": "", "DATASET/train/face.jpg": ""},
            f"holds none of RAF-DB's images; it should hold {raf_db.LAYOUT}",
        ),
        (expw.list_images, {}, f"is not ExpW; it should hold {expw.LAYOUT}"),
        (
            expw.list_images,
            {"label.lst": "\na.jpg 0 1 2 3\n"},
            f"holds none of ExpW's images; it should hold {expw.LAYOUT}; the first of its rows, row 2 of label.lst, "
            "has 5 fields; it should have name, face's number, top, left, right, bottom, confidence, label",
        ),
        (
            expw.list_images,
            {"label.lst": ""},
            f"holds none of ExpW's images; it should hold {expw.LAYOUT}",
        ),
        (
            affectnet.list_images,
            {"train_set/images/.DS_Store": "", "train_set/annotations/0_exp.npy": ""},
            f"holds none of AffectNet's images; it should hold {affectnet.LAYOUT}",
        ),
        (
            ferplus_folders.list_images,
            {"FER2013Train/label.csv": f"\n{VOTES}\n"},
            f"holds none of FER+'s images; it should hold {ferplus_folders.LAYOUT}; the first of its rows, "
            "row 2 of FER2013Train/label.csv, FER2013Train/fer0.png: there is no such file",
        ),
        (JAFFE_FILES.list, {"notes.txt": "", "face.tiff": ""}, "holds no image named as JAFFE's; they should be "),
        (list_csv.list_images, {}, f"is no list of images; it should be {list_csv.LAYOUT}"),
        (
            list_csv.list_images,
            {"a.csv": "path,label,left,top,right,bottom\na.png,1,x,0,1,1\n", "a.png": ""},
            "none of its 1 rows can be used; the first, row 1 of a.csv, has the box 'x 0 1 1'; "
            "it should be four numbers",
        ),
        (
            list_csv.list_images,
            {"a.csv": "path,label,left,top,right,bottom\na.png,1,5,0,5,1\n", "a.png": ""},
            "none of its 1 rows can be used; the first, row 1 of a.csv, has a box of no pixel: "
            "left 5, top 0, right 5, bottom 1",
        ),
    ],
)
def test_a_folder_without_images_of_its_kind_is_refused(
    write: Callable[[Files], Path], lists: Callable[[Path, SourceOptions], Listing], files: Files, message: str
) -> None:
    root = write(files)
    with pytest.raises(DataError, match="^" + re.escape(f"{root}: {message}")):
        lists(root, SourceOptions())


@pytest.mark.parametrize(
    ("lists", "files", "reasons"),
    [
        (
            raf_db.list_images,
            {
                "EmoLabel/list_patition_label.txt": "\ntrain_1.jpg 5\ntrain_2.jpg 5a\nface_3.jpg 1\n",
                "Image/aligned/train_1_aligned.jpg": "",
            },
            [
                "row 3 of EmoLabel/list_patition_label.txt is 'train_2.jpg 5a'; it should be such as train_00001.jpg 5",
                "row 4 of EmoLabel/list_patition_label.txt is 'face_3.jpg 1'; it should be such as train_00001.jpg 5",
            ],
        ),
        (
            affectnet.list_images,
            {"training.csv": f"{TRAIN_LIST}\n1/a.jpg,0,0,9,9,,1\n1/a.jpg,0\n", "1/a.jpg": ""},
            [
                "row 2 of training.csv has 2 fields; it should have subDirectory_filePath, face_x, face_y, face_width, "
                "face_height, facial_landmarks, expression, valence, arousal"
            ],
        ),
        (
            list_csv.list_images,
            {"a.csv": "path,label\na.png,1,,\n,1\n", "a.png": ""},
            ["row 2 of a.csv has no path of an image"],
        ),
    ],
)
def test_a_row_that_is_not_of_its_form_is_a_reject(
    write: Callable[[Files], Path],
    lists: Callable[[Path, SourceOptions], Listing],
    files: Files,
    reasons: list[str],
) -> None:
    listing = lists(write(files), SourceOptions())
    assert len(listing.images) == 1
    assert [f"{reject.place} {reject.reason}" for reject in listing.rejects] == reasons


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\na.png,1\nb.png,\xff\n", "is not UTF-8 (invalid start byte); save it as UTF-8"),
        (b'path,label\na.png,"' + b"x" * 200_000 + b'"\n', "is not CSV (field larger than field limit (131072))"),
    ],
)
def test_a_list_that_is_not_text_is_refused(write: Callable[[Files], Path], content: bytes, message: str) -> None:
    root = write({"a.csv": content, "a.png": ""})
    csv.field_size_limit(1 << 17)  # csv's own, which reading a FER2013 CSV has perhaps raised in this process
    with pytest.raises(DataError, match=re.escape(f"{root / 'a.csv'}: {message}")):
        list_csv.list_images(root, SourceOptions())


def test_votes_have_their_own_classes(write: Callable[[Files], Path]) -> None:
    root = write({"FER2013Train/label.csv": VOTES, "FER2013Train/fer0.png": ""})
    with pytest.raises(DataError, match=r"has votes for FER\+'s classes; --scheme can only be ferplus$"):
        ferplus_folders.list_images(root, SourceOptions(scheme=AFFECTNET7))
    assert ferplus_folders.list_images(root, SourceOptions(scheme=FERPLUS)).images[0].label == "neutral"


def test_names_of_classes_that_are_not_utf_8_are_refused(write: Callable[[Files], Path], tmp_path: Path) -> None:
    root = write({"a.tar": bytes(10240), "classes.txt": b"happy\nm\xfcde\n"})
    with pytest.raises(DataError, match=r"classes\.txt: is not UTF-8 \(invalid start byte\); save it as UTF-8$"):
        list_tars(root, SourceOptions(work=tmp_path))


def test_a_text_among_images_may_be_cut_inside_a_character_where_it_is_looked_at(
    write: Callable[[Files], Path],
) -> None:
    text = "x" * 4095 + "ü" * 4096  # each power of two from 4096 up is inside a character
    root = write({"train/happy/a.png": "", "train/happy/notes": text, "train/happy/other": b"\xff" + text.encode()})
    listing = list_folders(root, SourceOptions())
    assert [reject.place for reject in listing.rejects] == ["train/happy/other"]


@pytest.mark.parametrize(
    ("name", "files", "options", "message"),
    [
        (
            "csw",
            {},
            {},
            "--format csw: there is no such source (did you mean csv?); it should be auto, csv, webdataset",
        ),
        ("csv", {}, {}, "source: is a folder without a CSV of pixels, which --format csv reads"),
        ("csv", {"fer2013.csv": "emotion,pixels,Usage\n"}, {"label_field": "a"}, "--label-field is for webdataset and"),
        (
            "csv",
            {"fer2013.csv": "emotion,pixels,Usage\n"},
            {"allowed_classes": ("a",)},
            "--allow-class is for class folders; a CSV has FER2013's classes",
        ),
        (
            "csv",
            {"fer2013.csv": "emotion,pixels,Usage\n"},
            {"images": ImageOptions(size=48)},
            "--size, --grey, --rgb, --crop and --pad are for image files; the pixels of ",
        ),
    ],
)
def test_options_that_a_source_does_not_take_are_refused(
    write: Callable[[Files], Path], name: str, files: Files, options: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as refusal:
        source_of(write(files), name, options=SourceOptions(**options))
    assert refusal.value.exit_status == 2
