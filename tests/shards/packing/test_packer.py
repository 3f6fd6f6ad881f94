"""Packing: the same bytes always, whole or absent."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.errors import DataError
from shards.files import partial_folder
from shards.labels import FER2013_CLASSES
from shards.manifest import read_manifest
from shards.packing.packer import pack, permutation, shard_sizes
from shards.reading.reader import read_split
from shards.sources.registry import source_of
from shards.sources.synthetic_faces import Faces, scan_faces

FOLDERS = ("anger", "Disgust", "fearful", "happy", "Sadness", "surprised", "neutral")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_bytes(workers, small_csv, small_set, tmp_path):
    pack(source_of(small_csv), tmp_path / "again", shard_samples=16, workers=workers)
    assert contents(tmp_path / "again") == contents(small_set)


def test_a_folder_holds_its_shards_and_its_manifest_and_nothing_else(small_set):
    trains = [f"train-{number:06d}.tar" for number in range(5)]
    assert sorted(path.name for path in small_set.iterdir()) == [
        "manifest.json",
        "test-000000.tar",
        *trains,
        "val-000000.tar",
    ]


def test_the_manifest_says_what_the_files_are(small_set):
    shards = [shard for split in read_manifest(small_set).splits.values() for shard in split.shards]
    found = {shard.name: (shard.bytes, shard.sha256) for shard in shards}
    assert found == {
        path.name: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in small_set.glob("*.tar")
    }


def test_mean_and_standard_deviation_are_those_of_train(small_set, rows):
    manifest = read_manifest(small_set)
    train = rows.images[:70] / 255
    assert manifest.mean == pytest.approx([train.mean()], abs=1e-12)
    assert manifest.std == pytest.approx([train.std()], abs=1e-12)


def test_class_counts_are_in_label_order(write_csv, pack_source):
    manifest = pack_source(write_csv(["6,1 2 3 4,Training", "0,1 2 3 5,Training", "6,1 2 3 6,Training"]))
    assert manifest.splits["train"].class_counts == (1, 0, 0, 0, 0, 0, 2)


def test_members_are_plain_ustar_without_time_or_owner(small_set):
    with tarfile.open(small_set / "train-000000.tar") as tar:
        members = tar.getmembers()
    assert len(members) == 28
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode, one.type) for one in members} == {
        (0, 0, 0, "", "", 0o644, tarfile.REGTYPE)
    }
    assert not any(one.pax_headers for one in members)


def test_another_seed_puts_the_same_samples_in_another_order(small_csv, small_set, tmp_path):
    pack(source_of(small_csv), tmp_path / "other", shard_samples=16, seed=1)
    one, other = read_split(small_set, "train"), read_split(tmp_path / "other", "train")
    assert one.keys != other.keys
    assert sorted(one.keys) == sorted(other.keys)


def test_the_order_by_seed_is_fixed_for_good():
    """If this fails, equal commands give other bytes than they gave before."""
    assert permutation(8, 0, "train").tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


def test_the_order_is_a_permutation():
    assert sorted(permutation(1000, 3, "val").tolist()) == list(range(1000))


@pytest.mark.parametrize(
    ("samples", "at_most", "sizes"),
    [(1, 2048, [1]), (2048, 2048, [2048]), (2049, 2048, [1025, 1024]), (10, 3, [3, 3, 2, 2]), (9, 3, [3, 3, 3])],
)
def test_shard_sizes_differ_by_one_at_most(samples, at_most, sizes):
    assert shard_sizes(samples, at_most) == sizes


def test_packing_the_same_again_leaves_the_folder_as_it_is(small_csv, tmp_path):
    first = pack(source_of(small_csv), tmp_path / "out")
    changed_at = (tmp_path / "out").stat().st_mtime_ns
    again = pack(source_of(small_csv), tmp_path / "out")
    assert (first.created, again.created) == (True, False)
    assert (tmp_path / "out").stat().st_mtime_ns == changed_at


def test_a_data_set_that_is_not_written_over_keeps_its_list_of_rejects(write_csv, pack_source, tmp_path):
    rows = ["0,1 2 3 4,Training", "1,5 6 7 8,Training"]
    pack_source(write_csv([*rows, "9,1 1 1 1,Training"]), max_rejects=1)
    with pytest.raises(DataError, match="exists and is another data set"):
        pack_source(write_csv(rows))
    assert "row 3" in (tmp_path / "out.rejects.csv").read_text()


def test_another_data_set_is_not_written_over(small_csv, tmp_path):
    pack(source_of(small_csv), tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match="exists and is another data set") as caught:
        pack(source_of(small_csv), tmp_path / "out", seed=1)
    assert caught.value.exit_status == 2
    assert contents(tmp_path / "out") == before


def test_a_damaged_copy_is_not_taken_for_the_same(small_csv, tmp_path):
    pack(source_of(small_csv), tmp_path / "out")
    (tmp_path / "out" / "val-000000.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"its val-000000\.tar is missing or damaged; remove it"):
        pack(source_of(small_csv), tmp_path / "out")


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder"])
def test_what_is_not_a_data_set_is_not_touched(kind, small_csv, tmp_path):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
    if kind == "folder":
        (out / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="exists and is not a data set; choose another name") as caught:
        pack(source_of(small_csv), out)
    assert caught.value.exit_status == 2
    assert out.is_dir() == (kind != "file")


def test_a_failure_leaves_nothing_half_written(write_csv, pack_source, tmp_path):
    with pytest.raises(DataError):
        pack_source(write_csv(["3,1 2 3 4,Training", "9,1 2 3 4,Training"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fer.csv", "out.rejects.csv"]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["ctrl-c", "terminate", "hang up"]
)
def test_an_interrupt_leaves_nothing_half_written(number, tmp_path):
    command = [sys.executable, "-m", "shards", "fake", str(tmp_path / "out"), "--train", "100000", "--workers", "1"]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background job or nohup ignores it
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.partial-*/pixels.bin")) and time.monotonic() < deadline:
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does it
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "shards fake: stopped; nothing was written\n")
    assert not list(tmp_path.iterdir())


def test_a_pack_that_is_killed_leaves_no_process_and_the_next_one_removes_its_folder(small_csv, tmp_path):
    command = [sys.executable, "-m", "shards", "fake", str(tmp_path / "out"), "--train", "100000", "--workers", "2"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.partial-*/pixels.bin")) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (left,) = tmp_path.iterdir()
    process.kill()
    process.wait()
    while [pid for pid in workers if _runs(pid)] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (len(workers), [pid for pid in workers if _runs(pid)]) == (2, [])
    packed = pack(source_of(small_csv), tmp_path / "out")
    assert f"{left}: a killed pack had left it; removed" in packed.notes
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"  # nobody waits for an orphan
    except FileNotFoundError:
        return False


def test_the_folder_of_a_pack_that_runs_is_left(small_csv, tmp_path):
    with partial_folder(tmp_path / "out") as folder:
        assert pack(source_of(small_csv), tmp_path / "out").created
        assert folder.is_dir()
    assert not folder.exists()


def test_a_worker_that_is_killed_is_reported_in_one_message(tmp_path):
    with pytest.raises(DataError, match="a worker process was killed"):
        pack(_kill_a_worker, tmp_path / "out", workers=1)
    assert not list(tmp_path.iterdir())


def _kill_a_worker(work, pool, workers):
    pool.submit(os._exit, 1).result()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers is 0; it should be 1 or more"),
        ({"shard_samples": 0}, "--shard-samples is 0; it should be 1 or more"),
        ({"max_rejects": -1}, "--max-rejects is -1; it should be 0 or more"),
        ({"seed": -1}, "--seed is -1; it should be 0 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, message, small_csv, tmp_path):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        pack(source_of(small_csv), tmp_path / "out", **options)
    assert caught.value.exit_status == 2


def test_duplicates_are_counted_within_and_across_splits(write_csv, pack_source):
    lines = [
        "0,1 2 3 4,Training",
        "0,1 2 3 4,Training",
        "1,1 2 3 4,PublicTest",
        "2,9 9 9 9,PublicTest",
        "3,9 9 9 9,PublicTest",
        "4,9 9 9 9,PrivateTest",
        "5,5 5 5 0,PrivateTest",
        "5,0 5 5 5,Training",
    ]
    duplicates = pack_source(write_csv(lines)).duplicates
    assert duplicates.within == {"train": 1, "val": 1, "test": 0}
    assert duplicates.across == {"train/val": 1, "train/test": 0, "val/test": 1}
    assert duplicates.conflicting_groups == {"all": 2, "train": 0, "val": 1, "test": 0}


def test_images_that_differ_in_trailing_zeros_only_are_not_duplicates(write_csv, pack_source):
    duplicates = pack_source(write_csv(["0,7 0 0 0,Training", "0,7 7 0 0,Training"])).duplicates
    assert duplicates.within == {"train": 0}


def test_images_that_differ_are_not_duplicates(small_set):
    assert read_manifest(small_set).duplicates.within == {"train": 0, "val": 0, "test": 0}


def test_faces_are_the_same_on_any_number_of_workers(tmp_path):
    faces = partial(scan_faces, Faces(train=450, val=7, test=0, seed=3))
    one, two = (pack(faces, tmp_path / str(workers), workers=workers).manifest for workers in (1, 2))
    assert one == two
    assert list(one.splits) == ["train", "val"]


def test_torch_and_webdataset_are_not_imported_by_reading_or_packing(tmp_path):
    code = (
        "import sys, shards.__main__ as m; from pathlib import Path; from shards.reading.reader import read_split\n"
        f"out = {str(tmp_path / 'out')!r}\n"
        "m.main(['fake', out, '--train', '14', '--val', '7', '--test', '0', '--workers', '1'])\n"
        "m.main(['inspect', out]); read_split(Path(out), 'train')\n"
        "print(sorted({'torch', 'webdataset'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


def test_each_split_has_an_order_of_its_own():
    assert not np.array_equal(permutation(100, 0, "train"), permutation(100, 0, "val"))


def test_a_csv_and_folders_give_the_bytes_that_they_gave_in_version_0_1(small_set, rows, pack_source, tmp_path):
    """If this fails, equal commands give other bytes than they gave before."""
    for place, (image, label) in enumerate(zip(rows.images, rows.labels, strict=True)):
        folder = tmp_path / "faces" / ("train" if place < 70 else "test") / FOLDERS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{place}.png")
    manifest = pack_source(tmp_path / "faces")
    assert manifest.class_names == FER2013_CLASSES
    tars = [b"".join(path.read_bytes() for path in sorted(out.glob("*.tar"))) for out in (small_set, tmp_path / "out")]
    assert [hashlib.sha256(tar).hexdigest()[:16] for tar in tars] == ["6b798e3952665843", "9e2f38582e951316"]
