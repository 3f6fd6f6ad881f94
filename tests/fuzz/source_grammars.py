"""Generated sources and data sets: what `pack`, `verify`, `inspect` and `leakage` read."""

import struct
import zlib

from bases import CLASSES, SIDE, csv_lines, image_bytes, votes_lines
from changes import DELETED, copy, fifo, folder, link, remove, sparse, splice, write
from harness import Change
from hypothesis import strategies as st
from strategies import Strategy, any_of, bytes_of_all_kinds, cases, deep, edits, flattened, odd, odd_content, shares

pack_options = st.sampled_from(
    [
        "",
        "--max-rejects=9",
        "--size=8",
        "--rgb",
        "--grey",
        "--without-leaks",
        "--val-fraction=0.5",
        "--folds=2",
        "--scheme=fer2013",
        "--scheme=ferplus",
        "--classes=happy,sad",
        "--merge=sad=angry",
        "--crop",
        "--test-fraction=1",
        "--allow-class=sad",
        "--shard-samples=1",
        "--shard-samples=0",
        "--seed=-1",
        "--size=99999",
        "--label-field=x",
    ]
)
PACK = ("--workers", "1", pack_options, pack_options)


def lines_changed(lines: list[str], path: str) -> Strategy:
    """A CSV with odd cells, lines and encodings."""

    def written(cells: list, repeats: int, encoding: str, end: str, separator: str) -> Change:
        table = [line.split(",") for line in lines]
        for row, column, value in cells:
            row %= len(table)
            table[row][column % len(table[row]) :][:1] = [value] if value is not DELETED else []
        text = end.join(separator.join(map(str, row)) for row in table * repeats) + end
        return Change(write, path, text.encode(encoding, "surrogatepass"))

    cell = st.tuples(
        st.integers(0, 9),
        st.integers(0, 11),
        st.one_of(odd, st.sampled_from([DELETED, '"', '"a', "1 2 3", "[1, 2]", ",,"])),
    )
    return st.builds(
        written,
        st.lists(cell, max_size=3),
        any_of(1, 1, 1, 2, 40),
        any_of("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7"),
        any_of("\n", "\r\n", "\r", "\n\n"),
        any_of(",", ",", ";", "\t", " , "),
    )


fer_csv = cases(
    st.one_of(lines_changed(csv_lines(), "fer.csv"), odd_content("fer.csv")),
    [("pack", "fer.csv", "out", *PACK)],
    [("fer.csv", "fer.csv")],
)
votes = cases(
    st.one_of(
        lines_changed(votes_lines(), "votes.csv"), odd_content("votes.csv"), lines_changed(csv_lines(), "fer.csv")
    ),
    [("pack", "fer.csv", "out", "--votes", "votes.csv", *PACK)],
    [("fer.csv", "fer.csv"), ("votes.csv", "votes.csv")],
)
LISTED = ["path,label,split", *(f"train/{name}/{n}.png,{name},train" for n, name in enumerate(CLASSES))]
list_csv = cases(
    st.one_of(
        lines_changed(LISTED, "listed/labels.csv"),
        odd_content("listed/labels.csv"),
        odd_content("listed/train/angry/0.png"),
    ),
    [
        (
            "pack",
            any_of("listed/labels.csv", "listed"),
            "out",
            *PACK,
            any_of("", "--scheme=scheme.yaml", "--format=list"),
        )
    ],
    [("listed", "listed"), ("scheme.yaml", "scheme.yaml")],
)
ODD_NAMES = (
    *(
        "a",
        "-x",
        "a b",
        "é",
        "\udcff",
        "a\nb",
        "a:b",
        "x::y",
        ".hidden",
        "~",
        "$a",
        "<b>",
        "%s",
        "[0]",
        "*",
        "\x1b[31m",
    ),
    *("path", "label", "7", "0", "nan", "happy.png", "x" * 200, "Thumbs.db", "train", "__MACOSX"),
)
odd_names = st.sampled_from(ODD_NAMES)
odd_places = st.builds(
    lambda root, parts, end: "/".join([root, *parts, end]),
    any_of("folders", "folders/train", "folders/train/angry", "folders/val", "folders/test/sad"),
    st.lists(odd_names, max_size=2),
    st.builds(lambda name, end: f"{name}{end}", odd_names, any_of("", ".png", ".PNG", ".jpg", ".txt", ".csv", ".tar")),
)
odd_things = st.one_of(
    st.builds(lambda path, number: Change(write, path, image_bytes(number)), odd_places, st.integers(0, 3)),
    st.builds(lambda path, content: Change(write, path, content), odd_places, bytes_of_all_kinds),
    st.builds(
        lambda path, target: Change(link, path, target),
        odd_places,
        any_of("/dev/zero", ".", "..", "../..", "nowhere", "/", "../outside/precious.txt", "../../../../outside"),
    ),
    st.builds(lambda do, path: Change(do, path), any_of(fifo, folder), odd_places),
    st.builds(lambda path: Change(sparse, path, 10**11), odd_places),
    any_of("folders/val", "folders/test", "folders/train", "folders/train/angry").map(
        lambda path: Change(remove, path)
    ),
)
folders = cases(odd_things, [("pack", "folders", "out", *PACK)], [("folders", "folders")])


def lying_png(width: int, height: int, depth: int, colour: int, rest: bytes) -> bytes:
    """A PNG whose header is valid and says more than there is."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rest)) + chunk(b"IEND", b"")


sizes = any_of(0, 1, SIDE, 9000, 14000, 65535, 100000, 2**31 - 1, 2**32 - 1)


def odd_images(path: str) -> Strategy:
    """An image file that is damaged, or that lies."""
    return st.one_of(
        st.builds(lying_png, sizes, sizes, any_of(1, 8, 16, 3), any_of(0, 2, 3, 4, 6, 5), bytes_of_all_kinds).map(
            lambda content: Change(write, path, content)
        ),
        st.builds(
            lambda kind, piece: (Change(copy, path, f"image.{kind}"), Change(splice, path, piece)),
            any_of("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"),
            st.tuples(shares, st.integers(0, 8), bytes_of_all_kinds),
        ),
        st.builds(lambda size: Change(write, path, b"P5\n%d %d\n255\n" % (size, size)), sizes),
        st.builds(
            lambda size: Change(
                write,
                path,
                b"GIF89a"
                + struct.pack("<HH", size % 65536, size % 65536)
                + b"\x80\0\0"
                + b"\0" * 9
                + b"\x2c"
                + b"\0" * 20,
            ),
            sizes,
        ),
        odd_content(path),
    )


images = cases(
    odd_images("folders/train/angry/0.png"), [("pack", "folders", "out", *PACK)], [("folders", "folders")]
).map(flattened)
READ = [
    ("verify", "data"),
    ("inspect", "data", "--workers=1"),
    ("leakage", "data", "--workers=1"),
    ("pack", "data", "out", *PACK),
]
READ += [("inspect", "data", "--figures", "drawn", "--workers=1")]
manifests = cases(
    st.one_of(edits("data/manifest.json"), edits("data/manifest.json"), odd_content("data/manifest.json")),
    READ,
    [("data", "data")],
)
schemes = cases(
    st.one_of(
        edits("scheme.yaml"),
        odd_content("scheme.yaml"),
        st.text(max_size=40).map(lambda text: Change(write, "scheme.yaml", text.encode("utf-8", "replace"))),
    ),
    [("pack", "folders", "out", "--scheme", "scheme.yaml", *PACK)],
    [("folders", "folders"), ("scheme.yaml", "scheme.yaml")],
)


def tar(members: list[tuple]) -> bytes:
    """A tar of (name, kind, stated size, content, checksum is right) as no library would write it."""
    blocks = []
    for name, kind, size, content, is_right in members:
        head = bytearray(512)
        head[:100] = name.encode("utf-8", "surrogateescape")[:100].ljust(100, b"\0")
        head[100:124] = b"0000644\0" + b"0000000\0" * 2
        stated = len(content) if size is None else size
        head[124:136] = b"%011o\0" % stated if 0 <= stated < 8**11 else b"\x80" + (stated % 2**88).to_bytes(11)
        head[136:148] = b"00000000000\0"
        head[156:157] = kind
        head[157:257] = b"../outside/precious.txt".ljust(100, b"\0")
        head[257:265] = b"ustar\x0000"
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % ((sum(head) + (not is_right)) % 8**6)
        blocks += [bytes(head), content.ljust(-(-len(content) // 512) * 512, b"\0")]
    return b"".join(blocks) + b"\0" * 1024


label_texts = any_of(
    b"0", b"1", b"999999999", b"-1", b"", b"3.5", b"happy", b"9" * 500, b"1\n", b"\xff", b"0x1", b"[1]", b'"a"'
)
names = st.builds(
    lambda stem, end: f"{stem}.{end}",
    any_of("0", "1", "a/0", "../outside/x", "/abs", "é", "\udcff", "", ".", "x" * 90),
    any_of(
        "png",
        "cls",
        "png",
        "cls",
        "jpg",
        "json",
        "txt",
        "class",
        "index",
        "votes.json",
        "image.png",
        "label.cls",
        "npy",
        "pyd",
    ),
)
contents = st.one_of(
    st.integers(0, 3).map(image_bytes),
    label_texts,
    deep,
    any_of(
        b'{"label": 1}', b'{"label": 99999999999}', b'{"label": []}', b"{", b"[0,1]", lying_png(60000, 60000, 8, 2, b"")
    ),
    st.binary(max_size=20),
)
members = st.tuples(
    names,
    any_of(b"0", b"0", b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"L", b"K", b"S", b"x", b"g", b"Z"),
    any_of(None, None, None, None, 0, 1, 10**9, 8**11 - 1, 2**63, 2**87, -1),
    contents,
    any_of(True, True, True, True, False),
)
odd_tars = st.builds(
    lambda path, odd_ones, good, at: Change(
        write,
        path,
        tar(
            [
                *[
                    (f"g{n}.{end}", b"0", None, image_bytes(n) if end == "png" else b"%d" % (n % 3), True)
                    for n in range(good)
                    for end in ("png", "cls")
                ][:at],
                *odd_ones,
            ]
        ),
    ),
    any_of("tars/train-000.tar", "tars/val-000.tar", "tars/train-001.tar", "tars/x.tar", "tars/train.tar.gz"),
    st.lists(members, max_size=4),
    st.integers(0, 3),
    st.integers(0, 6),
)
tars = cases(
    st.one_of(odd_tars, odd_tars, odd_content("tars/train-000.tar")),
    [
        ("pack", any_of("tars", "tars", "tars/train-000.tar", "tars/{train,val}-000.tar"), "out", *PACK),
        ("inspect", "tars", "--workers=1"),
        ("leakage", "tars", "--workers=1"),
    ],
    [("tars", "tars")],
)
