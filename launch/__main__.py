"""``python -m launch``: start jobs and arrays of jobs here or on a SLURM cluster, and watch them."""

import argparse
import sys
from pathlib import Path

from fer_ddp.cli import exit_status_of, parse


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong command or job, 75 interrupted."""
    options = parse(_parser(), arguments)
    return exit_status_of(lambda: options.function(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m launch", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    local = commands.add_parser(
        "local",
        help="train on this machine",
        description="Trains a job: a rank a GPU, or two on a machine without, by torchrun. Of an array it trains as "
        "many members at once as there are GPUs, or one after another. The same command again goes on with what was "
        "interrupted.",
    )
    _add_job(local)
    local.add_argument("--ranks", "--gpus", type=int, metavar="N", help="how many ranks (default: as many as GPUs)")
    local.set_defaults(function=_local)
    slurm = commands.add_parser(
        "slurm",
        help="submit to a SLURM cluster",
        description="Submits a job, or an array as a SLURM job array. What is submitted goes on by itself after time "
        "limits, preemptions and crashes.",
    )
    _add_job(slurm)
    slurm.add_argument("--cluster", type=Path, required=True, metavar="PROFILE.yaml", help="such as jobs/clusters/...")
    slurm.add_argument("--dry-run", action="store_true", help="print what would be submitted, and submit nothing")
    slurm.add_argument("--images-per-second", type=float, metavar="X", help="for --dry-run's estimate: a run's speed")
    slurm.set_defaults(function=_slurm)
    status = commands.add_parser("status", help="how each member stands")
    _add_name(status)
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(function=_status)
    logs = commands.add_parser("logs", help="the end of a member's logs")
    _add_name(logs)
    logs.add_argument("member", nargs="?", metavar="MEMBER", help="as `status` names it; an array of one needs none")
    logs.add_argument("--lines", type=int, default=40, metavar="N", help="how many lines of each log (default 40)")
    logs.set_defaults(function=_logs)
    resume = commands.add_parser("resume", help="submit again what is missing, failed or was cancelled")
    _add_name(resume)
    resume.add_argument("--new-code", action="store_true", help="with the present code, not with the frozen one")
    resume.set_defaults(function=_resume)
    cancel = commands.add_parser("cancel", help="take all of it out of SLURM; what runs saves its state")
    _add_name(cancel)
    cancel.set_defaults(function=_cancel)
    sync = commands.add_parser("sync", help="send the runs to W&B, from a machine with a network")
    _add_name(sync)
    sync.set_defaults(function=_sync)
    return parser


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, metavar="JOB_OR_ARRAY.yaml", help="such as jobs/smoke.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="last words, such as data.path=data/fake")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the array's or the run's name, such as writeup")


# torch takes seconds, so each command imports what it needs.


def _local(options: argparse.Namespace) -> None:
    from launch.local import run_local

    run_local(options.job, options.overrides, options.ranks)


def _slurm(options: argparse.Namespace) -> None:
    from launch.slurm import dry_run, submit_array

    if options.dry_run:
        print(dry_run(options.job, options.overrides, options.cluster, options.images_per_second))
    else:
        print(submit_array(options.job, options.overrides, options.cluster))


def _status(options: argparse.Namespace) -> None:
    from launch.folder import find_folder
    from launch.status import as_json, members_status, table

    members = members_status(find_folder(options.name))
    print(as_json(members) if options.json else table(members))


def _logs(options: argparse.Namespace) -> None:
    from launch.folder import find_folder
    from launch.logs import logs_text

    print(logs_text(find_folder(options.name), options.member, options.lines))


def _resume(options: argparse.Namespace) -> None:
    from launch.folder import find_folder
    from launch.slurm import resume_array

    print(resume_array(find_folder(options.name), new_code=options.new_code))


def _cancel(options: argparse.Namespace) -> None:
    from launch.folder import find_folder
    from launch.slurm import cancel_array

    print(cancel_array(find_folder(options.name)))


def _sync(options: argparse.Namespace) -> None:
    from fer_ddp.runs.tracking import send_run
    from launch.folder import find_folder

    for run in find_folder(options.name).runs.values():
        print(send_run(run), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
