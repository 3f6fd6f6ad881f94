"""The README's commands run, in its order, and its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import launching
import numpy as np
import pytest
from forking import run_forked
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def write_small_csv(path: Path) -> None:
    """FER2013's format with 128 + 14 + 14 images of noise."""
    generator = np.random.default_rng(0)
    rows = ["emotion,pixels,Usage"]
    for usage, count in (("Training", 128), ("PublicTest", 14), ("PrivateTest", 14)):
        for row in range(count):
            pixels = generator.integers(0, 256, 48 * 48)
            rows.append(f"{row % 7},{' '.join(map(str, pixels))},{usage}")
    path.write_text("\n".join(rows) + "\n")


def write_photographs(folder: Path) -> None:
    """Colour images of noise, 80 x 60, 20 in each of FER2013's classes and none in a split's folder."""
    generator = np.random.default_rng(1)
    for name in ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(generator.integers(0, 256, (60, 80, 3), np.uint8)).save(folder / name / f"{number}.jpg")


def run(command: str, folder: Path, is_real: bool) -> subprocess.CompletedProcess[str]:
    """Run ``command`` in ``folder``; unless ``is_real``, fer-ddp and torchrun in processes that need not load."""
    program, *words = shlex.split(command)
    if program == "fer-ddp" and not is_real:
        return run_forked(1, str(Path(sys.executable).with_name(program)), *words, cwd=folder)
    start = launching.command(2)[3:]  # what other tests start as it is here
    if program == "torchrun" and words[: len(start)] == start:
        return run_forked(2, *words[len(start) :], cwd=folder)
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=200)


def test_the_commands_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small_csv(tmp_path / "fer2013.csv")
    Image.new("L", (60, 60), 128).save(tmp_path / "face.png")
    write_photographs(tmp_path / "photographs")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    outcomes = []
    for command in COMMANDS:
        if command.startswith(("make ", "pip ")):  # tested where the targets and the wheel are
            continue
        shortened = f"{command} epochs=1" if re.search(" (train|local) ", command) else command
        done = run(shortened, tmp_path, is_real=not outcomes)
        outcomes.append((command, done.returncode, done.stderr if done.returncode else ""))
    assert [command for command, _, _ in outcomes if " train " in command]
    assert outcomes == [(command, 0, "") for command, _, _ in outcomes]


def test_the_make_targets_exist() -> None:
    targets = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets
    assert [target for target in sorted(targets) if f"make {target} " not in listed] == []


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))])
def test_links_to_files_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if not target.startswith("http")]
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []
