"""One face in every form that a photograph has gets the same prediction, to what resizing and JPEG explain."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_ddp
from shards.sources.synthetic_faces import draw_faces

RUN = Path(__file__).parents[2] / "data" / "runs_35d5d40" / "finished"
"""A finished run, of two convolutions in float64."""
FACES = draw_faces(np.array([3, 6]), np.random.default_rng(0))
TURNS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""How a camera's pixels lie, by the EXIF orientation that makes them upright again."""


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def forms(face: np.ndarray) -> dict[str, bytes]:
    """A face of 48 x 48 as the files that people have, 1200 pixels wide but for the first."""
    small = Image.fromarray(face)
    grey = small.resize((1200, 1200), Image.Resampling.BICUBIC)
    colour = grey.convert("RGB")
    transparent = colour.convert("RGBA")
    transparent.putalpha(255)
    files = {
        "48 px grey PNG": saved(small, "PNG", compress_level=1),
        "PNG": saved(colour, "PNG", compress_level=1),
        "JPEG": saved(colour, "JPEG", quality=90),
    }
    for orientation in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = colour.transpose(TURNS[orientation]) if orientation in TURNS else colour
        files[f"JPEG, EXIF {orientation}"] = saved(turned, "JPEG", quality=90, exif=exif)
    files["RGBA PNG"] = saved(transparent, "PNG", compress_level=1)
    files["CMYK JPEG"] = saved(colour.convert("CMYK"), "JPEG", quality=90)
    files["16-bit PNG"] = saved(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG", compress_level=1)
    files["WebP"] = saved(colour, "WEBP", quality=90, method=0)
    return files


@pytest.fixture(scope="module")
def probabilities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """(faces, classes) of each form."""
    folder = tmp_path_factory.mktemp("forms")
    paths: dict[str, list[Path]] = {}
    for number, face in enumerate(FACES):
        for form, content in forms(face).items():
            path = folder / f"{form}-{number}"
            path.write_bytes(content)
            paths.setdefault(form, []).append(path)
    model = fer_ddp.load(RUN, "cpu")
    return {form: model.predict(files).probabilities for form, files in paths.items()}


def test_the_same_face_has_the_same_class_in_every_form(probabilities: dict[str, np.ndarray]) -> None:
    expected = probabilities["48 px grey PNG"].argmax(axis=1).tolist()
    assert {form: rows.argmax(axis=1).tolist() for form, rows in probabilities.items()} == dict.fromkeys(
        probabilities, expected
    )


def test_lossless_forms_differ_by_nothing_lossy_ones_by_little_and_the_small_face_by_what_resizing_does(
    probabilities: dict[str, np.ndarray],
) -> None:
    differences = {form: np.abs(rows - probabilities["PNG"]).max() for form, rows in probabilities.items()}
    resized = differences.pop("48 px grey PNG")
    assert 0 < resized < 0.005  # enlarged by a bicubic filter, and back by a bilinear one
    lossless = {form: differences.pop(form) for form in ("PNG", "RGBA PNG", "16-bit PNG")}
    assert lossless == dict.fromkeys(lossless, 0)
    assert len(differences) == 7
    assert {form: value for form, value in differences.items() if value > 0.001} == {}
