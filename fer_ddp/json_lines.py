"""Files of one JSON object a line, that grow while they are read."""

import json
from pathlib import Path
from typing import Any

from fer_ddp.errors import RunError


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``.jsonl`` file, none if it is absent; what has no end yet, or was cut short, is left out.

    Raises RunError if a line is damaged.
    """
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            raise RunError(f"{path} line {number}: is damaged; remove the line to go on without it") from None
    return lines
