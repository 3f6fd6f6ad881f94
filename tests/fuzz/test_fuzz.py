"""Generated bad input ends in a documented status and a message; `make test-fuzz` tries thousands, of every kind."""

import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).with_name("run.py")
KINDS = ("fer_csv", "votes", "list_csv", "folders", "images", "manifests", "schemes", "command_lines")


def test_bad_sources_data_sets_and_command_lines_are_refused(tmp_path: Path) -> None:
    words = ["200", *(word for kind in KINDS for word in ("--grammar", kind))]
    command = [sys.executable, RUN, *words, "--keep", tmp_path / "kept", "--json", tmp_path / "table.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(row["inputs"] for row in json.loads((tmp_path / "table.json").read_text()).values()) == 200
