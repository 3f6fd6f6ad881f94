"""People's votes as a reference: shares by hand, and votes read from shards."""

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import write_run

from fer_ddp.report.collect import Recipe, collect_runs
from fer_ddp.report.data_folder import find_data
from fer_ddp.report.label_noise import LabelNoise, NoiseGroup, label_noise
from shards.labels import FER2013_CLASSES
from shards.manifest import read_manifest
from shards.packing.packer import pack
from shards.reading.votes import read_votes
from shards.sources.registry import source_of

#            neutral happy surprise sad anger disgust fear contempt unknown NF
VOTES = np.array(
    [
        [0, 10, 0, 0, 0, 0, 0, 0, 0, 0],  # happy: all agree, with the label
        [8, 0, 0, 2, 0, 0, 0, 0, 0, 0],  # labelled sad: people agree on something else
        [0, 0, 0, 6, 4, 0, 0, 0, 0, 0],  # sad
        [5, 0, 0, 5, 0, 0, 0, 0, 0, 0],  # sad: two categories have as many votes
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],  # without votes
    ]
)
HAPPY, SAD = FER2013_CLASSES.index("happy"), FER2013_CLASSES.index("sad")
LABELS = np.array([HAPPY, SAD, SAD, SAD, SAD])


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """It takes every image for sad."""
    made = write_run(tmp_path / "run", {"val": (LABELS, np.eye(7)[[SAD] * 5])}, classes=FER2013_CLASSES)
    return collect_runs([made]).recipes[0]


def test_votes_are_compared_with_labels_and_with_the_model(recipe: Recipe) -> None:
    noise = label_noise(VOTES, LABELS, FER2013_CLASSES, [recipe], "val", np.ones(5, bool))
    assert noise == LabelNoise(
        samples=4,
        without=1,
        one_person=(1.0 + 0.2 + 0.6 + 0.5) / 4,
        two_people=pytest.approx((90 + 56 + 2 + 30 + 12 + 20 + 20) / 90 / 4),
        everyone=NoiseGroup(name="all", samples=4, people=(1 + 0 + 1 + 0.5) / 4, recipes=(0.75,)),
        groups=(
            NoiseGroup(name="agree", samples=2, people=0.5, recipes=(0.5,)),
            NoiseGroup(name="mostly agree", samples=1, people=1.0, recipes=(1.0,)),
            NoiseGroup(name="are divided", samples=1, people=0.5, recipes=(1.0,)),
        ),
        majority_is_label=NoiseGroup(name="mostly name the label", samples=2, people=1.0, recipes=(0.5,)),
        majority_is_other=NoiseGroup(name="mostly name something else", samples=1, people=0.0, recipes=(1.0,)),
    )


def test_samples_that_do_not_count_are_left_out(recipe: Recipe) -> None:
    noise = label_noise(VOTES, LABELS, FER2013_CLASSES, [recipe], "val", np.array([False, True, True, False, False]))
    assert noise is not None
    assert (noise.samples, noise.without, noise.everyone.people) == (2, 0, 0.5)


def test_other_classes_than_fer2013s_have_no_votes(recipe: Recipe) -> None:
    assert label_noise(VOTES, LABELS % 2, ("calm", "glad"), [recipe], "val", np.ones(5, bool)) is None


def test_votes_are_read_from_the_shards_by_key(tmp_path: Path) -> None:
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    rows = ["3,1 2 3 4,Training", "4,5 6 7 8,PublicTest", "6,9 9 9 9,PublicTest"]
    votes = [
        "Training,a.png,0,10,0,0,0,0,0,0,0,0",
        "PublicTest,b.png,8,0,0,2,0,0,0,0,0,0",
        "PublicTest,,0,0,0,0,0,0,0,0,0,10",
    ]
    for name, first, lines in (("fer.csv", "emotion,pixels,Usage", rows), ("votes.csv", header, votes)):
        (tmp_path / name).write_text("\n".join([first, *lines]) + "\n")
    pack(source_of(tmp_path / "fer.csv", "auto", tmp_path / "votes.csv"), tmp_path / "data")
    digest = read_manifest(tmp_path / "data").digest
    labels = np.array([6, 4])
    keys = ["row-0000003", "row-0000002"]
    options = {"classes": FER2013_CLASSES, "digest": digest, "data": str(tmp_path / "data"), "keys": {"val": keys}}
    write_run(tmp_path / "run", {"val": (labels, np.eye(7)[labels])}, **options)  # type: ignore[arg-type]
    data, why_not = find_data(collect_runs([tmp_path / "run"]))
    assert data is not None, why_not
    assert read_votes(data.path, "val", data.manifest, keys).tolist() == [[0] * 10, [8, 0, 0, 2, 0, 0, 0, 0, 0, 0]]


def test_a_folder_that_holds_other_data_now_is_not_used(faces: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"val": (LABELS, np.eye(7)[LABELS])}, classes=FER2013_CLASSES, data=str(faces))
    digest = read_manifest(faces).digest[:12]
    assert find_data(collect_runs([tmp_path / "run"])) == (
        None,
        f"The data are not accessible ({faces}: holds other data now (digest {digest})).",
    )
