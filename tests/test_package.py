"""The wheel holds all that a user needs, and the sdist all that makes the same wheel."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling")

ROOT = Path(__file__).parents[1]


def build(source: Path, out: Path) -> tuple[Path, Path]:
    """The sdist and the wheel of ``source``."""
    words = [sys.executable, "-m", "hatchling", "build", "-d", str(out), "-t", "sdist", "-t", "wheel"]
    subprocess.run(words, cwd=source, check=True, capture_output=True, timeout=60)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def names_in(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(pattern) if "__pycache__" not in path.parts)


def test_the_wheel_holds_every_module_recipe_and_data_file(built: tuple[Path, Path]) -> None:
    packed = zipfile.ZipFile(built[1]).namelist()
    modules = [f"{name}/{file}" for name in ("shards", "fer_ddp", "launch") for file in names_in(ROOT / name, "*.py")]
    recipes = [f"fer_ddp/recipes/{file}" for file in names_in(ROOT / "jobs", "*.yaml")]
    others = [f"{package}/py.typed" for package in ("shards", "fer_ddp", "launch")]
    of_report = ("across.html.jinja", "claims.yaml", "page.css", "page.html.jinja", "published.yaml")
    others += [f"fer_ddp/report/{file}" for file in of_report]
    metadata = [name for name in packed if ".dist-info/" in name]
    assert sorted(packed) == sorted([*modules, *recipes, *others, *metadata])


def test_the_wheel_gives_the_command_and_the_license(built: tuple[Path, Path]) -> None:
    wheel = zipfile.ZipFile(built[1])
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert wheel.read(entry_points).decode().split("\n")[:2] == [
        "[console_scripts]",
        "fer-ddp = launch.__main__:fer_ddp_command",
    ]
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_the_sdist_builds_the_same_wheel_and_has_the_tests(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[0]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert build(source, tmp_path / "dist")[1].read_bytes() == built[1].read_bytes()
    for folder in ("tests", "jobs"):
        assert names_in(source / folder, "*.*") == names_in(ROOT / folder, "*.*")


def test_building_leaves_nothing_behind(built: tuple[Path, Path]) -> None:
    assert [name for name in ("build", "dist") if (ROOT / name).exists()] == []
