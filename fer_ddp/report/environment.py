"""Where runs were made, and how to make them again."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from fer_ddp.runs.finished import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What some runs have in common."""

    commit: str
    """Ten digits, with ``+`` if files were changed; or why it isn't known."""
    python: str
    versions: str
    device: str
    """With the number of ranks."""
    precision: str
    runs: int


def surroundings(runs: Sequence[Run]) -> list[Surroundings]:
    """Each different environment among ``runs``, in the order they came."""
    counts: dict[tuple[str, ...], int] = {}
    for run in runs:
        key = _surroundings(run)
        counts[key] = counts.get(key, 0) + 1
    return [
        Surroundings(commit=key[0], python=key[1], versions=key[2], device=key[3], precision=key[4], runs=count)
        for key, count in counts.items()
    ]


def _surroundings(run: Run) -> tuple[str, ...]:
    known = run.environment
    commit = str((known.get("code") or {}).get("commit") or known.get("commit") or "")
    ranks, threads = known.get("world_size", 1), known.get("threads", 1)
    device = f"{known.get('device', 'not known')}, {ranks} rank{'' if ranks == 1 else 's'}"
    device += f", {threads} thread{'' if threads == 1 else 's'} each" if run.job else ""
    precision = f"{run.job['precision']}, {run.job['memory_format']}" if "memory_format" in run.job else "–"
    return (
        commit[:10] + "+" * commit.endswith("+") if commit else "not known",
        str(known.get("python", "not known")),
        ", ".join(f"{name} {version}" for name, version in known.get("versions", {}).items()),
        device,
        precision,
    )


def repeat_command(run: Run) -> str:
    """What makes the run again from its own configuration, beside it; the commit is the reader's to check out."""
    again = f"{run.path}-again"
    if run.members:
        chosen = run.members
        options = [
            f"--weights={chosen['weighting']}",
            *(["--temperature"] if chosen["temperature"] is not None else []),
        ]
        paths = [member["run"] for member in chosen["members"]]
        return shlex.join(["python", "-m", "fer_ddp", "ensemble", *paths, "--out", again, *options])
    ranks = int(run.environment.get("world_size", 1))
    start = ["torchrun", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else ["python"]
    return shlex.join([*start, "-m", "fer_ddp", "train", f"{run.path}/config.yaml", f"run={again}"])
