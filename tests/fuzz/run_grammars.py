"""Generated jobs, arrays and runs, and what is made of runs."""

import struct

from bases import CLASSES, JOB
from changes import DELETED, copy, header, splice, state, write
from harness import Case, Change
from hypothesis import strategies as st
from source_grammars import lines_changed, odd_images, odd_things
from strategies import (
    AS_THEIRS,
    any_of,
    bytes_of_all_kinds,
    cases,
    deep,
    edits,
    flattened,
    odd,
    odd_content,
    odd_edit,
    shares,
    words,
)

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
            *AS_THEIRS,
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
