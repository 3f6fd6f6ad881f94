"""Folders of images: labels by name, and files that cannot be used."""

import csv
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import ExifTags, Image

from shards.__main__ import main
from shards.errors import DataError
from shards.inspection import inspect
from shards.labels import FER2013_CLASSES, FERPLUS, RAFDB, class_order
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.image_folders import list_folders
from shards.sources.listing import SourceOptions
from shards.sources.registry import source_of
from shards.sources.sample_keys import path_keys
from shards.verify import verify


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (6, 6), mode: str = "L") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], bands), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if bands == 1 else pixels).save(path)
    return pixels


@pytest.fixture
def root(tmp_path):
    return tmp_path / "faces"


def rejects(tmp_path: Path) -> list[list[str]]:
    with open(tmp_path / "out.rejects.csv", newline="") as file:
        return list(csv.reader(file))[1:]


def test_kaggles_folders_get_the_csvs_label_order_and_not_the_alphabets(root, pack_source, tmp_path):
    for seed, name in enumerate(sorted(FER2013_CLASSES)):
        write_image(root / "train" / name / f"{name}.png", seed)
        write_image(root / "test" / name / f"{name}.png", seed + 10)
    manifest = pack_source(root)
    assert manifest.class_names == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert list(manifest.splits) == ["train", "test"]
    train = read_split(tmp_path / "out", "train")
    expected = {f"train-{name}-{name}": label for label, name in enumerate(FER2013_CLASSES)}
    assert dict(zip(train.keys, train.labels.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("folders", "names", "labels"),
    [
        (["Happiness", "anger"], FER2013_CLASSES, {"Happiness": 3, "anger": 0}),
        (
            ["Angry", "Disgusted", "Fearful", "Happy", "Neutral", "Sadness", "Surprised"],
            FER2013_CLASSES,
            {"Angry": 0, "Disgusted": 1, "Fearful": 2, "Happy": 3, "Neutral": 6, "Sadness": 4, "Surprised": 5},
        ),
        (["neutral", "contempt", "angry"], ("angry", "contempt", "neutral"), {"angry": 0, "contempt": 1, "neutral": 2}),
        (["1", "10", "2"], ("1", "10", "2"), {"1": 0, "10": 1, "2": 2}),
        (["1", "-1", "+1"], ("+1", "-1", "1"), {"+1": 0, "-1": 1, "1": 2}),
        (
            ["anger", "Angry ", "0_angry", "3. suprise"],
            FER2013_CLASSES,
            {"anger": 0, "Angry ": 0, "0_angry": 0, "3. suprise": 5},
        ),
        (["Angry", "anger", "contempt"], ("angry", "contempt"), {"Angry": 0, "anger": 0, "contempt": 1}),
        (
            ["Not sure", "not_sure", "NOT-SURE ", "sad"],
            ("NOT-SURE", "sad"),
            {"Not sure": 0, "not_sure": 0, "NOT-SURE ": 0, "sad": 1},
        ),
        (["1_bored", "2_bored"], ("1_bored", "2_bored"), {"1_bored": 0, "2_bored": 1}),
        (
            [*FER2013_CLASSES, "Contempt"],
            FERPLUS.class_names,
            {name: FERPLUS.class_names.index(name.lower()) for name in (*FER2013_CLASSES, "Contempt")},
        ),
    ],
    ids=[
        "synonyms",
        "all-seven",
        "another-class",
        "numbers",
        "signs",
        "one-class-four-names",
        "synonyms-with-contempt",
        "separators",
        "numbers-of-unknown-names",
        "eight-with-contempt",
    ],
)
def test_class_names_and_their_order(folders, names, labels):
    assert class_order(folders) == (names, labels)


def test_the_pixels_of_a_png_are_kept(root, pack_source, tmp_path):
    pixels = write_image(root / "train" / "sad" / "a.png", mode="RGB")
    pack_source(root)
    assert np.array_equal(read_split(tmp_path / "out", "train").images[0], pixels.transpose(2, 0, 1))


def test_a_jpeg_keeps_its_own_bytes(root, pack_source, tmp_path):
    write_image(root / "train" / "sad" / "a.jpeg")
    pack_source(root)
    sample = next(iter(webdataset.WebDataset([str(tmp_path / "out" / "train-000000.tar")], shardshuffle=False)))
    assert sample["jpg"] == (root / "train" / "sad" / "a.jpeg").read_bytes()
    assert read_split(tmp_path / "out", "train").images.shape == (1, 1, 6, 6)


def test_a_jpeg_with_a_pngs_name_is_taken_for_what_it_is(root, pack_source, tmp_path):
    write_image(root / "train" / "sad" / "a.jpeg")
    (root / "train" / "sad" / "a.jpeg").rename(root / "train" / "sad" / "a.png")
    pack_source(root)
    sample = next(iter(webdataset.WebDataset([str(tmp_path / "out" / "train-000000.tar")], shardshuffle=False)))
    assert "jpg" in sample


def test_photographs_that_exif_turns_are_packed_upright_for_readers_that_ignore_exif(root, pack_source, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright = Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8))
    (root / "train" / "sad").mkdir(parents=True)
    upright.rotate(90, expand=True).save(root / "train" / "sad" / "a.jpg", exif=exif)
    pack_source(root)
    stored = read_split(tmp_path / "out", "train").images
    assert stored.shape == (1, 1, 8, 8)
    assert np.abs(stored[0, 0].astype(int) - np.asarray(upright)).max() < 20
    sample = next(iter(webdataset.WebDataset([str(tmp_path / "out" / "train-000000.tar")], shardshuffle=False)))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sample["png"]))), stored[0, 0])


def test_files_that_cannot_be_used_are_rejected_with_their_reason(root, pack_source, tmp_path):
    for place in range(3):
        write_image(root / "train" / "sad" / f"good{place}.png", place)
    write_image(root / "train" / "sad" / "large.png", size=(7, 6))
    write_image(root / "train" / "sad" / "colour.png", mode="RGB")
    write_image(root / "train" / "sad" / "clear.png", mode="RGBA")
    write_image(root / "train" / "loose.png")
    (root / "train" / "sad" / "notes.bin").write_bytes(b"\0\1")
    (root / "train" / "sad" / "empty.jpg").write_bytes(b"")
    whole = (root / "train" / "sad" / "good0.png").read_bytes()
    (root / "train" / "sad" / "short.png").write_bytes(whole[:50])
    (root / "train" / "sad" / ".DS_Store").write_bytes(b"")
    (root / "train" / "sad" / "Thumbs.db").write_bytes(b"")
    manifest = pack_source(root, max_rejects=7)
    assert (manifest.rejects, manifest.splits["train"].samples) == (7, 3)
    wanted = "most of the images are 6 x 6 grey, all should be: pack with"
    expected = [
        ["train/loose.png", "is not in a class folder; it should be in SPLIT/CLASS"],
        ["train/sad/clear.png", f"is 6 x 6 RGB; {wanted} --grey or --rgb"],
        ["train/sad/colour.png", f"is 6 x 6 RGB; {wanted} --grey or --rgb"],
        ["train/sad/empty.jpg", "is empty; copy or download it again"],
        ["train/sad/large.png", f"is 7 x 6 grey; {wanted} --crop (their centre) or --pad (black bars), and --size N"],
        ["train/sad/notes.bin", "is not named as an image; it should end in .png, .jpg or the like"],
    ]
    found = rejects(tmp_path)
    assert found[:-1] == expected
    assert found[-1][0] == "train/sad/short.png"
    assert found[-1][1].startswith("is damaged (")


def test_images_that_are_all_of_a_mode_without_a_rule_are_refused_by_it(root, pack_source):
    (root / "train" / "sad").mkdir(parents=True)
    for name in ("a.tif", "b.tif"):
        Image.new("LAB", (6, 6)).save(root / "train" / "sad" / name)
    message = f"{root}: none of its 2 images can be used; the first, train/sad/a.tif, is an image of mode LAB; save it"
    with pytest.raises(DataError, match=re.escape(message)):
        pack_source(root)


def test_a_link_back_to_a_folder_above_is_left_out(root, pack_source):
    write_image(root / "train" / "sad" / "a.png")
    (root / "train" / "sad" / "loop").symlink_to(root / "train")
    write_image(root / ".elsewhere" / "b.png", 1)
    (root / "train" / "sad" / "more").symlink_to(root / ".elsewhere")
    (root / ".elsewhere" / "back").symlink_to(root / "train" / "sad")
    assert pack_source(root).samples == 2


def test_a_link_to_itself_is_rejected(root, pack_source, tmp_path):
    write_image(root / "train" / "sad" / "a.png")
    (root / "train" / "sad" / "b.png").symlink_to(root / "train" / "sad" / "b.png")
    pack_source(root, max_rejects=1)
    assert rejects(tmp_path) == [["train/sad/b.png", "cannot be read (Too many levels of symbolic links)"]]


def test_a_split_folder_without_images_is_refused(root, pack_source):
    write_image(root / "train" / "sad" / "a.png")
    (root / "test" / "sad").mkdir(parents=True)
    with pytest.raises(DataError, match="test: holds no image; remove the folder, or put images in test/CLASS"):
        pack_source(root)


@pytest.mark.parametrize(
    ("split", "advice"),
    [
        ("Test", r"Test out of \S+, pack the rest, and give the images to `fer-ddp predict`$"),
        ("train", "train/CLASS$"),
    ],
)
def test_images_without_class_folders_are_refused_for_that(split, advice, root, pack_source):
    write_image(root / "val" / "sad" / "a.png")
    for name in ("a", "b"):
        write_image(root / split / f"{name}.png")
    with pytest.raises(DataError, match=f"{split}: holds 2 images and no class folder, so .*{advice}"):
        pack_source(root)


def test_a_list_whose_columns_are_not_known_is_named(root, pack_source):
    write_image(root / "images" / "a.png")
    (root / "labels.csv").write_text("picture_of,feeling\nimages/a.png,sad\n")
    message = (
        "labels.csv: has the columns picture_of, feeling; a list of images should have the columns image and label"
    )
    with pytest.raises(DataError, match=message):
        pack_source(root)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["a/train", "b/train"], "holds several data sets; pack one of them: "),
        (["train", "val", "valid"], "valid: is the split val, and so is"),
        (["train", "extra"], "extra: is not a split; the folders in"),
    ],
)
def test_folders_that_are_not_as_they_should_be_are_refused(folders, message, root, pack_source):
    for name in folders:
        write_image(root / name / "sad" / "a.png")
    with pytest.raises(DataError, match=re.escape(message)):
        pack_source(root)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "val") for name in ("val", "valid", "validation", "Val", "dev", "PublicTest")),
        *((name, "test") for name in ("TEST", "testing", "eval", "PrivateTest ")),
    ],
)
def test_a_split_may_have_each_of_its_names(name, split, root):
    write_image(root / "Training" / "sad" / "a.png")
    write_image(root / name / "sad" / "a.png", 1)
    assert [image.split for image in list_folders(root, SourceOptions()).images] == ["train", split]


@pytest.mark.parametrize("wrapper", ["images", "archive/DATASET"])
def test_a_folder_around_the_splits_is_passed_over(wrapper, root, tmp_path):
    write_image(root / wrapper / "train" / "sad" / "a.png")
    (root / "README").write_text("Faces")
    packed = pack(source_of(root), tmp_path / "out")
    assert packed.notes == (
        "ignored 1 file that is not an image: 1 without an extension",
        f"the images are those in {root / wrapper}",
    )
    assert pack(source_of(root / wrapper), tmp_path / "same").manifest == packed.manifest


def test_where_there_are_other_folders_too_the_right_path_is_named(root, pack_source):
    write_image(root / "MMAFEDB" / "train" / "sad" / "a.png")
    write_image(root / "more" / "b.png")
    with pytest.raises(DataError, match=re.escape(f"holds no split itself; pack {root / 'MMAFEDB'} instead")):
        pack_source(root)


@pytest.mark.parametrize("wrapper", ["", "CK+48"])
def test_class_folders_without_splits_are_train(wrapper, root, tmp_path):
    for name in ("anger", "happy"):
        write_image(root / wrapper / name / "a.png", len(name))
    packed = pack(source_of(root), tmp_path / "out")
    assert {split: counts.class_counts for split, counts in packed.manifest.splits.items()} == {
        "train": (1, 0, 0, 1, 0, 0, 0)
    }
    assert read_split(tmp_path / "out", "train").keys in (["anger-a", "happy-a"], ["happy-a", "anger-a"])
    assert "these are classes, not splits, so the images are read as train; --val-fraction" in packed.notes[-1]


def test_class_folders_without_splits_are_checked_as_those_of_a_split_are(root, pack_source):
    for subject in ("S1", "S2"):
        write_image(root / subject / "happy" / "a.png")
    with pytest.raises(DataError, match=re.escape(f"it should be {root}/happy/a.png, and every other image")):
        pack_source(root)
    (root.parent / "faces").rename(root.parent / "other")
    write_image(root / "a.png")
    with pytest.raises(DataError, match="holds no image in a folder; it should hold train/CLASS/IMAGE, or CLASS/IMAGE"):
        pack_source(root)


def test_a_set_of_test_alone_is_packed_to_be_evaluated_on(root, pack_source, tmp_path, capsys):
    pixels = [write_image(root / "test" / name / "a.png", seed) for seed, name in enumerate(("sad", "fear"))]
    manifest = pack_source(root)
    assert (list(manifest.splits), manifest.untrained_classes) == (["test"], ())
    assert manifest.mean == (pytest.approx(np.mean(pixels) / 255),)
    assert verify(tmp_path / "out") == manifest
    assert "all images: mean 0." in inspect(tmp_path / "out", tmp_path / "figures")
    assert main(["pack", str(root), str(tmp_path / "out")]) == 0
    assert "has no train split, so models can be evaluated on it but not trained" in capsys.readouterr().out


def test_unlabelled_images_of_a_test_set_alone_are_refused(root, pack_source):
    write_image(root / "test" / "images" / "a.png")
    with pytest.raises(DataError, match=r"the class 'images' is the only one, with 1 image \(in test/images\)"):
        pack_source(root)


def test_text_files_are_ignored_and_counted_and_system_files_left_out_silently(root, tmp_path):
    write_image(root / "train" / "sad" / "a.png")
    for name in ("labels.csv", "train/labels.csv", "train/sad/notes.TXT", "train/sad/LICENSE", "docs/a.md"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("Gesichter, für alle\n")
    for name in (
        ".DS_Store",
        "train/Thumbs.db",
        "train/sad/._a.png",
        "__MACOSX/a.png",
        "train/.ipynb_checkpoints/a.png",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"\0\1")
    packed = pack(source_of(root), tmp_path / "out")
    assert packed.notes == ("ignored 5 files that are not images: 2 .csv, 1 .md, 1 .txt, 1 without an extension",)
    assert packed.manifest.rejects == 0


def test_what_is_no_file_is_rejected_without_being_opened(root, pack_source, tmp_path):
    write_image(root / "train" / "sad" / "a.png")
    for name in ("pipe.png", "pipe.txt"):
        os.mkfifo(root / "train" / "sad" / name)
    os.mkfifo(root / "pipe.csv")
    (root / "train" / "sad" / "zeros.png").symlink_to("/dev/zero")
    pack_source(root, max_rejects=4)
    assert rejects(tmp_path) == [
        [f"{root}/pipe.csv", "is a named pipe, not a file"],
        ["train/sad/pipe.png", "is a named pipe, not a file"],
        ["train/sad/pipe.txt", "is a named pipe, not a file"],
        ["train/sad/zeros.png", "is a device, not a file"],
    ]


def test_a_file_that_is_something_else_is_named_as_what_it_is(root, pack_source, tmp_path):
    write_image(root / "train" / "sad" / "a.png")
    (root / "train" / "sad" / "b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    pack_source(root, max_rejects=1)
    assert rejects(tmp_path)[0][1] == "is a HEIC photograph, which cannot be read; save it as JPEG or PNG"


@pytest.mark.parametrize("name", ["a.BMP", "a.webp", "a.TIFF", "a.tif", "a.gif", "a.pgm", "a.JPG"])
def test_image_files_of_other_formats_are_found_whatever_the_case_of_their_extension(name, root):
    write_image(root / "train" / "sad" / name)
    assert [image.place for image in list_folders(root, SourceOptions()).images] == [f"train/sad/{name}"]


def test_keys_are_safe_and_no_two_are_the_same():
    paths = ["train/sad/a.b.png", "train/sad/a-b.png", "train/sad/smörgås 1.jpg", "train/sad/" + "x" * 200 + ".png"]
    keys = path_keys(paths)
    assert len(set(keys)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,89}", key) for key in keys)


def test_folders_give_the_same_bytes_with_two_workers(root, pack_source, tmp_path):
    for place in range(20):
        write_image(root / "train" / "sad" / f"{place}.png", place)
    one = pack_source(root, workers=1)
    (tmp_path / "out").rename(tmp_path / "first")
    assert pack_source(root, workers=2) == one


def test_an_indexed_png_is_stored_as_rgb_without_loss(root, pack_source, tmp_path):
    path = root / "train" / "sad" / "a.png"
    pixels = write_image(path, mode="RGB")
    file = io.BytesIO()
    Image.fromarray(pixels).quantize(36).save(file, "PNG")
    path.write_bytes(file.getvalue())
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    pack_source(root)
    assert np.array_equal(read_split(tmp_path / "out", "train").images[0], expected)


def test_folders_named_by_numbers_need_a_scheme(root, pack_source, tmp_path):
    for number in (1, 4, 7):
        write_image(root / "train" / str(number) / f"{number}.png")
    with pytest.raises(DataError, match=r"train/1/1.png has the label '1', .*--scheme rafdb \(1 surprise"):
        pack_source(root)
    manifest = pack(source_of(root, options=SourceOptions(scheme=RAFDB)), tmp_path / "out").manifest
    assert manifest.class_names == RAFDB.class_names
    assert manifest.splits["train"].class_counts == (1, 0, 0, 1, 0, 0, 1)
    assert manifest.options["scheme"] == "rafdb"
