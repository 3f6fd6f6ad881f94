"""What inputs are made of: a strategy of hypothesis for each kind of input, small and plain.

`TORCHLESS` first: these run in a process that has not loaded torch, as the commands of ``shards`` do.
"""

import struct
import zlib
from collections.abc import Sequence

from bases import CLASSES, JOB, SIDE, csv_lines, image_bytes, votes_lines
from changes import DELETED, copy, cut, edit, fifo, folder, header, link, remove, sparse, splice, state, write
from harness import Case, Change
from hypothesis import strategies as st

Strategy = st.SearchStrategy

ODD_TEXT = (
    *("", " ", "0", "-1", "3.5", "nan", "1e999", "999999999", "9" * 400, "true", "null", "~", "..", "../outside/x"),
    *("/dev/zero", "/dev/full", "x::y", "pipe:touch ../outside/executed", "-h", "--", "=", "a=b", "%s", "{x}", "$HOME"),
    *("`id`", "<b>", "a|b", "a\tb", "a\nb", "\x00", "\x1b[31m", "é", "\u202e", "\U0001f600", "*", "[", "a/b", "path"),
    *("label", "hf:a/b", "antigravity:X", "x" * 300, "x" * 5000),
)
ODD_NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    7,
    255,
    256,
    4097,
    65536,
    10**6,
    999999999,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e-320,
    1e308,
)
deep = st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b"[[1],", b"]")]).map(
    lambda ends: ends[0] * 100000 + b"1" + ends[1] * 100000
)
odd: Strategy = st.one_of(
    st.sampled_from(ODD_TEXT),
    st.sampled_from([*ODD_NUMBERS, float("nan"), float("inf"), -float("inf"), None, True, False]),
    st.sampled_from([[], {}, [[]], [None], [1, 2, 3], ["a", "a"], {"": 1}, {"a": {"b": [1]}}, [10**9], [0.5, 0.5]]),
)
odd_edit = st.tuples(st.integers(0, 400), st.one_of(odd, st.just(DELETED)))
shares = st.floats(0, 1, allow_nan=False)
bytes_of_all_kinds = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"\xff\xfe", b"\x00" * 64, b"\xef\xbb\xbf", b"\n", b"\r", b'"', b"PK\3\4", b"<html>", b"\x80"]
    ),
)
words = st.sampled_from(ODD_TEXT).filter(lambda text: "\0" not in text)


def odd_content(path: str) -> Strategy:
    """A file's bytes changed somewhere, cut, deeply nested, or the file another kind of thing."""
    return st.one_of(
        st.tuples(shares, st.integers(0, 8), bytes_of_all_kinds).map(lambda piece: Change(splice, path, piece)),
        shares.map(lambda share: Change(cut, path, share)),
        deep.map(lambda content: Change(write, path, content)),
        st.sampled_from(["/dev/zero", "/dev/full", path.rpartition("/")[2], "../outside/precious.txt", "nowhere"]).map(
            lambda target: Change(link, path, target)
        ),
        st.sampled_from([fifo, remove]).map(lambda do: Change(do, path)),
        st.sampled_from([10**6, 10**9, 10**12]).map(lambda size: Change(sparse, path, size)),
    )


def edits(path: str) -> Strategy:
    """Values of a JSON or YAML file replaced or deleted."""
    return odd_edit.map(lambda change: Change(edit, path, change))


def cases(changes: Strategy, commands: Sequence[Sequence[str] | Strategy], base: Sequence[tuple[str, str]]) -> Strategy:
    """Copies of ``base`` (path, name), some ``changes``, and one of ``commands``, whose words may be strategies."""
    start = tuple(Change(copy, path, name) for path, name in base)
    lines = [st.tuples(*(word if isinstance(word, Strategy) else st.just(word) for word in line)) for line in commands]
    return st.builds(
        lambda steps, argv: Case((*start, *steps), tuple(word for word in argv if word)),
        st.lists(changes, min_size=1, max_size=3),
        st.one_of(lines),
    )


def any_of(*options: object) -> Strategy:
    return st.sampled_from(options)


# Sources ------------------------------------------------------------------------------------------------------------

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


def flattened(case: Case) -> Case:
    """With steps that are pairs as two steps."""
    steps = [each for change in case.changes for each in (change if isinstance(change, tuple) else (change,))]
    return Case(tuple(steps), case.argv)


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
COMMANDS = {
    "pack": (
        "folders",
        "out",
        "--workers",
        "1",
        "--size",
        "--seed",
        "--folds",
        "--merge",
        "--classes",
        "--format",
        "--votes",
        "--val-fraction",
    ),
    "verify": ("data", "folders"),
    "inspect": ("data", "--figures", "out", "--job", "job.yaml"),
    "leakage": ("data", "--out", "x.csv", "--workers"),
    "fake": ("out", "--train", "2", "--val", "1", "--test", "0", "--workers", "1", "--seed"),
    "launch": (
        "status",
        "logs",
        "resume",
        "cancel",
        "sync",
        "slurm",
        "local",
        "run0",
        "runs/array",
        "--json",
        "--lines",
        "--cluster",
        "cluster.yaml",
        "--dry-run",
    ),
    "keys": (),
    "recipes": (),
    "sync": ("nowhere", "data"),
    "push": ("nowhere", "data", "a/b", "--private"),
}
TORCH_COMMANDS = {
    "train": (
        "job.yaml",
        "run0",
        "nowhere.yaml",
        "epochs=1",
        "data.path=data",
        "run=run0",
        "seed=-1",
        "model.name=x",
        "model={}",
        "a.b.c=1",
    ),
    "evaluate": (
        "run0",
        "data.path=data",
        "data.path=folders",
        "--merge",
        "a=b",
        "--drop-classes",
        "sad",
        "--out",
        "out",
    ),
    "predict": (
        "run0",
        "image.png",
        "folders",
        "--json",
        "--csv",
        "t.csv",
        "--draw",
        "drawn",
        "--every",
        "--frames",
        "--language",
        "ka",
    ),
    "export": ("nowhere", "data", "--out", "data", "--int8"),
    "figures": ("nowhere", "data", "data.path=x"),
    "report": ("run0", "run1", "ensemble", "imported", "--out", "r.html", "r.txt", "--images", "--figures", "--across"),
    "ensemble": ("run0", "run1", "--out", "e", "--temperature"),
    "import-predictions": (
        "run0/predictions/test.csv",
        "--data",
        "data",
        "--name",
        "theirs",
        "--split",
        "test",
        "--run",
        "r",
        "--size",
        "--mean",
        "--scale",
        "--classes",
    ),
}


def lines_of(commands: dict[str, tuple[str, ...]], base: Sequence[str]) -> Strategy:
    """Command lines: a command's own words in any order, and odd ones."""

    def argv(name: str) -> Strategy:
        own = [st.sampled_from(commands[name])] * 4 if commands[name] else []
        return st.lists(st.one_of(*own, words), max_size=7).map(lambda rest: (name, *rest))

    start = tuple(Change(copy, name, name) for name in base)
    return st.one_of([argv(name) for name in commands]).map(lambda line: Case(start, line))


command_lines = lines_of(COMMANDS, ("folders", "data", "job.yaml", "cluster.yaml", "run0"))
torch_command_lines = lines_of(
    TORCH_COMMANDS, ("folders", "data", "job.yaml", "run0", "run1", "ensemble", "imported", "image.png")
)

# Jobs, runs and what is made of them --------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
KEYS = (
    *(
        "epochs",
        "global_batch_size",
        "micro_batch_size",
        "seed",
        "precision",
        "select",
        "run",
        "name",
        "from",
        "extends",
    ),
    *("data.path", "data.mode", "data.workers", "data.mean", "data.std", "data.targets", "data.order", "data.repeats"),
    *("model.name", "model.arguments", "model.arguments.channels", "model.arguments.hidden", "model.arguments.dropout"),
    *(
        "model.weights",
        "model.freeze",
        "model.batch_norm_groups",
        "optimizer.name",
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.momentum",
    ),
    *("schedule.name", "schedule.warmup_epochs", "loss.name", "loss.class_weights", "loss.smoothing_matrix"),
    *("augment.scale", "augment.rotation_degrees", "augment.blur_sigma", "augment.mixup_alpha", "augment.erasing_area"),
    *(
        "views.rotations",
        "views.shifts",
        "views.scales",
        "ema.decay",
        "image_size.sides",
        "log.every_steps",
        "wandb.mode",
    ),
    *("distillation.teacher", "checkpoint.every_steps", "tensorboard", "optimizer.layer_decay", "time_limit_s", "jobs"),
)
overrides = st.builds(
    lambda key, value: f"{key}={value}",
    st.sampled_from(KEYS),
    st.one_of(
        words,
        st.sampled_from(
            [
                "1",
                "0.1",
                "[1, 2]",
                "[999999999]",
                "{a: 1}",
                "timm/resnet18",
                "torchvision/nothing",
                "plain_cnn",
                "best.py:Net",
                "folders",
                "data",
                "[",
                "&a [*a]",
                "!!python/name:os.system",
            ]
        ),
    ),
)
odd_yaml = st.one_of(
    edits("job.yaml"),
    edits("job.yaml"),
    st.builds(
        lambda key, value: Change(write, "job.yaml", f"{JOB}{key}: {value}\n".encode("utf-8", "replace")),
        st.sampled_from([key.partition(".")[0] for key in KEYS]),
        st.one_of(words, any_of("{}", "[]", "*a", "&a [*a]")),
    ),
    st.sampled_from(
        [
            BOMB + JOB,
            "a: " + "[" * 20000,
            "? " * 5000,
            "- " * 20000,
            "&a " * 9,
            "!!python/object/apply:os.system [id]",
            "{" * 3000,
            JOB + "extends: job.yaml\n",
            JOB + "x: " + "9" * 100000,
        ]
    ).map(lambda text: Change(write, "job.yaml", text.encode())),
    odd_content("job.yaml"),
    st.text(max_size=60).map(lambda text: Change(write, "job.yaml", text.encode("utf-8", "surrogatepass"))),
)
jobs = cases(
    odd_yaml,
    [
        ("train", "job.yaml", overrides, "epochs=1"),
        ("train", "job.yaml", "epochs=1"),
        ("inspect", "data", "--job", "job.yaml", overrides),
        ("launch", "slurm", "job.yaml", "--cluster", "cluster.yaml", "--dry-run"),
        ("launch", "local", "job.yaml", "epochs=x"),
    ],
    [("data", "data"), ("job.yaml", "job.yaml"), ("cluster.yaml", "cluster.yaml")],
)
overridden = st.builds(
    lambda words: Case(
        (Change(copy, "data", "data"), Change(copy, "job.yaml", "job.yaml")), ("train", "job.yaml", *words, "epochs=1")
    ),
    st.lists(overrides, min_size=1, max_size=2),
)
GRID = "grid: {" + ", ".join(f"optimizer.a{n}: [{', '.join(['1'] * 9)}]" for n in range(12)) + "}\n"
arrays = cases(
    st.one_of(
        edits("array.yaml"),
        edits("cluster.yaml"),
        odd_content("array.yaml"),
        odd_content("cluster.yaml"),
        st.sampled_from(
            [
                "jobs: [job.yaml]\nseeds: [0]\n" + GRID,
                "jobs: [job.yaml]\nseeds: [" + "1, " * 20000 + "1]\n",
                "jobs: [array.yaml]\nseeds: [0]\n",
            ]
        ).map(lambda text: Change(write, "array.yaml", text.encode())),
    ),
    [
        ("launch", "slurm", any_of("array.yaml", "job.yaml"), "--cluster", "cluster.yaml", "--dry-run"),
        ("launch", "local", "array.yaml", "--ranks", "x"),
        ("launch", "slurm", "array.yaml", overrides, "--cluster", "cluster.yaml", "--dry-run"),
    ],
    [("data", "data"), ("job.yaml", "job.yaml"), ("cluster.yaml", "cluster.yaml"), ("array.yaml", "array.yaml")],
)
RUN_FILES = (
    *("config.yaml", "status.json", "summary.json", "environment.json", "metrics.jsonl", "timing.jsonl"),
    *("predictions/test.csv", "predictions/val.csv", "checkpoints/best.safetensors", "checkpoints/last.safetensors"),
)
EDITABLE = ("config.yaml", "status.json", "summary.json", "environment.json", "metrics.jsonl", "timing.jsonl")
RUN_COMMANDS = [
    ("report", "run0", "run1", "--out", "r.html"),
    ("report", "run0", "--out", "r.html", any_of("", "--images", "--across", "--figures")),
    ("evaluate", "run0", any_of("", "--out=e")),
    ("predict", "run0", "image.png", any_of("", "--json", "--csv=t.csv")),
    ("train", "run0/config.yaml", any_of("", "", "epochs=2")),
    ("launch", "status", any_of("run0", "")),
    ("ensemble", "run0", "run1", "--out", "e", any_of("", "--temperature")),
]
RUNS = [("run0", "run0"), ("run1", "run1"), ("data", "data"), ("image.png", "image.png")]
run_folders = cases(
    st.one_of(
        *[edits(f"run0/{name}") for name in EDITABLE],
        st.sampled_from(RUN_FILES).flatmap(lambda name: odd_content(f"run0/{name}")),
    ),
    RUN_COMMANDS,
    RUNS,
)
others = cases(
    st.one_of(
        edits("ensemble/members.json"),
        edits("imported/imported.json"),
        edits("imported/summary.json"),
        st.sampled_from(["ensemble/members.json", "imported/imported.json", "imported/predictions/test.csv"]).flatmap(
            odd_content
        ),
    ),
    [
        ("report", "imported", "ensemble", "run0", "--out", "r.html"),
        ("report", "run0", "imported", "--out", "r.html", "--across"),
        ("predict", "ensemble", "image.png"),
        (
            "import-predictions",
            "run0/predictions/test.csv",
            "--data",
            "data",
            "--name",
            "theirs",
            "--run",
            "imported",
            "--split",
            "test",
        ),
        ("launch", "status", "imported"),
    ],
    [*RUNS, ("ensemble", "ensemble"), ("imported", "imported")],
)
tensors = st.tuples(st.sampled_from([(), (0,), (1,), (3, 3), (7,)]), any_of("float32", "float64", "int64", "bool"))
checkpoints = cases(
    st.one_of(
        st.builds(
            lambda name, place, value: Change(state, f"run0/checkpoints/{name}.safetensors", (place, value)),
            any_of("best", "last"),
            st.integers(0, 400),
            st.one_of(odd.filter(lambda value: value == value), st.just(DELETED), tensors),
        ),
        st.builds(
            lambda name, change: Change(header, f"run0/checkpoints/{name}.safetensors", change),
            any_of("best", "last"),
            odd_edit,
        ),
    ),
    [
        *RUN_COMMANDS[2:5],
        ("train", "run0/config.yaml", "epochs=2"),
        ("train", "job.yaml", "from=run0", "epochs=1", "run=new"),
        ("train", "job.yaml", "model.weights=run0/checkpoints/best.safetensors", "epochs=1", "run=new"),
    ],
    [*RUNS, ("job.yaml", "job.yaml")],
)
weights = cases(
    st.one_of(
        odd_edit.map(lambda change: Change(header, "exported/model.safetensors", change)),
        odd_content("exported/model.safetensors"),
        st.sampled_from([0, 7, 8, 2**40, 2**63, 2**64 - 1]).map(
            lambda size: Change(splice, "exported/model.safetensors", (0.0, 8, struct.pack("<Q", size)))
        ),
        *[edits(f"exported/{name}") for name in ("config.json", "model.json", "labels.json")],
        st.sampled_from(["config.json", "model.json", "labels.json"]).flatmap(
            lambda name: odd_content(f"exported/{name}")
        ),
    ),
    [
        ("predict", "exported", "image.png"),
        ("train", "job.yaml", "from=exported", "epochs=1"),
        ("train", "job.yaml", "model.weights=exported/model.safetensors", "epochs=1"),
        ("push", "exported", "a/b/c"),
    ],
    [("exported", "exported"), ("image.png", "image.png"), ("job.yaml", "job.yaml"), ("data", "data")],
)
MEMBER = "runs/array.launch"
array_folders = cases(
    st.one_of(
        edits(f"{MEMBER}/array.json"),
        edits(f"{MEMBER}/members/job-lr=0.1-seed0.yaml"),
        edits("runs/array/job-lr=0.1-seed0/metrics.jsonl"),
        edits("runs/array/job-lr=0.1-seed0/status.json"),
        odd_content(f"{MEMBER}/array.json"),
        odd_content(f"{MEMBER}/members/job-lr=0.1-seed0.yaml"),
        st.builds(
            lambda content: Change(write, f"{MEMBER}/attempts/job-lr=0.1-seed0.jsonl", content),
            st.one_of(
                bytes_of_all_kinds,
                deep,
                any_of(b"{}\n", b'{"started": 1}\n', b"[]\n", b'{"started":"a","job_id":"1","nodes":"n","x":1}\n'),
            ),
        ),
        st.builds(
            lambda content: Change(write, f"{MEMBER}/submissions/0000.json", content),
            st.one_of(bytes_of_all_kinds, deep, any_of(b"{}", b'{"members": 3}', b'{"members": ["a"], "job_id": 7}')),
        ),
        st.builds(lambda content: Change(write, f"{MEMBER}/logs/0000/1_0_log.err", content), bytes_of_all_kinds),
    ),
    [
        ("launch", any_of("status", "logs", "resume", "cancel", "sync"), any_of("array", "runs/array")),
        ("launch", "status"),
        ("launch", "status", "--json"),
        ("launch", "logs", "array", "job-lr=0.1-seed0"),
        ("report", "runs/array", "--out", "r.html"),
    ],
    [("runs", "runs"), ("data", "data")],
)
predict_inputs = cases(
    st.one_of(
        odd_images("faces/a.png"),
        odd_things.map(lambda each: Change(each.do, each.path.replace("folders", "faces", 1), each.value)),
    ),
    [
        (
            "predict",
            "run0",
            any_of("faces", "faces/a.png", "faces/*"),
            any_of("", "--json", "--csv=t.csv", "--draw=drawn", "--pad"),
            any_of("", "image.png", "nowhere.png"),
        )
    ],
    [("run0", "run0"), ("faces/b.png", "image.png"), ("image.png", "image.png")],
).map(flattened)
PREDICTIONS = [
    "key,label,predicted,p_angry,p_happy,p_sad",
    *(f"{key},{name},{name},1,0,0" for key, name in zip(("a", "b", "c"), CLASSES, strict=True)),
]
imports = cases(
    st.one_of(
        lines_changed(PREDICTIONS, "theirs.csv"),
        odd_content("theirs.csv"),
        st.tuples(shares, st.integers(0, 8), bytes_of_all_kinds).map(lambda piece: Change(splice, "theirs.csv", piece)),
        odd_content("model.onnx"),
    ),
    [
        (
            "import-predictions",
            any_of("theirs.csv", "theirs.csv", "model.onnx"),
            "--data",
            "data",
            "--name",
            "theirs",
            "--split",
            "test",
            any_of(
                "",
                "--logits",
                "--classes=sad,happy,angry",
                "--merge=a=b",
                "--size=12",
                "--mean=x",
                "--scale=0",
                "--std=0",
            ),
            any_of("", "--color=grey", "--layout=NCHW", "--run=run0", "--drop-classes=sad"),
        )
    ],
    [("theirs.csv", "run0/predictions/test.csv"), ("model.onnx", "model.onnx"), ("data", "data")],
)

TORCHLESS = {
    "fer_csv": fer_csv,
    "votes": votes,
    "list_csv": list_csv,
    "folders": folders,
    "images": images,
    "manifests": manifests,
    "schemes": schemes,
    "tars": tars,
    "command_lines": command_lines,
}
WITH_TORCH = {
    "torch_command_lines": torch_command_lines,
    "jobs": jobs,
    "overridden": overridden,
    "arrays": arrays,
    "run_folders": run_folders,
    "others": others,
    "checkpoints": checkpoints,
    "weights": weights,
    "array_folders": array_folders,
    "predict_inputs": predict_inputs,
    "imports": imports,
}
