"""`predict --faces` and videos: where faces are found, how each is cut out, and what has none."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_ddp
from fer_ddp.__main__ import main
from fer_ddp.deploy import faces as faces_module
from fer_ddp.deploy.faces import FaceDetector, _square
from fer_ddp.deploy.video import _opencv
from shards.sources.synthetic_faces import draw_faces

cv2 = _opencv("the tests")
RUN = Path(__file__).parents[2] / "data" / "runs_35d5d40" / "finished"
"""A finished run, of two convolutions in float64."""


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def montage() -> Image.Image:
    """A large and a small drawn face, of those that MTCNN takes for faces (about half), on grey."""
    picture = Image.new("RGB", (400, 240), (110, 120, 130))
    for label, side, place in ((0, 140, (40, 60)), (6, 90, (260, 100))):
        face = Image.fromarray(draw_faces(np.array([label]), np.random.default_rng(label))[0])
        picture.paste(face.resize((side, side), Image.Resampling.BICUBIC), place)
    return picture


def test_faces_of_two_sizes_are_found_and_only_these(detector: FaceDetector, montage: Image.Image) -> None:
    boxes = detector(montage)
    assert len(boxes) == 2
    for (left, top, right, bottom), (x, y, side) in zip(boxes, ((40, 60, 140), (260, 100, 90)), strict=True):
        assert right - left == bottom - top
        assert right - left == pytest.approx(side, rel=0.25)
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((x + side / 2, y + side / 2), abs=0.15 * side)


def test_the_scale_makes_boxes_larger_around_the_same_centres(detector: FaceDetector, montage: Image.Image) -> None:
    for tight, loose in zip(detector(montage), FaceDetector(1.3)(montage), strict=True):
        assert loose[2] - loose[0] == pytest.approx(1.3 * (tight[2] - tight[0]), abs=1)
        assert loose[0] + loose[2] == pytest.approx(tight[0] + tight[2], abs=2)


def test_a_large_photograph_has_the_same_faces(detector: FaceDetector, montage: Image.Image) -> None:
    large = [np.array(box) / 8 for box in detector(montage.resize((3200, 1920), Image.Resampling.BICUBIC))]
    np.testing.assert_allclose(large, detector(montage), atol=12)


@pytest.mark.parametrize(
    ("centre", "box"),
    [((50, 40), (40, 30, 60, 50)), ((3, 40), (0, 30, 20, 50)), ((99, 79), (80, 60, 100, 80))],
    ids=["inside", "left", "corner"],
)
def test_a_box_beyond_the_image_is_moved_inside(centre: tuple[int, int], box: tuple[int, ...]) -> None:
    assert _square(*centre, 20, (100, 80)) == box


def test_every_face_is_predicted_as_its_part_of_the_image_is(
    detector: FaceDetector, montage: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    montage.save(tmp_path / "two.png")
    Image.new("RGB", (200, 200), "green").save(tmp_path / "none.png")
    words = ["predict", str(RUN), str(tmp_path / "*.png"), "--faces", "--csv", str(tmp_path / "faces.csv")]
    assert main([*words, "--json", "--draw", str(tmp_path / "drawn")]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == f"note: {tmp_path}/none.png: no face found"
    boxes = detector(montage)
    expected = fer_ddp.load(RUN, "cpu").predict([np.asarray(montage.crop(box).convert("L")) for box in boxes])
    rows = json.loads(out)
    assert [row["box"] for row in rows] == [list(box) for box in boxes]
    assert [row["class"] for row in rows] == list(expected.classes)
    found = [list(row["probabilities"].values()) for row in rows]
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-12)
    header, *table = csv.reader((tmp_path / "faces.csv").read_text().splitlines())
    assert header[:6] == ["path", "left", "top", "right", "bottom", "label"]
    assert [[int(value) for value in row[1:5]] for row in table] == [list(box) for box in boxes]
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["two.png.png"]


def test_without_the_package_a_message_tells_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(faces_module, "find_spec", lambda name: None)
    assert main(["predict", str(RUN), str(tmp_path), "--faces"]) == 2
    assert "pip install 'fer-ddp[faces]'" in capsys.readouterr().err


def write_video(path: Path, frames: int) -> None:
    """Frames whose grey level is ten times their number, ten a second."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(frames):
        video.write(np.full((48, 64, 3), 10 * number, np.uint8))
    video.release()


def test_every_third_frame_of_a_video_is_predicted_with_its_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "clip.avi", 10)
    table = tmp_path / "table.csv"
    assert main(["predict", str(RUN), str(tmp_path / "clip.avi"), "--every", "3", "--csv", str(table)]) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(row["seconds"]) for row in rows] == pytest.approx([0, 0.3, 0.6, 0.9], abs=0.01)
    model = fer_ddp.load(RUN, "cpu")
    expected = model.predict([np.full((48, 48), 10 * number, np.uint8) for number in (0, 3, 6, 9)]).probabilities
    found = [[float(row[name]) for name in model.class_names] for row in rows]
    np.testing.assert_allclose(found, expected, atol=0.02)  # JPEG's levels


@pytest.mark.parametrize("content", [b"\0\0\0\x18ftypisom", b""], ids=["damaged", "empty"])
def test_a_video_without_frames_is_one_message(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    assert main(["predict", str(RUN), str(tmp_path / "clip.mp4")]) == 1
    assert capfd.readouterr().err == f"error: {tmp_path}/clip.mp4: is a video without frames that OpenCV can read\n"
