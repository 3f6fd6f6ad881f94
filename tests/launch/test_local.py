"""An array on this machine: one member after another, and again only what is not finished."""

import csv
import subprocess
import sys
from pathlib import Path

import yaml


def local(workplace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-P", "-m", "launch", "local", "jobs/arrays/four.yaml", "--ranks", "1", *arguments]
    return subprocess.run(words, cwd=workplace, capture_output=True, text=True, timeout=300)


def test_a_failed_member_does_not_hide_the_others_and_the_same_command_does_what_is_left(workplace: Path) -> None:
    array = {"jobs": ["../tiny.yaml"], "seeds": [0, 1], "overrides": {"epochs": 1}}
    (workplace / "jobs/arrays/four.yaml").write_text(yaml.safe_dump(array))
    first = local(workplace)
    assert (first.returncode, first.stdout.splitlines()) == (
        0,
        [
            "tiny-seed0: started",
            "tiny-seed0: finished",
            "tiny-seed1: started",
            "tiny-seed1: finished",
            "look at runs/four.launch/report.html",
        ],
    ), first.stderr
    run = workplace / "runs/four/tiny-seed0"
    (run / "status.json").write_text((run / "status.json").read_text().replace("finished", "running"))
    (run / "checkpoints/last.safetensors").write_bytes(b"damaged")
    second = local(workplace)
    assert (second.returncode, second.stdout.splitlines(), second.stderr) == (
        1,
        [
            "four: 1 of 2 were finished before",
            "tiny-seed0: started",
            "tiny-seed0: failed; runs/four.launch/logs/tiny-seed0.log tells how",
            "look at runs/four.launch/report.html",
        ],
        "error: four: 1 of 2 failed (tiny-seed0)\n",
    )
    rows = csv.DictReader((workplace / "runs/four.launch/report.csv").read_text().splitlines())
    assert [(row["run"], bool(row["left_out"])) for row in rows] == [
        ("runs/four/tiny-seed1", False),
        ("runs/four/tiny-seed0", True),
    ]
