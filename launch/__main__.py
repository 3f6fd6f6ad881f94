"""``python -m launch``: start jobs with the right ranks."""

import argparse
import sys
from pathlib import Path

from fer_ddp.exit_status import exit_status_of


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong command or job, 75 interrupted."""
    options = _parser().parse_args(arguments)
    return exit_status_of(lambda: options.function(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m launch", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    local = commands.add_parser(
        "local",
        help="train on this machine",
        description="Trains a job with torchrun: a rank a GPU, or two on a machine without. "
        "The same command again goes on with a run that was interrupted.",
    )
    local.add_argument("job", type=Path, metavar="JOB.yaml", help="a recipe, such as jobs/smoke.yaml")
    local.add_argument("overrides", nargs="*", metavar="key.sub=value", help="last words, such as data.path=data/fake")
    local.add_argument("--ranks", "--gpus", type=int, metavar="N", help="how many ranks (default: as many as GPUs)")
    local.set_defaults(function=_local)
    return parser


def _local(options: argparse.Namespace) -> None:
    from launch.local import run_local  # torch takes seconds

    run_local(options.job, options.overrides, options.ranks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
