"""Files that are no CSV, whatever they are called, are named for what they are."""

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.errors import DataError
from shards.file_kind import other_than_text
from shards.packing.packer import pack
from shards.sources.registry import source_of


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


def saved(save: object, *arguments: object) -> bytes:
    file = io.BytesIO()
    save(file, *arguments)  # type: ignore[operator]
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (saved(np.save, np.zeros(3)), "is a NumPy array (.npy); write its images to PNG files"),
        (zipped("a.npy"), "is NumPy arrays (.npz); "),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "is an Excel file (.xlsx); save it as CSV"),
        (zipped("a.png"), "is a zip archive; unpack it"),
        (zipped("a.png")[:20], "is a zip archive that is not whole; download it again"),
        (gzip.compress(b"x"), "is a gzip archive; unpack it"),
        (tarred(), "is a tar; unpack it"),
        (b"PAR1....", "is a Parquet file; "),
        (pickle.dumps({"a": 1}), "is a Python pickle, which is not loaded since it could run code; "),
        (saved(Image.new("L", (2, 2)).save, "PNG"), "is an image (PNG); pack a folder or a list of images"),
        (b"\n<!DOCTYPE html><html>", "is a web page, perhaps of a download that failed"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer and not the file itself; run `git lfs pull`",
        ),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_file_that_is_called_csv_is_named_for_what_it_is(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_bytes(content)
    assert (other_than_text(tmp_path / "fer2013.csv") or "").startswith(kind)


def test_text_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    assert other_than_text(tmp_path / "fer2013.csv") is None


def test_pack_refuses_it_by_that_name(tmp_path: Path) -> None:
    np.save(tmp_path / "faces.npy", np.zeros(3))
    with pytest.raises(DataError, match="faces.npy: is a NumPy array"):
        pack(source_of(tmp_path / "faces.npy"), tmp_path / "out")
