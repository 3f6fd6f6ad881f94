"""Which code runs: its commit and a digest of its files."""

import hashlib
import json
import subprocess
from pathlib import Path

PACKAGES = ("shards", "fer_ddp", "launch")
COMMIT_FILE = "commit.json"
"""Where a copy of the code says which commit it was taken from."""


def code_root() -> Path:
    """The folder that holds the packages."""
    return Path(__file__).parents[2]


def code_version() -> dict[str, str | None]:
    """``commit``: with ``+`` if files were changed, None outside a checkout; ``sha256``: of all Python files."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((code_root() / package).rglob("*.py")):
            digest.update(f"{path.relative_to(code_root())}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return {"commit": _commit(), "sha256": digest.hexdigest()}


def _commit() -> str | None:
    copied_from = code_root() / COMMIT_FILE
    if copied_from.exists():
        commit: str | None = json.loads(copied_from.read_text())
        return commit
    if not (code_root() / ".git").exists():  # an installed package, perhaps inside another project's checkout
        return None
    try:
        head = _git("rev-parse", "HEAD")
        dirty = _git("status", "--porcelain")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout else "") if head.returncode == 0 else None


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=code_root(), capture_output=True, text=True, timeout=5)
