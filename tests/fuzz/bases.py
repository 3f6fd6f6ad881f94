"""The whole things that inputs are made of: sources, data sets, runs, an export, an ensemble, an array."""

import csv
import io
import os
import shutil
import sys
import tarfile
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 12
CLASSES = ("angry", "happy", "sad")
JOB = """\
data: {path: data}
model: {name: plain_cnn, arguments: {channels: [2], hidden: 4}}
optimizer: {name: adam, lr: 0.001}
epochs: 1
global_batch_size: 9
precision: float32
memory_format: contiguous
wandb: {mode: disabled}
"""
ARRAY = "jobs: [job.yaml]\nseeds: [0, 1]\ngrid: {optimizer.lr: [0.1, 0.2]}\n"
CLUSTER = "partition: gpu\ngpus_per_node: 1\ntime_minutes: 10\nsbatch: {exclude: node7}\n"
SCHEME = "classes: [sad, angry, happy]\n"


def image_bytes(number: int = 0, kind: str = "PNG", side: int = SIDE) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def csv_lines() -> list[str]:
    """FER2013's CSV, a header and 9 rows of 8 x 8 pixels."""
    rng = np.random.default_rng(0)
    usages = ["Training"] * 5 + ["PublicTest"] * 2 + ["PrivateTest"] * 2
    rows = [f"{n % 7},{' '.join(map(str, rng.integers(0, 256, 64)))},{usage}" for n, usage in enumerate(usages)]
    return ["emotion,pixels,Usage", *rows]


def votes_lines() -> list[str]:
    """FER+'s votes for these rows."""
    names = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    return [names, *(f"Training,fer{n:07}.png,{10 - n},{n},0,0,0,0,0,0,0,0" for n in range(9))]


def write_sources(folder: Path) -> None:
    """Those that need no command."""
    (folder / "fer.csv").write_text("\n".join(csv_lines()) + "\n")
    (folder / "votes.csv").write_text("\n".join(votes_lines()) + "\n")
    number, rows = 0, [["path", "label", "split"]]
    for split in ("train", "val", "test"):
        for name in CLASSES:
            for _ in range(3 if split == "train" else 1):
                path = folder / "folders" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image_bytes(number))
                rows.append([f"{split}/{name}/{number}.png", name, split])
                number += 1
    shutil.copytree(folder / "folders", folder / "listed")
    with open(folder / "listed" / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        (folder / f"image.{kind.lower()}").write_bytes(image_bytes(1, kind))
    (folder / "tars").mkdir()
    for split in ("train", "val"):
        with tarfile.open(folder / "tars" / f"{split}-000.tar", "w", tarfile.USTAR_FORMAT) as tar:
            for number in range(4):
                for name, content in ((f"{number}.png", image_bytes(number)), (f"{number}.cls", b"%d" % (number % 3))):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    for name, text in (("job", JOB), ("array", ARRAY), ("cluster", CLUSTER), ("scheme", SCHEME)):
        (folder / f"{name}.yaml").write_text(text)


def make_bases(folder: Path, main: Callable[[list[str]], int]) -> None:
    """Make all of them in ``folder``, in a process of its own, so that torch is not loaded in this one."""
    write_sources(folder)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(folder)
            log = os.open("log", os.O_RDWR | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ["FER_DDP_CACHE"] = str(folder / "cache")
            status = _make(main)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit((folder / "log").read_text() or "the inputs could not be made")


def _make(main: Callable[[list[str]], int]) -> int:
    status = main(["pack", "listed/labels.csv", "data", "--workers", "1", "--classes", "angry,happy,sad"])
    for seed in (0, 1):
        status |= main(["train", "job.yaml", f"run=run{seed}", f"seed={seed}", "global_batch_size=9"])
    status |= main(["ensemble", "run0", "run1", "--out", "ensemble"])
    words = ["--data", "data", "--name", "theirs", "--run", "imported", "--split", "test"]
    status |= main(["import-predictions", "run0/predictions/test.csv", *words])
    _export()
    _array()
    _onnx()
    return status


def _export() -> None:
    """An exported folder without ``model.pt2`` and ``model.onnx``, which take seconds to make."""
    from fer_ddp.deploy import export

    member, folder = export._load(Path("run0")), Path("exported")
    folder.mkdir()
    export._write_weights(folder, [member], 1.0)
    export.write_json(folder / export.LABELS, list(CLASSES))
    export.write_json(folder / export.CARD, export._card(Path("run0"), [member], 1.0))


def _array() -> None:
    from launch.array import load_array

    array = load_array("array.yaml", [])
    array.write(None)
    for member in array.members:
        shutil.copytree("run0", member.job.run)


def _onnx() -> None:
    """A model of one linear layer."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(np.zeros((SIDE * SIDE, 3), np.float32), "w")
    nodes = [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["out"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
        [weight],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "model.onnx")
