"""``python tests/faults/run_faults.py 200 --seed 0``: so many faults, a table by kind, and what repeats a failure."""

import argparse
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before torch is loaded: small models are fastest on one thread
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}
    sys.path[:0] = [
        *map(str, (Path(__file__).parents[2], Path(__file__).parents[1] / "support", Path(__file__).parent))
    ]

from forking import load_everything
from kinds import KINDS, TWO_RANKS
from laboratory import Failure, Fault, copy_setting, forked, processes_of, undisturbed, write_setting
from table import table_text

OUTCOMES = ("same bytes", "refused", "told", "failures")


def kind_of(seed: int, number: int) -> tuple[str, int]:
    """(the kind of fault ``number`` of ``seed``, on how many ranks): every kind in turn."""
    kind = list(KINDS)[number % len(KINDS)]
    choice = random.Random(f"{seed}/{number}/ranks")
    return kind, 2 if kind in TWO_RANKS and choice.random() < 0.4 else 1


def run_fault(seed: int, number: int, folder: Path, setting: Path, expected: Any, operations: Any) -> dict[str, Any]:
    """Run one fault in ``folder``; returns its outcome and what was done."""
    kind, ranks = kind_of(seed, number)
    copy_setting(setting, folder)
    chosen = random.Random(f"{seed}/{number}")
    fault = Fault(folder, chosen, expected, operations, folder.with_name("undisturbed1"), ranks)
    started = time.monotonic()
    try:
        outcome, why = KINDS[kind](fault), ""
    except Failure as failure:
        outcome, why = "failures", str(failure)
    except Exception:  # noqa: BLE001  a mistake of this laboratory is a failure too
        outcome, why = "failures", traceback.format_exc()
    return {
        "number": number,
        "kind": kind,
        "ranks": fault.ranks,
        "outcome": outcome,
        "notes": fault.notes,
        "why": why,
        "seconds": time.monotonic() - started,
    }


def run_faults(seed: int, numbers: list[int], at_once: int, keep: bool) -> list[dict[str, Any]]:
    """Run these faults, so many at once, each in a process of its own."""
    load_everything()
    base = Path(tempfile.mkdtemp(prefix="faults-"))
    base.chmod(0o755)
    setting = base / "setting"
    setting.mkdir()
    write_setting(setting)
    expected, operations = {}, {}
    for ranks in (1, 2):
        expected[ranks], operations[ranks] = undisturbed(setting, base / f"undisturbed{ranks}", ranks)
    print(f"{base}: an undisturbed run makes {operations[1]} changes of files", flush=True)
    waiting, running, results = list(numbers), {}, []
    while waiting or running:
        while waiting and len(running) < at_once:
            number = waiting.pop(0)
            folder = base / str(number)

            def body(number: int = number, folder: Path = folder) -> int:
                result = run_fault(seed, number, folder, setting, expected, operations)
                (base / f"{number}.json").write_text(json.dumps(result))
                return 0

            running[forked(body)] = number
        pid, _ = os.wait()
        if pid not in running:
            continue
        number = running.pop(pid)
        result = json.loads((base / f"{number}.json").read_text())
        results.append(result)
        _report(seed, result)
        if not keep:
            shutil.rmtree(base / str(number), ignore_errors=True)
    left = processes_of(str(base))
    if left:
        print(f"processes are left: {left}")
    if not keep:
        shutil.rmtree(base, ignore_errors=True)
    return sorted(results, key=lambda result: int(result["number"]))


def _report(seed: int, result: dict[str, Any]) -> None:
    what = f"{result['number']:>4} {result['kind']:<15} {result['ranks']} {result['outcome']:<10}"
    print(f"{what} {result['seconds']:5.1f} s  {'; '.join(result['notes'])}", flush=True)
    if result["outcome"] == "failures":
        print(
            f"     FAILED: {result['why'].strip()}\n     repeat: make test-faults SEED={seed} ONLY={result['number']}"
        )
        sys.stdout.flush()


def table(results: list[dict[str, Any]]) -> str:
    """A line for each kind."""
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        by_kind[result["kind"]][result["outcome"]] += 1
    rows = [("kind", "faults", *OUTCOMES)]
    for kind in (kind for kind in KINDS if kind in by_kind):
        counts = by_kind[kind]
        rows.append((kind, str(counts.total()), *(str(counts[outcome]) for outcome in OUTCOMES)))
    totals = sum(by_kind.values(), Counter())
    rows.append(("all", str(totals.total()), *(str(totals[outcome]) for outcome in OUTCOMES)))
    return table_text(rows)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first fault's number")
    parser.add_argument("--only", type=int, nargs="+", help="these faults alone")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), help="only faults of these kinds")
    parser.add_argument("--without", nargs="+", choices=list(KINDS), default=[], help="no faults of these kinds")
    parser.add_argument("--at-once", type=int, default=1, help="how many faults run at the same time")
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    options = parser.parse_args(arguments)
    chosen = set(options.kinds or KINDS) - set(options.without)
    fitting = (number for number in itertools.count(options.first) if kind_of(options.seed, number)[0] in chosen)
    numbers = options.only or list(itertools.islice(fitting, options.count))
    results = run_faults(options.seed, numbers, options.at_once, options.keep)
    print(table(results))
    return int(any(result["outcome"] == "failures" for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
