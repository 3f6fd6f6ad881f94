"""FERDataset: a split decoded once a machine, as a PyTorch data set."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import fer_ddp.data
from fer_ddp import FERDataset
from fer_ddp.data import DataConfig, normalization
from fer_ddp.errors import RunError
from shards.errors import DataError
from shards.manifest import read_manifest
from shards.reader import DecodedSplit, read_split

CPU = torch.device("cpu")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds nothing yet."""
    monkeypatch.setenv("FER_DDP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line for each time that a split is decoded, in this process or a fork of it."""
    log = tmp_path / "decoded.txt"
    log.touch()

    def logged(folder: Path, split: str, **more: object) -> DecodedSplit:
        with open(log, "a") as file:
            file.write(f"{split}\n")
        time.sleep(0.2)  # long enough for the others to come by
        return read_split(folder, split, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fer_ddp.data, "read_split", logged)
    return log


def cached(own_cache: Path, name: str) -> Path:
    (found,) = own_cache.glob(f"*/train/{name}")
    return found


def test_it_is_as_long_as_the_split(faces: Path) -> None:
    assert [len(FERDataset(faces, split)) for split in ("train", "val", "test")] == [240, 70, 70]


def test_it_holds_what_the_shards_hold(faces: Path) -> None:
    dataset, split = FERDataset(faces, "train"), read_split(faces, "train")
    assert np.array_equal(dataset.images.numpy(), split.images)
    assert dataset.labels.tolist() == split.labels.tolist()
    assert (dataset.keys, dataset.class_names) == (split.keys, read_manifest(faces).class_names)


def test_it_says_what_it_is(faces: Path) -> None:
    dataset = FERDataset(faces, "val")
    assert (dataset.split, dataset.folder) == ("val", faces)
    assert repr(dataset) == f"FERDataset('{faces}', 'val'): 70 samples, 7 classes"


def test_an_item_is_a_grey_image_of_bytes_and_a_plain_label(faces: Path) -> None:
    dataset = FERDataset(str(faces), "val")
    image, label = dataset[5]
    assert (image.shape, image.dtype, type(label)) == ((1, 48, 48), torch.uint8, int)
    assert torch.equal(image, dataset.images[5])
    assert label == dataset.labels[5]


def test_a_transform_is_applied_to_the_image_alone(faces: Path) -> None:
    dataset = FERDataset(faces, "val", transform=lambda image: image.float().mean().item())
    assert dataset[3] == (dataset.images[3].float().mean().item(), dataset.labels[3])


def test_a_data_loader_with_two_workers_gives_every_sample_in_order(faces: Path) -> None:
    dataset = FERDataset(faces, "test")
    images, labels = zip(*DataLoader(dataset, batch_size=32, num_workers=2), strict=True)
    assert torch.equal(torch.cat(images), dataset.images)
    assert torch.equal(torch.cat(labels), dataset.labels)


def test_a_second_opening_does_not_decode_again(faces: Path, own_cache: Path, decoded: Path) -> None:
    FERDataset(faces, "train")
    FERDataset(faces, "train")
    assert decoded.read_text() == "train\n"


def test_two_processes_that_open_at_once_decode_once(faces: Path, own_cache: Path, decoded: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(2), context.Queue()

    def open_at_once() -> None:
        start.wait()
        results.put(int(FERDataset(faces, "train").images.sum()))

    processes = [context.Process(target=open_at_once) for _ in range(2)]
    for process in processes:
        process.start()
    sums = {results.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert (decoded.read_text(), sums) == ("train\n", {int(read_split(faces, "train").images.sum())})


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "keys.json"])
def test_a_damaged_cache_is_decoded_again(faces: Path, own_cache: Path, decoded: Path, name: str) -> None:
    FERDataset(faces, "train")
    path = cached(own_cache, name)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    again, split = FERDataset(faces, "train"), read_split(faces, "train")
    assert decoded.read_text() == "train\ntrain\n"
    assert np.array_equal(again.images.numpy(), split.images)
    assert (again.labels.tolist(), again.keys) == (split.labels.tolist(), split.keys)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "keys.json", "sha256.json"])
def test_a_cache_with_a_file_missing_is_decoded_again(faces: Path, own_cache: Path, decoded: Path, name: str) -> None:
    FERDataset(faces, "train")
    cached(own_cache, name).unlink()
    assert len(FERDataset(faces, "train")) == 240


def test_another_data_set_has_a_cache_of_its_own(faces: Path, own_cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(faces, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["class_names"][0] = "furious"
    (other / "manifest.json").write_text(json.dumps(manifest))
    names = [FERDataset(folder, "val").class_names[0] for folder in (faces, other)]
    assert (names, len(list(own_cache.iterdir()))) == (["angry", "furious"], 2)


def test_what_is_done_to_the_tensors_stays_out_of_the_cache(faces: Path, own_cache: Path, decoded: Path) -> None:
    dataset = FERDataset(faces, "train")
    dataset.images.zero_()
    dataset.labels.zero_()
    again = FERDataset(faces, "train")
    assert again.images.any()
    assert again.labels.any()
    assert decoded.read_text() == "train\n"


def test_a_webdataset_folder_without_a_manifest_is_scanned(faces: Path, tmp_path: Path) -> None:
    for tar in faces.glob("*.tar"):
        shutil.copy(tar, tmp_path)
    assert torch.equal(FERDataset(tmp_path, "val").images, FERDataset(faces, "val").images)


def test_a_cache_that_cannot_be_written_is_refused_with_another_choice(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FER_DDP_CACHE", str(tmp_path / "file" / "cache"))
    place = tmp_path / "file" / "cache" / read_manifest(faces).digest[:32] / "val"
    with pytest.raises(RunError) as caught:
        FERDataset(faces, "val")
    assert str(caught.value) == (
        f"{place}: the decoded split can't be kept there (Not a directory); "
        f"set FER_DDP_CACHE to a folder with room on a local disk"
    )


def test_a_missing_split_is_refused_with_those_there_are(faces: Path) -> None:
    with pytest.raises(DataError) as caught:
        FERDataset(faces, "valid")
    assert str(caught.value) == f"{faces}: has no valid split; it has train, val, test"


def test_a_truncated_tar_is_refused_by_its_name_and_leaves_no_cache(
    faces: Path, own_cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(faces, folder)
    tar = folder / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(DataError, match=f"{tar}: has 5000 bytes"):
        FERDataset(folder, "train")
    assert list(own_cache.glob("*/train")) == []


def test_normalization_is_the_training_splits_unless_told(faces: Path) -> None:
    manifest = read_manifest(faces)
    mean, std = normalization(DataConfig(path=""), manifest, CPU, torch.float64)
    assert (mean.shape, mean.item(), std.item()) == ((1, 1, 1), manifest.mean[0], manifest.std[0])
    mean, std = normalization(DataConfig(path="", mean=(0.5,), std=(0.25,)), manifest, CPU, torch.float64)
    assert (mean.item(), std.item()) == (0.5, 0.25)


def test_a_script_without_a_main_guard_decodes_a_split(tmp_path: Path) -> None:
    from shards.packer import pack
    from shards.sources.synthetic_faces import Faces, scan_faces

    faces = tmp_path / "several_shards"
    pack(partial(scan_faces, Faces(train=40, val=7, test=7)), faces, shard_samples=20)
    script = tmp_path / "script.py"
    script.write_text(f"from fer_ddp import FERDataset\nprint(len(FERDataset({str(faces)!r}, 'train')))\n")
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"FER_DDP_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=25,
    )
    assert (done.returncode, done.stdout) == (0, "40\n"), done.stderr
