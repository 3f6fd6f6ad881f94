"""``make test-fuzz``: generated bad input of every kind, a table of what became of it, and what repeats a failure."""

import argparse
import importlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "default::RuntimeWarning"}
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bases import make_bases  # noqa: E402
from grammars import TORCHLESS, WITH_TORCH  # noqa: E402
from harness import Case, Outcome, build, check  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

from launch.__main__ import run_any  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="examples, shared among the grammars")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--grammar", action="append", default=[], choices=[*TORCHLESS, *WITH_TORCH])
    parser.add_argument("--limit", type=float, default=20, help="seconds of processor time after which an input hangs")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="where failing inputs are kept")
    parser.add_argument("--json", type=Path, help="write the table there")
    options = parser.parse_args()
    names = [name for name in (*TORCHLESS, *WITH_TORCH) if name in options.grammar or not options.grammar]
    bases = Path(tempfile.mkdtemp(prefix="fuzz-bases-"))
    try:
        make_bases(bases, run_any)
        for module in OF_SHARDS:
            importlib.import_module(module)
        rows = {}
        for number, name in enumerate(names):
            if name in WITH_TORCH:
                for module in OF_FER_DDP:
                    importlib.import_module(module)
            count = options.count // len(names) + (number < options.count % len(names))
            rows[name] = _attempt(name, count, bases, options)
            print(_line(name, rows[name]), flush=True)
    finally:
        shutil.rmtree(bases, ignore_errors=True)
    total = {key: sum(row[key] for row in rows.values()) for key in ("inputs", "failed", "processor_s")}
    total |= {key: max(row[key] for row in rows.values()) for key in ("longest_s", "memory_mib")}
    print(_line("all", total | {"statuses": {}}))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 1 if total["failed"] else 0


OF_SHARDS = (
    *("pandas", "PIL.ImageFile", "shards.inspection", "shards.leakage.find", "shards.packing.packer"),
    *("shards.sources.registry", "shards.sources.synthetic_faces"),
)
"""What the commands of shards import, once, so that each input does not wait for it; no torch."""
OF_FER_DDP = (
    *("fer_ddp.deploy.hub", "fer_ddp.deploy.load", "fer_ddp.evaluation.ensemble", "fer_ddp.evaluation.sheets"),
    *("fer_ddp.report.imported", "fer_ddp.report.write", "fer_ddp.report.across", "fer_ddp.training.run"),
    *("fer_ddp.training.augmented_batch", "fer_ddp.runs.tracking", "launch.local", "launch.slurm", "launch.status"),
)


def _attempt(name: str, count: int, bases: Path, options: argparse.Namespace) -> dict:
    """Try ``count`` inputs of a grammar. Those that fail in the same way are printed and kept once."""
    outcomes: list[Outcome] = []
    kinds: dict[str, int] = {}

    @seed(options.seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=(TORCHLESS | WITH_TORCH)[name])
    def attempt(case: Case) -> None:
        if len(outcomes) >= count:
            return
        outcome = check(case, run_any, bases, options.limit)
        if outcome.problem is not None:
            kinds[outcome.problem] = kinds.get(outcome.problem, 0) + 1
            if kinds[outcome.problem] == 1:
                _keep(name, len(outcomes) + 1, outcome, bases, options)
        outcomes.append(replace(outcome, case=Case((), ()), output=""))  # 500 with their inputs took 23 GB

    started = time.monotonic()
    if count:
        attempt()
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    statuses = [outcome.status for outcome in outcomes]
    return {
        "inputs": len(outcomes),
        "failed": len(failed),
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "kinds": kinds,
        "longest_s": max((outcome.seconds for outcome in outcomes), default=0),
        "memory_mib": max((outcome.memory for outcome in outcomes), default=0) / 2**20,
        "processor_s": sum(outcome.seconds for outcome in outcomes),
        "wall_s": time.monotonic() - started,
    }


def _keep(name: str, number: int, outcome: Outcome, bases: Path, options: argparse.Namespace) -> None:
    place = options.keep / f"{name}-{options.seed}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    build(outcome.case, place / "case", bases)
    command = f"cd {shlex.quote(str(place.resolve() / 'case'))} && fer-ddp {shlex.join(outcome.case.argv)}"
    changes = "\n".join(map(repr, outcome.case.changes))
    (place / "failure.txt").write_text(
        f"{outcome.problem}\n\n{command}\n\n{changes}\n\n{outcome.output}", errors="backslashreplace"
    )
    print(f"{name}: {outcome.problem}\n  {command!a}".encode(errors="backslashreplace").decode(), flush=True)


def _line(name: str, row: dict) -> str:
    statuses = "".join(f", {count} with status {status}" for status, count in row["statuses"].items())
    return (
        f"{name:20} {row['inputs']:6} inputs, {row['failed']} failed, longest {row['longest_s']:.1f} s, "
        f"memory {row['memory_mib']:.0f} MiB, {row['processor_s']:.0f} s of processor time{statuses}"
    )


if __name__ == "__main__":
    sys.exit(main())
