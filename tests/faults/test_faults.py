"""Twenty seeded faults; ``make test-faults`` runs as many as wanted, docs/reliability.md has its table."""

import subprocess
import sys

from launching import ROOT


def test_twenty_struck_runs_end_in_the_undisturbed_bytes_or_a_refusal() -> None:
    # W&B's server and torchrun have tests of their own, and take ten seconds each here.
    words = ["tests/faults/run_faults.py", "20", "--without", "wandb_server", "launcher", "--at-once", "2"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all " in done.stdout
