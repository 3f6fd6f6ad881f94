"""Reading a split, against plain webdataset, and what is damaged."""

import io
import json
import os
import re
import shutil
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from shards.errors import DataError
from shards.png import encode_pngs, stored_prefix
from shards.reading.reader import read_split
from shards.reading.scan import load_or_scan_manifest, scan_folder


@pytest.fixture
def copy(small_set, tmp_path):
    return Path(shutil.copytree(small_set, tmp_path / "copy"))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, files: dict[str, bytes], format: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = 1.5  # in the pax format a fraction gives every member an extended header
            tar.addfile(member, io.BytesIO(content))


def test_plain_webdataset_reads_the_same_pixels_labels_and_keys_in_the_same_order(small_set):
    paths = [str(path) for path in sorted(small_set.glob("train-*.tar"))]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode("l8"))
    train = read_split(small_set, "train")
    assert train.keys == [sample["__key__"] for sample in samples]
    assert train.labels.tolist() == [sample["cls"] for sample in samples]
    assert np.array_equal(train.images[:, 0], np.stack([sample["png"] for sample in samples]))


def test_arrays_have_the_promised_types_and_shapes(small_set):
    train = read_split(small_set, "train")
    assert (train.images.dtype, train.images.shape) == (np.uint8, (70, 1, 8, 8))
    assert (train.labels.dtype, train.labels.shape) == (np.int64, (70,))


def test_two_processes_read_what_one_reads(small_set):
    one, two = read_split(small_set, "train", workers=1), read_split(small_set, "train", workers=2)
    assert one.keys == two.keys
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.labels, two.labels)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tar_that_is_cut_short_is_named(workers, copy):
    path = copy / "train-000002.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"train-000002\.tar: has 5000 bytes, the manifest says"):
        read_split(copy, "train", workers=workers)


def test_a_changed_byte_is_found(copy):
    content = bytearray((copy / "val-000000.tar").read_bytes())
    content[2000] ^= 1
    (copy / "val-000000.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"val-000000\.tar: its sha256 is not the manifest's, so it or manifest"):
        read_split(copy, "val")


def test_a_missing_shard_is_named(copy):
    (copy / "val-000000.tar").unlink()
    with pytest.raises(DataError, match=r"val-000000\.tar: cannot be read"):
        read_split(copy, "val")


def test_a_split_that_is_absent_is_refused_with_those_there_are(write_csv, pack_source, tmp_path):
    pack_source(write_csv(["3,1 2 3 4,Training"]))
    with pytest.raises(DataError, match=f"{tmp_path / 'out'}: has no val split; it has train"):
        read_split(tmp_path / "out", "val")


@pytest.mark.parametrize("address", ["pipe:cat secret", "http://host/set", "s3://bucket/set", "file:/tmp/set"])
def test_an_address_is_refused(address):
    with pytest.raises(DataError, match="is an address with a scheme; it should be a folder") as caught:
        read_split(Path(address), "train")
    assert caught.value.exit_status == 2


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no such folder") as caught:
        read_split(tmp_path / "nowhere", "train")
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_webdataset_folder_from_elsewhere_is_read_by_a_scan(format, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    long = "x" * 120 + "/" if format != tarfile.USTAR_FORMAT else ""
    files = {}
    for place in range(3):
        files[f"{long}face{place}.png"] = png(pixels[place])
        files[f"{long}face{place}.cls"] = str(place).encode()
        files[f"{long}face{place}.json"] = b"{}"
    write_tar(tmp_path / "train-0.tar", files, format)
    write_tar(tmp_path / "valid-0.tar", {"one.png": png(pixels[1]), "one.cls": b"1"}, format)
    manifest = scan_folder(tmp_path)
    assert manifest.class_names == ("class-0", "class-1", "class-2")
    assert manifest.splits["val"].class_counts == (0, 1, 0)
    assert manifest.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)) / 255)
    train = read_split(tmp_path, "train")
    assert train.keys == [f"{long}face{place}" for place in range(3)]
    assert train.labels.tolist() == [0, 1, 2]
    assert np.array_equal(train.images, pixels.transpose(0, 3, 1, 2))


def test_class_names_of_a_folder_from_elsewhere_come_from_classes_txt(tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": b"1"})
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert load_or_scan_manifest(tmp_path).class_names == ("cat", "dog")


def test_a_folder_from_elsewhere_is_scanned_once_as_long_as_it_stays_the_same(tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": b"1"})
    first, again = load_or_scan_manifest(tmp_path), load_or_scan_manifest(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert (again is first, load_or_scan_manifest(tmp_path).class_names) == (True, ("cat", "dog"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.cls": b"1"}, "sample a has .cls; it should have .cls and one of .png, .jpg, .jpeg, .webp, .bmp"),
        ({"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": b"two"}, "a.cls holds b'two'; it should be a label"),
        ({"a.png": b"nothing", "a.cls": b"1"}, "a.png is not an image that can be decoded"),
        (
            {f"{name}.{end}": png(np.zeros((2, side), np.uint8)) if end == "png" else b"0"
             for name, side in (("a", 2), ("b", 3)) for end in ("png", "cls")},
            "b.png is 3 x 2 grey; the data set's images are 2 x 2 grey",
        ),
        ({"a.png": b"", "a.image.png": b"", "a.cls": b"1"}, "holds a.png and a.image.png; a sample should have one"),
    ],
    ids=["no-image", "no-number", "no-png", "another-shape", "two-images"],
)  # fmt: skip
def test_a_sample_that_cannot_be_used_is_named(files, message, tmp_path):
    write_tar(tmp_path / "train-0.tar", files)
    with pytest.raises(DataError, match=f"train-0.tar: {re.escape(message)}"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("image", "label", "text"),
    [("png", "cls", b"1\n"), ("image.png", "label.cls", b" 1"), ("webp", "cls", b"1\r\n")],
)
def test_common_forms_of_a_sample_are_read(image, label, text, tmp_path):
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP" if image == "webp" else "PNG", lossless=True)
    write_tar(tmp_path / "fer-train-0.tar", {f"a.{image}": file.getvalue(), f"a.{label}": text})
    train = read_split(tmp_path, "train")
    assert train.labels.tolist() == [1]
    assert np.array_equal(train.images[0, 0], pixels)


@pytest.mark.parametrize("text", [b"1" * 10, b"1" + b" " * 100, b"happy", b"-1"])
def test_a_label_that_is_not_a_small_number_is_refused(text, tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": text})
    with pytest.raises(
        DataError, match=r"a\.cls holds b'.*it should be a label such as 3 \(`fer-ddp pack` reads other"
    ):
        read_split(tmp_path, "train")


def test_a_label_of_millions_does_not_make_as_many_classes(tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": b"999999999"})
    with pytest.raises(DataError, match="its tars hold label 999999999; labels should be from 0 to 999"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("files", "path", "what"),
    [
        (["train/0.tar", "val/0.tar"], ".", "holds train/0.tar, which is not read as it is"),
        (["train-0.tar.gz"], ".", "holds train-0.tar.gz, which is not"),
        (["train-0.tar", "val-0.tgz"], ".", "holds val-0.tgz, which is compressed"),
        (["data/train-0.parquet"], ".", "holds data/train-0.parquet, which is not"),
        (["train-0.tar"], "train-0.tar", "is one tar"),
        (["train-0.tar"], "train-{0..0}.tar", "is a pattern of files"),
    ],
)
def test_what_has_to_be_packed_first_is_refused_with_the_command(files, path, what, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_tar(tmp_path / name, {"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": b"0"})
    source = tmp_path / path
    with pytest.raises(DataError, match=re.escape(f"{source}: {what}")) as caught:
        read_split(source, "train")
    assert "`fer-ddp pack " in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("files", "classes", "message"),
    [
        (None, "", "has no tar with train in its name, so it cannot be used to train"),
        ({}, "", "train-0.tar: holds no sample; remove it"),
        (
            {"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": b"2"},
            "happy\nsad\n",
            "classes.txt: names 2 classes, but the tars hold label 2; it should have a line for each class",
        ),
    ],
    ids=["no-train", "no-sample", "too-few-classes"],
)
def test_a_folder_from_elsewhere_that_cannot_be_trained_on_is_refused(files, classes, message, tmp_path):
    sample = {"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": b"0"}
    write_tar(tmp_path / ("test-0.tar" if files is None else "train-0.tar"), sample if files is None else files)
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    with pytest.raises(DataError, match=re.escape(message)):
        scan_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda fields: one_sample_less(fields["splits"]["val"]),
            "val-000000.tar: holds 14 samples, the manifest says 13",
        ),
        (
            lambda fields: (fields.update(class_names=fields["class_names"][:6]), merge_last(fields)),
            "has label 6; it should be from 0 to 5",
        ),
    ],
    ids=["samples", "classes"],
)
def test_a_shard_that_is_not_as_its_manifest_says_is_refused(change, message, copy):
    fields = json.loads((copy / "manifest.json").read_bytes())
    change(fields)
    (copy / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match=re.escape(message)):
        read_split(copy, "val")


def one_sample_less(split):
    split["shards"][0]["samples"] -= 1
    split["samples"] -= 1
    split["class_counts"][0] -= 1


def merge_last(fields):
    for split in fields["splits"].values():
        *counts, last = split["class_counts"]
        split["class_counts"] = [*counts[:-1], counts[-1] + last]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bytes", r"classes\.txt: is not UTF-8"),
        ("pipe", r"classes\.txt: is a named pipe, not a file"),
        ("sparse", r"classes\.txt: has .* bytes, more than the"),
        ("twice", r"classes\.txt: has the class 'happy' twice"),
        ("key", r"train-0\.tar: sample \\udcff has a name that is not UTF-8"),
    ],
)
def test_what_a_stranger_may_put_beside_or_into_tars_is_refused_by_its_file(kind, message, tmp_path):
    key = "\udcff" if kind == "key" else "a"
    write_tar(tmp_path / "train-0.tar", {f"{key}.png": png(np.zeros((2, 2), np.uint8)), f"{key}.cls": b"0"})
    path = tmp_path / "classes.txt"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"happy\nhappy\n" if kind == "twice" else b"m\xfcde\n" if kind == "bytes" else b"happy\n")
    if kind == "sparse":
        os.truncate(path, 6 << 30)
    with pytest.raises(DataError, match=message):
        scan_folder(tmp_path)


def test_a_member_that_is_cut_short_is_named(tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.cls": b"1", "b.png": bytes(5000)}, format=tarfile.PAX_FORMAT)
    content = (tmp_path / "train-0.tar").read_bytes()
    (tmp_path / "train-0.tar").write_bytes(content[: content.index(b"b.png") + 3000])
    with pytest.raises(DataError, match=r"train-0\.tar: (is cut short|is not a tar)"):
        read_split(tmp_path, "train")


def test_a_tar_without_a_split_in_its_name_is_refused(tmp_path):
    write_tar(tmp_path / "00000.tar", {"a.png": png(np.zeros((2, 2), np.uint8)), "a.cls": b"0"})
    with pytest.raises(
        DataError, match=r"00000\.tar: does not belong to a split; .* \(`fer-ddp pack .* OUT` reads tars"
    ):
        read_split(tmp_path, "train")


@pytest.mark.parametrize("length", [100, 700, 1500, 2048])
def test_a_foreign_tar_that_is_cut_short_is_named(length, tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.cls": b"1", "a.png": png(np.zeros((30, 30), np.uint8))})
    content = (tmp_path / "train-0.tar").read_bytes()
    (tmp_path / "train-0.tar").write_bytes(content[:length])
    with pytest.raises(DataError, match=r"train-0\.tar: (is cut short|is not a tar)"):
        read_split(tmp_path, "train")


def test_a_tar_inside_a_sample_is_not_a_sample(tmp_path):
    another_tar = tarfile.TarInfo("b.png").tobuf(tarfile.USTAR_FORMAT)
    image = png(np.zeros((30, 30), np.uint8))
    write_tar(tmp_path / "train-0.tar", {"a.tar": another_tar, "a.png": image, "a.cls": b"0"})
    train = read_split(tmp_path, "train")
    assert (train.keys, train.images.shape) == (["a"], (1, 1, 30, 30))


def test_a_png_like_ours_with_filtered_rows_is_decoded(tmp_path):
    """Another program may store rows uncompressed too, but as differences from their left neighbours (filter 1)."""
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4) * 7
    file = encode_pngs(pixels)[0]
    begin = len(stored_prefix(1, 3, 4))
    rows = np.concatenate([np.ones((3, 1), np.uint8), np.diff(pixels[0, 0], axis=1, prepend=np.uint8(0))], axis=1)
    data = file[37:begin] + rows.tobytes() + zlib.adler32(rows.tobytes()).to_bytes(4)
    changed = file[:37] + data + zlib.crc32(data).to_bytes(4) + file[-12:]
    write_tar(tmp_path / "train-0.tar", {"a.png": changed, "a.cls": b"0"})
    assert np.array_equal(read_split(tmp_path, "train").images, pixels)


def test_a_file_that_is_not_a_tar_is_named(tmp_path):
    (tmp_path / "train-0.tar").write_bytes(b"hello world" * 1000)
    with pytest.raises(DataError, match=r"train-0\.tar: is not a tar that can be read"):
        read_split(tmp_path, "train")
