"""A child process of `fer_ddp.runs.tracking`: follows a run folder and writes TensorBoard's files into it.

The files are made of ``metrics.jsonl`` and ``steps.jsonl`` alone, and written from the beginning at each start of the
run, so that one that was interrupted has every point once. The only importer of tensorboard.
"""

import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fer_ddp.errors import RunError
from fer_ddp.runs.files import finished_summary, read_lines, wandb_rows, wandb_summary
from fer_ddp.runs.tracking import TENSORBOARD, WAIT_SECONDS, report_tensorboard
from fer_ddp.signals import STOP_SIGNALS

_SECONDS = 2.0
"""Between two looks at the run folder."""


def main(run: Path) -> int:
    """Write what ``run`` holds and, until something comes on stdin or it ends, what is added; returns 0."""
    for number in STOP_SIGNALS:  # the trainer handles them: its end ends stdin
        signal.signal(number, signal.SIG_IGN)
    try:
        _follow(run)
    except Exception as error:  # noqa: BLE001  whatever tensorboard raises, training continues
        report_tensorboard(run, str(error) or type(error).__name__)
    return 0


def _follow(run: Path) -> None:
    try:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise RunError(f"can't be imported ({error}); install it: pip install 'fer-ddp[tensorboard]'") from None
    folder = run / TENSORBOARD
    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()
    writer = EventFileWriter(str(folder))
    # A TensorBoard that shows the earlier file drops its points on this.
    writer.add_event(Event(step=0, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))

    def write(step: int, scalars: Mapping[str, Any]) -> None:
        numbers = {tag: value for tag, value in scalars.items() if isinstance(value, int | float)}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        writer.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))

    ended, written = False, {"epoch": 0, "step": 0}
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], _SECONDS)[0])
        if ended:
            signal.alarm(WAIT_SECONDS + 2)  # of a trainer that was killed no process stays behind
        for unit, number, scalars in _rows(run):
            if number > written[unit]:
                write(number, scalars)
                written[unit] = number
        writer.flush()
    summary = finished_summary(run)
    if summary:
        write(written["epoch"], {f"summary/{name}": value for name, value in wandb_summary(summary).items()})
    writer.close()


def _rows(run: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(epoch or step, its number, scalars by tag) of each line of the run."""
    for line in read_lines(run / "steps.jsonl"):
        yield "step", line["step"], {f"step/{name}": value for name, value in line.items() if name != "step"}
    for row in wandb_rows(run):
        yield "epoch", row["epoch"], {name: value for name, value in row.items() if name != "epoch"}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
