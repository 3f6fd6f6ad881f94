"""Single samples from anywhere in the tars, in this process and through others."""

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.errors import DataError
from shards.reading.reader import read_split
from shards.reading.sample_reader import SampleReader
from shards.reading.sample_workers import SampleWorkers
from shards.reading.scan import load_or_scan_manifest
from shards.reading.split_index import SplitIndex, write_index


@pytest.fixture
def copy(small_set, tmp_path):
    return Path(shutil.copytree(small_set, tmp_path / "copy"))


def index_of(folder: Path, out: Path, split: str = "train") -> SplitIndex:
    out.mkdir()
    write_index(folder, split, load_or_scan_manifest(folder), out, workers=2, pixels=False)
    return SplitIndex.read(out)


def file_of(pixels: np.ndarray, format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def foreign_set(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with one training tar of these images, all with label 0."""
    folder.mkdir()
    with tarfile.open(folder / "train-0.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            for member, data in ((Path(name).stem + ".cls", b"0"), (name, content)):
                header = tarfile.TarInfo(member)
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return folder


def change(index: SplitIndex, tar: Path, number: int, begin: int, content: bytes) -> None:
    """Write ``content`` at byte ``begin`` of an image's file, in a tar that holds the split's first samples."""
    with open(tar, "r+b") as file:
        file.seek(int(index.members[number, 0]) + begin)
        file.write(content)


def test_samples_are_those_of_the_whole_split_in_any_order(small_set, tmp_path):
    train = read_split(small_set, "train")
    index = index_of(small_set, tmp_path / "index")
    numbers = np.random.default_rng(0).integers(0, 70, 200)
    assert np.array_equal(SampleReader(small_set, index).read(numbers), train.images[numbers])
    assert (index.keys(), index.labels().tolist()) == (train.keys, train.labels.tolist())


def test_compressed_pngs_and_jpegs_are_decoded(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    folder = foreign_set(tmp_path / "set", {"a.png": file_of(pixels[0], "PNG"), "b.jpg": file_of(pixels[1], "JPEG")})
    read = SampleReader(folder, index_of(folder, tmp_path / "index")).read(np.array([1, 0]))
    assert np.array_equal(read, read_split(folder, "train").images[::-1])
    assert np.array_equal(read[1], pixels[0].transpose(2, 0, 1))


def test_a_png_of_another_program_as_long_as_ours_is_decoded(tmp_path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    file = file_of(pixels[0], "PNG")
    ours = 8 + 25 + 12 + 2 + 5 + 3 * 5 + 4 + 12
    text = b"tEXt" + b"x" * (ours - len(file) - 12)
    file = file[:33] + (len(text) - 4).to_bytes(4) + text + zlib.crc32(text).to_bytes(4) + file[33:]
    folder = foreign_set(tmp_path / "set", {"a.png": file})
    index = index_of(folder, tmp_path / "index")
    assert index.members[0, 1] == ours
    assert np.array_equal(SampleReader(folder, index).read(np.array([0])), pixels[None])


def test_a_changed_pixel_of_our_own_png_is_found(copy, tmp_path):
    index = index_of(copy, tmp_path / "index")
    change(index, copy / "train-000000.tar", 3, 60, b"\x07\x07\x07")
    key = index.keys()[3]
    with pytest.raises(DataError) as caught:
        SampleReader(copy, index).read(np.array([0, 3]))
    assert str(caught.value) == (
        f"{copy}/train-000000.tar: sample {key}: its image is damaged (a checksum is wrong); copy or pack it again"
    )


@pytest.mark.parametrize(
    ("begin", "content", "message"),
    [
        (45, b"\x99", r"sample a: its image is damaged \(a checksum is wrong\)"),
        (0, b"gone", "sample a: its image is not an image that can be decoded"),
    ],
)
def test_a_damaged_compressed_png_is_found(begin, content, message, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30), dtype=np.uint8)
    folder = foreign_set(tmp_path / "set", {"a.png": file_of(pixels, "PNG")})
    index = index_of(folder, tmp_path / "index")
    change(index, folder / "train-0.tar", 0, begin, content)
    with pytest.raises(DataError, match=message):
        SampleReader(folder, index).read(np.array([0]))


def test_a_tar_that_was_cut_since_is_named(copy, tmp_path):
    index = index_of(copy, tmp_path / "index")
    reader = SampleReader(copy, index)
    os.truncate(copy / "train-000000.tar", 3000)
    with pytest.raises(DataError, match=r"train-000000\.tar: sample .*: the tar ends inside its image"):
        reader.read(np.array([3]))


def test_a_tar_that_was_removed_since_is_named(copy, tmp_path):
    reader = SampleReader(copy, index_of(copy, tmp_path / "index"))
    (copy / "train-000000.tar").unlink()
    with pytest.raises(
        DataError, match=r"train-000000\.tar: sample .*: its image cannot be read \(No such file or directory\)"
    ):
        reader.read(np.array([3]))


def test_an_image_of_another_shape_is_named(tmp_path):
    first, second = (file_of(np.zeros((2, side), np.uint8), "JPEG") for side in (2, 3))
    folder = foreign_set(tmp_path / "set", {"a.jpg": first, "b.jpg": first})
    index = index_of(folder, tmp_path / "index")
    assert len(first) == len(second)
    change(index, folder / "train-0.tar", 1, 0, second)
    with pytest.raises(DataError, match=r"its image is 3 x 2 grey; the data set's images are 2 x 2 grey"):
        SampleReader(folder, index).read(np.array([1]))


@pytest.mark.parametrize(
    ("act", "found"), [(lambda tar: os.truncate(tar, 3000), "has 3000 bytes"), (Path.unlink, "is missing")]
)
def test_a_shard_of_another_size_is_refused_at_once(act, found, copy, tmp_path):
    index = index_of(copy, tmp_path / "index")
    act(copy / "train-000002.tar")
    with pytest.raises(DataError, match=rf"train-000002\.tar: {found}, the manifest says \d+ bytes"):
        SampleReader(copy, index)


def test_no_more_than_half_of_the_files_that_a_process_may_open_stay_open(small_set, tmp_path):
    index = index_of(small_set, tmp_path / "index")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, limits[1]))
        reader = SampleReader(small_set, index)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    before = len(os.listdir("/proc/self/fd"))
    images = reader.read(np.arange(70))  # of five tars
    assert len(os.listdir("/proc/self/fd")) - before == 2
    assert np.array_equal(images, read_split(small_set, "train").images)


def test_processes_read_what_this_one_reads(small_set, tmp_path):
    index, numbers = index_of(small_set, tmp_path / "index"), np.array([69, 0, 35])
    images = np.empty((3, 1, 8, 8), np.uint8)
    with SampleWorkers(small_set, index, 1) as workers:
        workers.read(numbers, images)
    assert np.array_equal(images, SampleReader(small_set, index).read(numbers))


def test_a_process_reports_what_is_damaged_and_continues(copy, tmp_path):
    index = index_of(copy, tmp_path / "index")
    change(index, copy / "train-000000.tar", 3, 60, b"\x07\x07\x07")
    image = np.empty((1, 1, 8, 8), np.uint8)
    with SampleWorkers(copy, index, 1) as workers:
        with pytest.raises(DataError, match=r"train-000000\.tar: sample .*: its image is damaged"):
            workers.read(np.array([3]), image)
        workers.read(np.array([4]), image)
    assert np.array_equal(image, SampleReader(copy, index).read(np.array([4])))


def test_a_process_that_is_killed_is_reported(small_set, tmp_path):
    image = np.empty((1, 1, 8, 8), np.uint8)
    with SampleWorkers(small_set, index_of(small_set, tmp_path / "index"), 1) as workers:
        (process,) = workers.processes
        process.kill()
        with pytest.raises(DataError, match=rf"{small_set}: a process that read it exited with status -9, perhaps for"):
            workers.read(np.array([0]), image)


def test_a_clusters_signals_do_not_end_the_processes(small_set, tmp_path):
    index, image = index_of(small_set, tmp_path / "index"), np.empty((1, 1, 8, 8), np.uint8)
    with SampleWorkers(small_set, index, 1) as workers:
        workers.read(np.array([0]), image)
        (process,) = workers.processes
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
        workers.read(np.array([1]), image)
    assert np.array_equal(image, SampleReader(small_set, index).read(np.array([1])))


def test_the_processes_end_when_the_one_that_they_read_for_is_killed(small_set, tmp_path):
    index_of(small_set, tmp_path / "index")
    script = f"""
import time
import zlib
from pathlib import Path
import numpy as np
from shards.reading.sample_workers import SampleWorkers
from shards.reading.split_index import SplitIndex

workers = SampleWorkers(Path({str(small_set)!r}), SplitIndex.read(Path({str(tmp_path / "index")!r})), 2)
for process in workers.processes:
    workers.read(np.array([0]), np.empty((1, 1, 8, 8), np.uint8))
print(*[process.pid for process in workers.processes], flush=True)
time.sleep(60)
"""
    trainer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    readers = [int(pid) for pid in trainer.stdout.readline().split()]
    trainer.kill()
    trainer.wait()
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in readers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [len(readers), *map(_runs, readers)] == [2, False, False]


def _runs(pid: int) -> bool:
    """Whether a process of this command is there: its number may be given to another."""
    command = Path(f"/proc/{pid}/cmdline")
    return command.exists() and b"shards.reading.sample_workers" in command.read_bytes()
