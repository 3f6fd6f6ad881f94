"""WebDataset tars that others have made: every form of image, label, key, split and tar."""

import gzip
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.errors import DataError
from shards.images import decode_image
from shards.labels import FER2013, FER2013_CLASSES
from shards.sources.listing import Listing, SourceOptions
from shards.sources.registry import source_of
from shards.sources.webdataset_tars import is_tars, list_tars

FACES = np.random.default_rng(0).integers(0, 256, (3, 6, 6), dtype=np.uint8)
LABELS = (3, 0, 5)
NAMES = ("happy", "angry", "surprise")


def image(number: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    if form == "NPY":
        np.save(file, FACES[number])
    else:
        Image.fromarray(FACES[number]).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    return file.getvalue()


def tar_of(files: Mapping[str, bytes] | list[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = 1.5  # in the pax format a fraction gives every member an extended header
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listed(source: Path, tmp_path: Path, scheme: bool = False, field: str | None = None) -> Listing:
    work = tmp_path / "work"
    work.mkdir()
    return list_tars(source, SourceOptions(work=work, label_field=field, scheme=FER2013 if scheme else None))


def number(index: int) -> bytes:
    return str(LABELS[index]).encode()


def field(**values: object) -> bytes:
    return json.dumps(values).encode()


SAMPLES = {
    "number": lambda i: {"png": image(i), "cls": number(i)},
    "number-and-newline": lambda i: {"png": image(i), "cls": number(i) + b"\n"},
    "name": lambda i: {"png": image(i), "cls": f" {NAMES[i].title()}\r\n".encode()},
    "upper-case": lambda i: {"PNG": image(i), "CLS": number(i)},
    "named-parts": lambda i: {"image.png": image(i), "label.cls": number(i)},
    "bmp": lambda i: {"bmp": image(i, "BMP"), "cls": number(i)},
    "webp": lambda i: {"webp": image(i, "WEBP"), "cls": number(i)},
    "array": lambda i: {"npy": image(i, "NPY"), "cls": number(i)},
    "image-and-landmarks": lambda i: {"png": image(i), "landmarks.npy": b"?", "npy": b"?", "cls": number(i)},
    "image-and-mask": lambda i: {"png": image(i), "mask.png": b"?", "cls": number(i)},
    "json-number": lambda i: {"png": image(i), "json": field(Label=LABELS[i], other=[1])},
    "json-float": lambda i: {"png": image(i), "json": field(emotion=float(LABELS[i]))},
    "json-both": lambda i: {"png": image(i), "json": field(label=LABELS[i], emotion=NAMES[i])},
    "json-text": lambda i: {"png": image(i), "json": field(expression=str(LABELS[i]))},
    "caption": lambda i: {"png": image(i), "txt": NAMES[i].encode(), "json": field(caption=NAMES[i], status="ok")},
    "number-and-sentence": lambda i: {"png": image(i), "cls": number(i), "txt": b"a" + "ä".encode() * 900},
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_every_form_of_a_sample_has_the_same_pixels_and_label(sample, tmp_path):
    files = {f"d/face{i}.{extension}": content for i in range(3) for extension, content in sample(i).items()}
    write(tmp_path / "set/train-0.tar", tar_of(files))
    (tmp_path / "set/classes.txt").write_text("\n".join(FER2013_CLASSES) + "\n")
    listing = listed(tmp_path / "set", tmp_path)
    assert [each.label.lower() for each in listing.images] == list(NAMES)
    assert [each.name.rpartition(".")[0] for each in listing.images] == [f"train-0/d/face{i}" for i in range(3)]
    contents = list(listing.container.contents([each.location for each in listing.images]))
    assert np.array_equal([decode_image(content)[0][0] for content in contents], FACES)
    assert not listing.rejects


def with_folder(files: Mapping[str, bytes]) -> bytes:
    folder = tarfile.TarInfo("./d")
    folder.type = tarfile.DIRTYPE
    return folder.tobuf() + tar_of(files)


FORMS = {
    "pax": lambda files: tar_of(files, tarfile.PAX_FORMAT),
    "gnu": lambda files: tar_of(files, tarfile.GNU_FORMAT),
    "gzip": lambda files: gzip.compress(tar_of(files)),
    "with-folders": with_folder,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_tar_is_read(form, tmp_path):
    """Its images come after its labels, so that no sample's files are beside each other."""
    folder = f"./{'x' * 80}"
    files = {f"{folder}/ä{i}.cls": number(i) for i in (0, 1)} | {f"{folder}/ä{i}.png": image(i) for i in (0, 1)}
    listing = listed(write(tmp_path / "train.tar", form(files)), tmp_path, scheme=True)
    assert [(each.label, each.name) for each in listing.images] == [
        (str(LABELS[i]), f"train/{'x' * 80}/ä{i}.png") for i in (0, 1)
    ]
    assert next(listing.container.contents([listing.images[1].location])) == image(1)


def test_keys_with_dots_are_told_apart(tmp_path):
    files = {f"a.{i}.{end}": image(i) if end == "png" else number(i) for i in range(3) for end in ("png", "cls")}
    listing = listed(write(tmp_path / "train.tar", tar_of(files)), tmp_path, scheme=True)
    assert [(each.name, each.label) for each in listing.images] == [
        (f"train/a.{i}.png", str(LABELS[i])) for i in range(3)
    ]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train-000.tar", "val-000.tar", "test-000.tar"], ["test", "train", "val"]),
        (["fer-train-000.tar", "fer-train-001.tar", "fer-valid-000.tar"], ["train", "train", "val"]),
        (["train/0.tar", "validation/0.tar", "Test/0.tgz"], ["test", "train", "val"]),
        (["data/train/0.tar.gz", ".git/junk.tar", "__MACOSX/0.tar"], ["train"]),
        (["00000.tar", "00001.tar"], ["train", "train"]),
    ],
    ids=["names", "inside-names", "folders", "nested", "none"],
)
def test_the_split_is_that_of_a_tars_name_or_folder(names, splits, tmp_path):
    for name in names:
        write(tmp_path / "set" / name, tar_of({"a.png": image(0), "a.cls": b"happy"}))
    listing = listed(tmp_path / "set", tmp_path)
    assert [each.split for each in listing.images] == splits
    assert any("--val-fraction 0.1" in note for note in listing.notes) == (names[0] == "00000.tar")


def test_a_tar_without_a_split_among_others_with_one_is_refused(tmp_path):
    for name in ("train-0.tar", "extra.tar"):
        write(tmp_path / "set" / name, tar_of({"a.png": image(0), "a.cls": b"happy"}))
    with pytest.raises(DataError, match=r"the name of extra\.tar has no split, unlike others"):
        listed(tmp_path / "set", tmp_path)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("train-{0..1}.tar", 2), ("{train,test}-0.tar", 2), ("train-*.tar", 3), ("t*-{0,2}.tar", 3), ("train-2.tar", 1)],
)
def test_a_pattern_of_braces_or_stars_names_tars(pattern, found, tmp_path):
    for name in ("train-0", "train-1", "train-2", "test-0"):
        write(tmp_path / f"set/{name}.tar", tar_of({"a.png": image(0), "a.cls": b"happy"}))
    assert len(listed(tmp_path / "set" / pattern, tmp_path).images) == found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("train-{0..1}.tar", "there is no file .*train-1.tar"),
        ("train-[5-9].tar", r"there is no file .*train-\[5-9\].tar"),
        ("train-{0..1.tar", "is not a pattern"),
        ("train-{0..9999999}.tar", "names more than 100,000 files"),
        ("{train-0.tar,more.zip}", "there is no file .*more.zip"),
    ],
)
def test_a_pattern_that_names_no_file_is_refused(pattern, message, tmp_path):
    write(tmp_path / "train-0.tar", tar_of({"a.png": image(0), "a.cls": b"happy"}))
    with pytest.raises(DataError, match=message) as caught:
        listed(tmp_path / pattern, tmp_path)
    assert caught.value.exit_status == 2


def test_a_pipe_is_no_source(tmp_path):
    for address in (f"pipe:touch {tmp_path}/made; cat x.tar", f"pipe:touch {tmp_path}/made-{{0..1}}.tar"):
        with pytest.raises(DataError, match="there is no (such )?file"):
            source_of(Path(address))(tmp_path, None, 1)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


REJECTS = {
    "no-image": ({"b.cls": b"3"}, "has no image, only .cls"),
    "no-label": ({"b.png": image(1)}, "has no label; it should have a .cls, a .json"),
    "blank-label": ({"b.png": image(1), "b.cls": b" \n"}, "has an empty .cls; it should be the name or the number"),
    "binary-label": ({"b.png": image(1), "b.cls": b"\xff\xfe"}, "in .cls; it should be the name or the number of one"),
    "two-lines": ({"b.png": image(1), "b.cls": b"sad\nhappy"}, r"has 'sad\nhappy' in .cls; it should be"),
    "sentence": ({"b.png": image(1), "b.txt": b"a man\nwho smiles"}, "in .txt; it should be the name or the number"),
    "two-images": ({"b.png": image(1), "b.jpg": b"?", "b.cls": b"3"}, "has several images, .png, .jpg"),
    "twice": ([("b.png", image(1)), ("b.cls", b"3"), ("b.cls", b"4")], "has b.cls twice"),
    "no-number-of-a-class": ({"b.png": image(1), "b.cls": b"7"}, "has 7 in .cls; it should be from 0 to 6"),
    "no-json": ({"b.png": image(1), "b.json": b"{"}, "has a .json that is not whole JSON"),
    "deep-json": ({"b.png": image(1), "b.json": b"[" * 200_000}, "has a .json that is not whole JSON"),
    "json-list": ({"b.png": image(1), "b.json": b"[3]"}, "has a .json that is not an object"),
    "json-vector": ({"b.png": image(1), "b.json": field(label=[0, 1])}, "has [0, 1] in label of .json"),
    "json-others": ({"b.png": image(1), "b.json": field(mood=1)}, "has no label; --label-field NAME reads it from one"),
    "two-names": (
        {"b.png": image(1), "b.cls": b"sad", "b.json": field(emotion="happy")},
        "has 'sad' in .cls and 'happy' in emotion of .json",
    ),
    "two-numbers": (
        {"b.png": image(1), "b.cls": b"3", "b.json": field(label=4)},
        "has 3 in .cls and 4 in label of .json",
    ),
    "name-and-number": (
        {"b.png": image(1), "b.json": field(label=3, emotion="sad")},
        "has the label 3 and 'sad' in emotion of .json, but in classes.txt or manifest.json 3 is 'happy'",
    ),
    "array-of-floats": ({"b.npy": b"", "b.cls": b"3"}, "is an array of float64 and shape (6, 6); it should be uint8"),
    "channels-first": ({"b.npy": b"", "b.cls": b"3"}, "shape (3, 6, 6), channels first; it should be uint8, (height"),
    "cut-array": ({"b.npy": b"", "b.cls": b"3"}, "shape (6, 6), but has 160 bytes"),
    "objects": ({"b.npy": b"", "b.cls": b"3"}, "is an array of object and shape (1,); it should be uint8"),
    "array-of-another-version": ({"b.npy": b"\x93NUMPY\x01\x30" + bytes(200), "b.cls": b"3"}, "(its version is 1.48)"),
    "damaged-array": ({"b.npy": b"\x93NUMPY\x01\0\x10\0{'descr': (((((" + bytes(39), "b.cls": b"3"}, "is not a .npy"),
    "no-array": ({"b.npy": b"?", "b.cls": b"3"}, "is not a .npy that can be read"),
}  # fmt: skip


def npy(kind: str) -> bytes:
    arrays = {
        "array-of-floats": np.zeros((6, 6)),
        "channels-first": np.zeros((3, 6, 6), np.uint8),
        "cut-array": np.zeros((6, 6), np.uint8),
        "objects": np.array([{}], object),
    }
    file = io.BytesIO()
    np.save(file, arrays[kind], allow_pickle=True)
    return file.getvalue()[: -4 if kind == "cut-array" else None]


@pytest.mark.parametrize("kind", REJECTS)
def test_a_sample_that_cannot_be_used_is_a_reject_that_names_tar_and_key(kind, tmp_path):
    files, reason = REJECTS[kind]
    files = [(name, content or npy(kind)) for name, content in (files if isinstance(files, list) else files.items())]
    write(tmp_path / "set/train-0.tar", tar_of([("a.png", image(0)), ("a.cls", b"3"), *files]))
    (tmp_path / "set/classes.txt").write_text("\n".join(FER2013_CLASSES))
    listing = listed(tmp_path / "set", tmp_path)
    assert [each.label for each in listing.images] == ["happy"]
    ((place, found),) = [(each.place, each.reason) for each in listing.rejects]
    assert place == "train-0.tar: b"
    assert reason in found


@pytest.mark.parametrize("name", ["b.cls", "b.json", "b.png"])
def test_a_huge_file_is_a_reject_and_is_not_read(name, tmp_path):
    """The tar has a hole where the file's 4 GB are, so that it takes no space on the disk."""
    start = tar_of({"a.png": image(0), "a.cls": b"happy", "b.cls" if name == "b.png" else "b.png": image(1)})
    huge = tarfile.TarInfo(name)
    huge.size = 2**32
    with open(tmp_path / "train.tar", "wb") as file:
        end = len(start.rstrip(b"\0")) // 512 * 512 + 512
        file.write(start[:end] + huge.tobuf(tarfile.GNU_FORMAT))
        file.truncate(end + 512 + huge.size + 1024)
    listing = listed(tmp_path / "train.tar", tmp_path)
    (reject,) = listing.rejects
    assert re.search(r"of 4,294,967,296 bytes; it should have at most [\d,]+", reject.reason)


def test_a_number_that_means_two_names_is_refused_where_nothing_else_names_it(tmp_path):
    both = [("happy", 3), ("Happiness", 3), ("sad", 3)]
    files = {f"{i}.png": image(0) for i in range(3)}
    files |= {f"{i}.json": field(emotion=name, label=label) for i, (name, label) in enumerate(both)}
    listing = listed(write(tmp_path / "train.tar", tar_of(files)), tmp_path)
    (reject,) = listing.rejects
    assert reject.reason == "has the label 3 and 'sad' in emotion of .json, but in train.tar: 0 3 is 'happy'"


def test_label_field_names_the_one_that_counts(tmp_path):
    values = field(label=3, mood={"deep": 1}, second="Sad")
    tar = write(tmp_path / "train.tar", tar_of({"a.png": image(0), "a.json": values, "a.cls": b"happy"}))
    assert listed(tar, tmp_path, field="second").images[0].label == "Sad"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("k", "train.tar: a has no field k in its .json; its fields are label, mood"),
        ("mood", r"train.tar: a has \{\} in mood of .json; it should be the name"),
    ],
)
def test_a_label_field_that_cannot_be_is_refused(field, message, tmp_path):
    tar = write(tmp_path / "train.tar", tar_of({"a.png": image(0), "a.json": b'{"label": 3, "mood": {}}'}))
    with pytest.raises(DataError, match=f"none of its 1 samples can be used; {message}"):
        listed(tar, tmp_path, field=field)


def test_numbers_that_nothing_names_are_refused_with_what_would(tmp_path):
    tar = write(tmp_path / "train.tar", tar_of({"a.png": image(0), "a.cls": b"3"}))
    with pytest.raises(DataError, match=r"a has the label '3'.*--scheme fer2013.*classes\.txt beside the tars"):
        listed(tar, tmp_path)


def test_a_class_of_one_split_alone_is_refused_unless_it_is_allowed(tmp_path):
    for split, name in (("train", b"happy"), ("val", b"happy"), ("val", b"merry")):
        write(tmp_path / f"set/{split}/{name.decode()}.tar", tar_of({"a.png": image(0), "a.cls": name}))
    message = "the class 'merry' is in val alone, with 1 image; .* keep the class with --allow-class merry"
    with pytest.raises(DataError, match=message):
        listed(tmp_path / "set", tmp_path)
    options = SourceOptions(work=tmp_path, allowed_classes=("Merry",))
    assert [each.label for each in list_tars(tmp_path / "set", options).images] == ["happy", "happy", "merry"]


def test_captions_are_not_classes(tmp_path):
    files = {f"{i}.png": image(0) for i in range(30)} | {f"{i}.txt": f"face {i}".encode() for i in range(30)}
    with pytest.raises(DataError, match="30 samples have 30 different labels, such as 'face 0'.*--label-field"):
        listed(write(tmp_path / "train.tar", tar_of(files)), tmp_path)


def test_files_of_no_sample_are_counted(tmp_path):
    extra = {
        "._a.png": b"?",
        "README": b"?",
        "__meta__.json": b"{}",
        "d/classes.txt": b"x",
        "b.xml": b"?",
        "a.votes.json": b"{}",
    }
    tar = write(tmp_path / "train.tar", tar_of({"a.png": image(0), "a.cls": b"sad", **extra}))
    listing = listed(tar, tmp_path)
    assert (len(listing.images), listing.rejects) == (1, [])
    assert listing.ignored == {"files without a key": 3, "files of no image": 2, "files of FER+ votes": 1}


def link(name: str) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.LNKTYPE, "a.png"
    return member.tobuf()


GOOD = {"a.png": image(0), "a.cls": b"sad"}
REFUSED = {
    "csv": (tar_of({"fer2013/fer2013.csv": b"emotion"}), "holds no image, but fer2013/fer2013.csv; unpack it"),
    "folders": (tar_of({"train/happy/1.png": image(0)}), "holds no label: beside train/happy/1.png there should be"),
    "empty": (tar_of({}), "(holds no image, and no other file; remove it|is not a tar that can be read)"),
    "no-tar": (b"hello" * 999, "is not a tar that can be read"),
    "cut": (tar_of(GOOD)[:2000], "is cut short|is not a tar that can be read"),
    "cut-at-a-header": (tar_of(GOOD)[: 512 * 4], "is cut short after 2048 bytes"),
    "cut-gzip": (gzip.compress(tar_of(GOOD))[:-20], "is damaged or cut short"),
    "joined": (tar_of(GOOD) + tar_of({"b.png": image(0), "b.cls": b"sad"}), "holds more after its end"),
    "damaged": (tar_of(GOOD)[: 512 * 4] + b"x" * 512 + bytes(1024), "is damaged at byte 2048, where the header"),
    "link": (link("b.png") + tar_of(GOOD), "b.png is a link, not a whole file; write the tar again with"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_tar_that_is_something_else_or_damaged_is_refused_by_what_it_is(kind, tmp_path):
    content, message = REFUSED[kind]
    tar = write(tmp_path / "train-0.tar", content)
    with pytest.raises(DataError, match=f"{re.escape(str(tar))}: .*({message})"):
        listed(tar, tmp_path)


def test_class_folders_beside_an_archive_are_still_class_folders(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "happy").mkdir(parents=True)
        (tmp_path / split / "happy/1.png").write_bytes(image(0))
    write(tmp_path / "faces.tar", tar_of(GOOD))
    assert not is_tars(tmp_path)


def test_tars_whose_numbers_mean_different_classes_are_refused(tmp_path):
    for split, names in (("train", "angry\nhappy"), ("val", "happy\nangry")):
        write(tmp_path / split / "0.tar", tar_of({"a.png": image(0), "a.cls": b"0"}))
        write(tmp_path / split / "classes.txt", names.encode())
    with pytest.raises(DataError, match="val/classes.txt: names other classes than .*train/classes.txt"):
        listed(tmp_path, tmp_path)


def test_several_data_sets_of_ours_are_not_packed_as_one(small_set, tmp_path):
    for name in ("fold0", "fold1"):
        shutil.copytree(small_set, tmp_path / name)
    with pytest.raises(DataError, match="holds the data set .*fold0 and other tars; pack .*fold0 by itself"):
        listed(tmp_path, tmp_path)


def test_a_tar_beside_its_compressed_copy_is_refused(tmp_path):
    write(tmp_path / "train.tar", tar_of(GOOD))
    write(tmp_path / "train.tar.gz", gzip.compress(tar_of(GOOD)))
    with pytest.raises(DataError, match=r"holds train.tar and train.tar.gz, which is the same tar; remove one"):
        listed(tmp_path, tmp_path)


def test_a_pipe_that_a_pattern_names_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "train-0.tar")
    with pytest.raises(OSError, match="is a named pipe, not a file"):
        list_tars(tmp_path / "train-{0..0}.tar", SourceOptions(work=tmp_path))
