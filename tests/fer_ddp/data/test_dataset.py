"""FERDataset: a split decoded once a machine, as a PyTorch data set."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fer_ddp import FERDataset
from fer_ddp.data.dataset import DataConfig, normalization, with_statistics
from shards.errors import DataError
from shards.manifest import read_manifest
from shards.reading.reader import read_split

CPU = torch.device("cpu")


def test_it_is_as_long_as_the_split(faces: Path) -> None:
    assert [len(FERDataset(faces, split)) for split in ("train", "val", "test")] == [240, 70, 70]


def test_it_holds_what_the_shards_hold(faces: Path) -> None:
    dataset, split = FERDataset(faces, "train"), read_split(faces, "train")
    assert np.array_equal(dataset.images.numpy(), split.images)
    assert dataset.labels.tolist() == split.labels.tolist()
    assert (dataset.keys, dataset.class_names) == (split.keys, read_manifest(faces).class_names)


def test_its_repr_names_its_folder_split_and_sizes(faces: Path) -> None:
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


def test_a_webdataset_folder_without_a_manifest_is_scanned(faces: Path, tmp_path: Path) -> None:
    for tar in faces.glob("*.tar"):
        shutil.copy(tar, tmp_path)
    assert torch.equal(FERDataset(tmp_path, "val").images, FERDataset(faces, "val").images)


def test_a_missing_split_is_refused_with_those_there_are(faces: Path) -> None:
    with pytest.raises(DataError) as caught:
        FERDataset(faces, "valid")
    assert str(caught.value) == f"{faces}: has no valid split; it has train, val, test"


def test_normalization_is_the_training_splits_unless_given(faces: Path) -> None:
    manifest = read_manifest(faces)
    mean, std = normalization(with_statistics(DataConfig(path=""), manifest), CPU, torch.float64)
    assert (mean.shape, mean.item(), std.item()) == ((1, 1, 1), manifest.mean[0], manifest.std[0])
    given = DataConfig(path="", mean=(0.5,), std=(0.25,))
    mean, std = normalization(with_statistics(given, manifest), CPU, torch.float64)
    assert (mean.item(), std.item()) == (0.5, 0.25)


def test_a_script_without_a_main_guard_decodes_a_split(tmp_path: Path) -> None:
    from shards.packing.packer import pack
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
