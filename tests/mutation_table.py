"""The outcome of `make mutation`: the mutants that no test notices, and a row for each group of modules."""

import json
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code

GROUPS = {
    "randomness": ("fer_ddp/randomness.py",),
    "sampler": ("fer_ddp/data/sampler.py",),
    "checkpoint": ("fer_ddp/runs/checkpoint.py", "fer_ddp/runs/state_writer.py", "fer_ddp/training/state.py"),
    "statistics": ("fer_ddp/statistics/",),
}


def main() -> None:
    rows = ["| group | mutants | killed | survived | no test calls them | killed, % |", "|---|---|---|---|---|---|"]
    for group, files in GROUPS.items():
        counts: Counter[str] = Counter()
        for path in sorted(Path("mutants").rglob("*.py.meta")):
            if not path.relative_to("mutants").as_posix().startswith(files):
                continue
            for mutant, exit_code in json.loads(path.read_text())["exit_code_by_key"].items():
                status = status_by_exit_code[exit_code]
                counts[status] += 1
                if status in ("survived", "no tests"):
                    print(f"{mutant}: {status}")
        killed = counts["killed"] + counts["timeout"] + counts["segfault"]
        cells = [counts.total(), killed, counts["survived"], counts["no tests"], f"{100 * killed / counts.total():.1f}"]
        rows.append(f"| {group} | {' | '.join(map(str, cells))} |")
    print("\n" + "\n".join(rows))


if __name__ == "__main__":
    main()
