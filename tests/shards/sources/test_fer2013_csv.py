"""FER2013's CSV: what is read from it, and what is refused."""

import csv
import gzip
import lzma
import re
import tarfile
import zipfile

import numpy as np
import pytest

from shards.errors import DataError
from shards.labels import CKPLUS
from shards.packing.packer import pack
from shards.reading.reader import read_split
from shards.sources.csv_form import BadRow
from shards.sources.csv_rows import parse_clean_rows, parse_row
from shards.sources.listing import SourceOptions
from shards.sources.registry import source_of

OFFICIAL = (0, 1, 2)
GOOD = "3,1 2 3 4,Training"


def clean(lines, columns=OFFICIAL, pixel_count=4):
    content = "".join(f"{line}\n" for line in lines).encode()
    starts = [0, *(match.end() for match in re.finditer(b"\n", content))]
    return parse_clean_rows(content, starts, columns, pixel_count)


def by_key(split):
    return {
        key: (int(label), image.tobytes())
        for key, label, image in zip(split.keys, split.labels, split.images, strict=True)
    }


def test_every_row_keeps_its_pixels_and_its_label(small_set, rows):
    val = by_key(read_split(small_set, "val"))
    assert val == {f"row-{row + 1:07d}": (rows.labels[row], rows.images[row].tobytes()) for row in range(70, 84)}


def test_kaggles_header_with_blanks_in_another_order_gives_the_same_samples(
    small_set, rows, write_csv, pack_source, tmp_path
):
    lines = [",".join(line.split(",")[place] for place in (0, 2, 1)) for line in rows.lines]
    pack_source(write_csv(lines, header="emotion, Usage, pixels"), shard_samples=16)
    assert by_key(read_split(tmp_path / "out", "train")) == by_key(read_split(small_set, "train"))


@pytest.mark.parametrize(
    ("line_end", "ending"),
    [("\r\n", "\r\n"), ("\r", "\r"), ("\r", ""), ("\n", "\n\n\n"), ("\n", "")],
    ids=[
        "windows",
        "carriage-returns",
        "carriage-returns-none-at-the-end",
        "blank-lines-at-the-end",
        "none-at-the-end",
    ],
)
def test_line_ends_do_not_matter(line_end, ending, tmp_path, pack_source):
    path = tmp_path / "fer.csv"
    path.write_bytes((line_end.join(["emotion,pixels,Usage", GOOD, "0,9 8 7 255,PublicTest"]) + ending).encode())
    pack_source(path)
    assert by_key(read_split(tmp_path / "out", "val")) == {"row-0000002": (0, bytes([9, 8, 7, 255]))}


@pytest.mark.parametrize("columns", [OFFICIAL, (0, 2, 1)], ids=["pixels-in-the-middle", "pixels-last"])
@pytest.mark.parametrize("blank", ["", "  ", "\r"], ids=repr)
def test_blank_lines_between_rows_are_not_rows_and_count_as_lines(blank, columns, write_csv, pack_source, tmp_path):
    def line(text):
        return ",".join(text.split(",")[place] for place in columns)

    lines = [blank, line(GOOD), blank, blank, line("9,1 2 3 4,Training"), blank, line("0,9 8 7 255,PublicTest")]
    manifest = pack_source(write_csv(lines, header=line("emotion,pixels,Usage")), max_rejects=1)
    assert (manifest.rejects, (tmp_path / "out.rejects.csv").read_text().splitlines()[1][:5]) == (1, "row 5")
    assert by_key(read_split(tmp_path / "out", "train")) == {"row-0000002": (3, bytes([1, 2, 3, 4]))}
    assert by_key(read_split(tmp_path / "out", "val")) == {"row-0000007": (0, bytes([9, 8, 7, 255]))}


def test_a_byte_order_mark_and_quotes_are_read(tmp_path, pack_source):
    path = tmp_path / "fer.csv"
    path.write_bytes(b'\xef\xbb\xbf"emotion","pixels","Usage"\n"3","1 2 3 4","Training"\n')
    pack_source(path)
    assert by_key(read_split(tmp_path / "out", "train")) == {"row-0000001": (3, bytes([1, 2, 3, 4]))}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "7,1 2 3 4,Training",
            "emotion is '7'; it should be a label from 0 to 6 (0 angry, 1 disgust, 2 fear, 3 happy, ",
        ),
        ("-1,1 2 3 4,Training", "emotion is '-1'; it should be a label from 0 to 6"),
        (",1 2 3 4,Training", "emotion is ''; it should be a label from 0 to 6"),
        ("3,1 2 3,Training", "has 3 pixels; it should have 4"),
        ("3,1 2 3 4 5,Training", "has 5 pixels; it should have 4"),
        ("3,,Training", "has 0 pixels; it should have 4"),
        ("3,1 2 3 256,Training", "pixel 4 is '256'; it should be a whole number from 0 to 255"),
        ("3,1 300 3 4,Training", "pixel 2 is '300'; it should be a whole number from 0 to 255"),
        ("3,1 2 999 4,Training", "pixel 3 is '999'; it should be a whole number from 0 to 255"),
        ("3,1 2 1000 4,Training", "pixel 3 is '1000'; it should be a whole number from 0 to 255"),
        ("3,1 2 -3 4,Training", "pixel 3 is '-3'; it should be a whole number from 0 to 255"),
        ("3,1 2.5 3 4,Training", "pixel 2 is '2.5'; it should be a whole number from 0 to 255"),
        ("3,1 x 3 4,Training", "pixel 2 is 'x'; it should be a whole number from 0 to 255"),
        ("3,1 2 3 4,Trian", "Usage is 'Trian'; it should be Training, PublicTest, PrivateTest"),
        ("3,1 2 3 4", "has 2 fields; it should have emotion, pixels and Usage"),
        ("3,1 2,3 4,Training", "has 4 fields; it should have emotion, pixels and Usage"),
        ("3", "has 1 field; it should have emotion, pixels and Usage"),
    ],
)
def test_a_bad_row_is_refused_with_its_row_and_what_would_be_right(line, reason, write_csv, pack_source, tmp_path):
    path = write_csv([GOOD, GOOD, line, GOOD])
    with pytest.raises(DataError, match=re.escape(f"the first is row 3: {reason}")) as caught:
        pack_source(path)
    assert caught.value.exit_status == 1
    assert not (tmp_path / "out").exists()


def test_a_short_and_a_long_row_do_not_make_up_for_each_other(write_csv, pack_source, tmp_path):
    path = write_csv([GOOD, "3,1 2 3 4 5,Training", "3,1 2 3,Training", GOOD])
    with pytest.raises(DataError, match="2 of 4 samples"):
        pack_source(path)
    with open(tmp_path / "out.rejects.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["place", "reason"],
            ["row 2", "has 5 pixels; it should have 4"],
            ["row 3", "has 3 pixels; it should have 4"],
        ]


def test_up_to_max_rejects_the_rest_is_packed_and_the_rejects_are_counted(write_csv, pack_source, tmp_path):
    manifest = pack_source(write_csv([GOOD, "8,1 2 3 4,Training", GOOD]), max_rejects=1)
    assert (manifest.rejects, manifest.splits["train"].samples) == (1, 2)
    assert sorted(read_split(tmp_path / "out", "train").keys) == ["row-0000001", "row-0000003"]


def test_rejects_of_an_earlier_try_are_removed(write_csv, pack_source, tmp_path):
    (tmp_path / "out.rejects.csv").write_text("place,reason\nrow 1,old\n")
    pack_source(write_csv([GOOD]))
    assert not (tmp_path / "out.rejects.csv").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; it should be a CSV with the columns emotion, pixels and Usage"),
        (b"emotion,pixels,Usage\n", "has a header and no row"),
        (
            b"emotion,Usage\n3,Training\n",
            "has no column pixels; its columns are 'emotion, Usage', and FER2013's CSV",
        ),
        (b"pixels,Source\n1 2 3 4,web\n", "has no column emotion, so its images have no labels and nothing can be"),
        (b"3,1 2 3 4,Training\n", "has no header; its first line should be emotion,pixels,Usage"),
        (
            b"Usage,Image name,neutral,contempt,NF\n",
            "holds FER+'s votes and no image; pack FER2013's CSV, with --votes",
        ),
        (b"Label,pixels\n9,1 2 3 4\n", "none of its 1 rows can be used; the first, row 1, Label is '9'; it should be"),
        (b'emotion,pixels\n3,"1 2 3 4\n' + b"3,1 2 3 4\n" * 450_000, "row 1 is not CSV (field larger than field"),
        ("emotion,pixels,Usage\n3,1 2 3 4,Training\n".encode("utf-16"), "is not UTF-8"),
        (b"emotion,pixels,Usage\n3,1 2 3 4,Training\n3,1 2 3 4,Tr\xe4ning\n", "row 2 is not UTF-8"),
    ],
    ids=["empty", "no-row", "pixels", "labels", "header", "votes", "all-labels", "open-quote", "utf-16", "latin-1"],
)
def test_a_file_that_is_not_such_a_csv_is_refused(content, message, tmp_path, pack_source):
    path = tmp_path / "fer.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"fer.csv: {re.escape(message)}") as caught:
        pack_source(path)
    assert caught.value.exit_status == 1


def test_a_csv_without_training_rows_can_be_evaluated_on(write_csv, pack_source):
    manifest = pack_source(write_csv(["3,0 0 255 255,PublicTest"]))
    assert (list(manifest.splits), manifest.mean, manifest.untrained_classes) == (["val"], (0.5,), ())


PLAIN = ["3,1 2 3 4,Training", "0,9 8 7 255,PublicTest", "6,5 5 5 5,PrivateTest"]


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        ("\ufeffemotion;pixels;Usage", [line.replace(",", ";") + "\r" for line in PLAIN]),
        ("emotion\tpixels\tUsage", [line.replace(",", "\t") for line in PLAIN]),
        (",emotion,pixels,Usage,name", [f"{number},{line},x" for number, line in enumerate(PLAIN)]),
        ("emotion,pixels,Usage", [",".join(f'"{field}"' for field in line.split(",")) for line in PLAIN]),
        ("emotion,pixels,Usage", [f"{line[0]}.0{line[1:]}" for line in PLAIN]),
        ("label,pixels,Usage", ["happy" + PLAIN[0][1:], "Anger" + PLAIN[1][1:], " Neutral" + PLAIN[2][1:]]),
        ("emotion,pixels,usage", [line.lower() for line in PLAIN]),
        ("emotion,pixels,Split", ["3,1 2 3 4,train", "0,9 8 7 255,Validation", "6,5 5 5 5,test"]),
        (
            "emotion,pixels,Usage",
            ['3,"[1, 2, 3, 4]",Training', '0,"[  9.   8.\n   7. 255.]",PublicTest', '6,"(5,5,5,5)",PrivateTest'],
        ),
    ],
    ids=["semicolons", "tabs", "index", "quotes", "floats", "names", "lower-case", "split-words", "lists"],
)
def test_what_a_spreadsheet_or_pandas_has_saved_gives_the_same_samples(header, lines, write_csv, pack_source, tmp_path):
    pack_source(write_csv(lines, header))
    found = {split: by_key(read_split(tmp_path / "out", split)) for split in ("train", "val", "test")}
    assert found == {
        "train": {"row-0000001": (3, bytes([1, 2, 3, 4]))},
        "val": {"row-0000002": (0, bytes([9, 8, 7, 255]))},
        "test": {"row-0000003": (6, bytes([5, 5, 5, 5]))},
    }


def test_without_usage_all_is_train_and_a_note_tells_how_to_split_it(write_csv, tmp_path):
    path = write_csv(['3,"1 2 3 4",a', "", '0,"9 8 7 255",b'], "Emotion,pixels,Source")
    packed = pack(source_of(path), tmp_path / "out")
    assert by_key(read_split(tmp_path / "out", "train")).keys() == {"row-0000001", "row-0000003"}
    unused, usage = packed.notes
    assert unused == f"{path}: not used: column Source"
    assert usage.startswith(f"{path}: has no column Usage, so all of it is train; --val-fraction 0.1 ")


def test_bad_rows_of_another_form_are_named_by_their_own_columns(write_csv, pack_source, tmp_path):
    lines = ["3;1 2 3 4;Training", "Emotion;pixels;Set", "7;1 2 3 4;Training", "3;1 2 3;Training", "x", "3;1 2 3 4;all"]
    pack_source(write_csv(lines, "Emotion;pixels;Set"), max_rejects=5)
    with open(tmp_path / "out.rejects.csv", newline="") as file:
        places, reasons = zip(*list(csv.reader(file))[1:], strict=True)
    assert places == ("row 2", "row 3", "row 4", "row 5", "row 6")
    starts = (
        "is the header again",
        "Emotion is '7'; it",
        "has 3 pixels",
        "has 1 field; it should have 3",
        "Set is 'all'",
    )
    assert all(reason.startswith(start) for reason, start in zip(reasons, starts, strict=True)), reasons


def test_a_label_that_a_scheme_has_is_read_with_it_and_else_points_to_it(write_csv, tmp_path):
    path = write_csv([GOOD, "7,1 2 3 5,Training"])
    with pytest.raises(DataError, match=r"row 2: emotion is '7'; .*labels of another data set need its --scheme"):
        pack(source_of(path), tmp_path / "out")
    manifest = pack(source_of(path, options=SourceOptions(scheme=CKPLUS)), tmp_path / "out").manifest
    assert (manifest.class_names[7], manifest.options["scheme"]) == ("contempt", "ckplus")
    assert by_key(read_split(tmp_path / "out", "train"))["row-0000002"] == (7, bytes([1, 2, 3, 5]))


@pytest.mark.parametrize("name", ["fer.csv.gz", "fer.csv.xz", "fer.zip", "fer.tar.gz", "fer2013.csv", "folder"])
def test_a_csv_in_an_archive_or_alone_in_a_folder_packs_as_the_csv_does(name, write_csv, pack_source, tmp_path):
    path = write_csv(PLAIN)
    plain = pack_source(path)
    other = tmp_path / "other" / name
    other.parent.mkdir()
    if name.endswith((".csv.gz", ".csv.xz")):
        other.write_bytes((gzip if name.endswith("gz") else lzma).compress(path.read_bytes()))
    elif name == "fer.zip":
        with zipfile.ZipFile(other, "w") as archive:
            archive.write(path, "a/fer.csv")
    elif name == "folder":
        other.mkdir()
        (other / "fer.csv").write_bytes(path.read_bytes())
    else:  # also a tar that is called .csv
        with tarfile.open(other, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(path, "fer2013/fer.csv")
    assert pack(source_of(other), tmp_path / "out2").manifest == plain


def test_of_several_csvs_fer2013s_is_packed_or_they_are_named(write_csv, tmp_path):
    for name in ("train.csv", "test.csv"):
        write_csv(PLAIN, name=name)
    with pytest.raises(DataError, match=r"holds 2 CSVs \(test.csv, train.csv\); pack one of them"):
        pack(source_of(tmp_path), tmp_path.with_name("out"))
    write_csv(PLAIN, name="fer2013.csv")
    assert pack(source_of(tmp_path), tmp_path / "out").notes[0] == f"{tmp_path}: packed its fer2013.csv"


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "fer.csv.gz").write_bytes(gzip.compress(b"emotion,pixels,Usage\n" + b"3,1 2 3 4,Training\n" * 99)[:-9])
    with pytest.raises(DataError, match="fer.csv.gz: is a damaged archive"):
        pack(source_of(tmp_path / "fer.csv.gz"), tmp_path / "out")


def test_the_fast_parser_gives_what_the_slow_one_gives():
    random = np.random.default_rng(1)
    lines = [f"{random.integers(7)},{' '.join(map(str, random.integers(0, 256, 50)))},PublicTest" for _ in range(200)]
    labels, splits, pixels = clean(lines, pixel_count=50)
    slow = [parse_row(line.encode(), OFFICIAL, 50) for line in lines]
    assert labels == [label for label, _, _ in slow]
    assert splits == [split for _, split, _ in slow]
    assert np.array_equal(pixels, np.stack([row for _, _, row in slow]))


def test_the_fast_parser_never_takes_what_the_slow_one_refuses():
    """Lines with random damage, in batches of three: taken whole and equal, or left to the slow parser."""
    random = np.random.default_rng(2)
    letters = "0123456789 ,.-xT"
    taken = 0
    for _ in range(3000):
        lines = []
        for _ in range(3):
            line = list(f"{random.integers(7)},{' '.join(map(str, random.integers(0, 300, 4)))},Training")
            for _ in range(random.integers(0, 2)):
                place = random.integers(len(line))
                line[place] = letters[random.integers(len(letters))] * random.integers(0, 3)
            lines.append("".join(line))
        found = clean(lines)
        if found is None:
            continue
        taken += 1
        slow = [parse_row(line.encode(), OFFICIAL, 4) for line in lines]
        assert found[:2] == ([label for label, _, _ in slow], [split for _, split, _ in slow])
        assert np.array_equal(found[2], np.stack([row for _, _, row in slow]))
    assert taken > 100


def test_a_row_that_only_the_slow_parser_can_read_is_read(write_csv, pack_source, tmp_path):
    pack_source(write_csv([GOOD, "0, 1  2 3 0004 ,PublicTest"]))
    assert by_key(read_split(tmp_path / "out", "val")) == {"row-0000002": (0, bytes([1, 2, 3, 4]))}


def test_parse_row_says_what_is_wrong():
    with pytest.raises(BadRow, match="has 3 pixels; it should have 4"):
        parse_row(b"3,1 2 3,Training", OFFICIAL, 4)


def test_pieces_of_a_file_meet_without_a_gap(write_csv, pack_source, tmp_path):
    """More rows than a piece holds: each row is there once, with its own pixels."""
    lines = [f"{row % 7},{row % 256} {row // 256} 7 9,Training" for row in range(600)]
    pack_source(write_csv(lines), workers=2, shard_samples=500)
    train = by_key(read_split(tmp_path / "out", "train"))
    assert train == {f"row-{row + 1:07d}": (row % 7, bytes([row % 256, row // 256, 7, 9])) for row in range(600)}


def test_a_label_or_usage_in_another_form_is_read_wherever_it_stands(write_csv, pack_source):
    rows = ["3,1 2 3 4,Training", "happy,5 6 7 8,train", "3.0,9 9 9 9,Training", "3,0 0 0 0,Private Test"]
    manifest = pack_source(write_csv(rows))
    counts = {split: each.class_counts[3] for split, each in manifest.splits.items()}
    assert counts == {"train": 3, "test": 1}
