"""Starts real commands of the project, and torchrun, as a user would."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def torchrun(ranks: int, *arguments: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` on ``ranks`` ranks; without torchrun for one."""
    return subprocess.run(
        command(ranks, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


def command(ranks: int, *arguments: str) -> list[str]:
    """The command line of ``python ARGUMENTS`` on ``ranks`` ranks."""
    if ranks == 1:
        return [sys.executable, *arguments]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*launcher, *arguments]


def run_files(run: Path) -> dict[str, bytes]:
    """The files of a run that must be reproducible, by name."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file()
        and path.name not in ("environment.json", "timing.jsonl", "status.json", ".lock", ".evaluate.lock")
        and "wandb" not in path.relative_to(run).parts
    }
