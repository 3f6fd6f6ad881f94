"""``python -m bench.scaling JOB``: predict how a job scales to more GPUs."""

import argparse
import sys
from pathlib import Path

from bench.scaling.plan import plan
from fer_ddp import distributed
from fer_ddp.cli import end_process, exit_status_of, parse
from fer_ddp.config.load import load_job
from fer_ddp.errors import JobError
from fer_ddp.hardware import keep_freed_memory, request_huge_pages
from shards.output import guard_output


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 done, 1 failed, 2 wrong command or job."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scaling",
        description="Measures a job's training step on this device, and predicts from it, the messages between the "
        "ranks and the link's rates how long a step of several ranks takes, and what limits it. Trains nothing.",
    )
    parser.add_argument("job", type=Path, metavar="JOB.yaml", help="a recipe, such as jobs/model4.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="overrides, such as data.path=data/fake")
    parser.add_argument("--gpus", default="1,2,4,8", metavar="N,N", help="numbers of ranks, one a GPU (1,2,4,8)")
    parser.add_argument(
        "--link",
        choices=["nvlink", "infiniband", "ethernet", "loopback"],
        help="what joins the ranks; loopback is measured between two ranks of this CPU (default: nvlink on a GPU, "
        "loopback on a CPU)",
    )
    parser.add_argument("--check", action="store_true", help="train a few steps on 1 and 2 ranks of this machine too")
    options = parse(parser, arguments)
    request_huge_pages()
    keep_freed_memory()
    return exit_status_of(lambda: _plan(options))


def _plan(options: argparse.Namespace) -> None:
    gpus = options.gpus.split(",")
    if not all(number.isdecimal() and int(number[:9]) > 0 for number in gpus):
        raise JobError(f"--gpus {options.gpus[:40]}: must be whole numbers above 0, such as 1,2,4,8")
    if distributed.launched():
        raise JobError("bench.scaling starts its own ranks; start it without torchrun")
    job = load_job(options.job, options.overrides)
    with distributed.world() as device:
        print(plan(job, [int(number) for number in gpus], options.link, options.check, device))


if __name__ == "__main__":
    guard_output()
    end_process(main(sys.argv[1:]))
