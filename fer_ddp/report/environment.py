"""Where runs were made."""

from collections.abc import Sequence
from dataclasses import dataclass

from fer_ddp.runs.finished import FinishedRun
from fer_ddp.text import plural


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportEnvironment:
    """What some runs have in common."""

    commit: str
    """Ten digits, with ``+`` if files were changed; or ``unknown``."""
    python: str
    versions: str
    device: str
    """With the number of ranks."""
    precision: str
    runs: int


def report_environments(runs: Sequence[FinishedRun]) -> list[ReportEnvironment]:
    """Each different environment among ``runs``, in the order they came."""
    counts: dict[tuple[str, ...], int] = {}
    for run in runs:
        key = _environment_key(run)
        counts[key] = counts.get(key, 0) + 1
    return [
        ReportEnvironment(commit=key[0], python=key[1], versions=key[2], device=key[3], precision=key[4], runs=count)
        for key, count in counts.items()
    ]


def _environment_key(run: FinishedRun) -> tuple[str, ...]:
    known = run.environment
    commit = str((known.get("code") or {}).get("commit") or known.get("commit") or "")
    ranks, threads = known.get("world_size", 1), known.get("threads", 1)
    device = f"{known.get('device', 'unknown')}, {plural(ranks, 'rank')}"
    device += f", {plural(threads, 'thread')} each" if run.job else ""
    precision = f"{run.job.get('precision')}, {run.job['memory_format']}" if "memory_format" in run.job else "–"
    return (
        commit[:10] + "+" * commit.endswith("+") if commit else "unknown",
        str(known.get("python", "unknown")),
        ", ".join(f"{name} {version}" for name, version in known.get("versions", {}).items()),
        device,
        precision,
    )
