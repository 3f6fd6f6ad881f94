"""FER2013's CSV to shards: ours against pandas, Pillow and webdataset's writer in one process.

Each run is a process of its own (`bench.pack_process`), as the command is; its start-up (imports) is listed apart.
"""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from bench.data import Data
from bench.sizes import Sizes
from bench.table import Result, compare
from bench.timing import in_turns
from shards.parallel import usable_cpus


def pack_results(data: Data, sizes: Sizes) -> list[Result]:
    start_up: dict[str, list[float]] = {"ours": [], "peer": []}

    def run(side: str) -> Callable[[], float]:
        def timed() -> float:
            out = data.workspace / f"packed-{side}"
            started = time.perf_counter()
            command = [sys.executable, "-m", "bench.pack_process", side, str(data.csv), str(out), str(usable_cpus())]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            whole = time.perf_counter() - started
            shutil.rmtree(out)
            seconds = float(json.loads(output.splitlines()[-1])[0])
            start_up[side].append(whole - seconds)
            return seconds

        return timed

    ours, peer = in_turns([run("ours"), run("peer")], sizes.repeats)
    note = (
        f"start-up apart: {statistics.median(start_up['ours']):.2f} s ours, {statistics.median(start_up['peer']):.2f} "
        f"s the peer's; ours also checks, hashes and syncs what it writes, and finds duplicates"
    )
    against = "pandas + Pillow + webdataset.ShardWriter, one process"
    return [compare("pack", against, data.rows, ours, peer, 4, note)]
