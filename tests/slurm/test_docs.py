"""The commands of docs/slurm.md run, in its order."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from launching import ROOT
from slurm_cluster import Cluster

pytestmark = pytest.mark.slurm

PAGE = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_the_commands_of_the_page_run_one_after_another(faces: Path, tmp_path: Path, cluster: Cluster) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fer2013").symlink_to(faces)
    small = {
        "jobs": ["baseline", "baseline_regularization", "baseline_augmentation"],
        "seeds": [0],
        "overrides": {"epochs": 1, "precision": "float32", "memory_format": "contiguous"},
    }
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(small))
    profile = {"gpus_per_node": 0, "cpus_per_node": 1, "memory_gb": 2, "time_minutes": 10}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile))
    python = Path(sys.executable).parent
    environment = cluster.environment | {"PATH": f"{python}:{cluster.environment['PATH']}", "PYTHONPATH": str(ROOT)}
    outcomes = []
    for command in COMMANDS:
        if " logs " in command:
            cluster.wait_until(lambda: any((tmp_path / "runs/quick.launch/logs").rglob("*_0_0_log.out")))
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        outcomes.append((command, done.returncode, done.stderr))
    assert outcomes == [(command, 0, "") for command in COMMANDS]
    assert len(COMMANDS) == 6
    report = tmp_path / "runs/quick.launch/report.csv"
    cluster.wait_until(report.exists, 180)
    assert len(report.read_text().splitlines()) == 1 + 3
