# PYTHON_ARGCOMPLETE_OK
"""``fer-ddp``: every command; and ``python -m launch``: those that start jobs and arrays of jobs, and watch them."""

import argparse
import os
import sys
from typing import Any, NoReturn

import fer_ddp.__main__
from fer_ddp import __version__
from fer_ddp.__main__ import Commands, add_job
from fer_ddp.cli import end_process, exit_status_of, parse
from shards.output import execute, guard_output

_DESCRIPTION = "Starts jobs and arrays of jobs here or on a SLURM cluster, and watches them."
_COMPLETION = "Tab completion: pip install 'fer-ddp[completion]', then eval \"$(register-python-argcomplete fer-ddp)\""


def fer_ddp_command() -> NoReturn:
    """The console command ``fer-ddp``."""
    guard_output()
    end_process(run_any(sys.argv[1:]))


def run_any(arguments: list[str]) -> int:
    """Run one command of any package; returns the exit status as `main` does."""
    parser = argparse.ArgumentParser(prog="fer-ddp", description=fer_ddp.__main__.DESCRIPTION, epilog=_COMPLETION)
    parser.add_argument("--version", action="version", version=f"fer-ddp {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fer_ddp.__main__.add_commands(commands)
    launch = commands.add_parser("launch", help="train on several ranks or a cluster", description=_DESCRIPTION)
    add_commands(launch.add_subparsers(required=True, metavar="COMMAND"))
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    return execute(parse(parser, arguments))


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong command or job, 75 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m launch", description=_DESCRIPTION)
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return execute(parse(parser, arguments))


def _execute(options: argparse.Namespace) -> int:
    return exit_status_of(lambda: options.function(options))


def add_commands(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add the commands of this package; ``options.execute(options)`` runs one."""
    local = _add(
        commands,
        "local",
        _local,
        help="train on this machine",
        description="Trains a job: a rank a GPU, or two on a machine without, by torchrun. Of an array it trains as "
        "many members at once as there are GPUs, or one after another. Run the same command again to resume what was "
        "interrupted.",
    )
    add_job(local)
    local.add_argument("--ranks", "--gpus", type=int, metavar="N", help="how many ranks (default: as many as GPUs)")
    slurm = _add(
        commands,
        "slurm",
        _slurm,
        help="submit to a SLURM cluster",
        description="Submits a job, or an array as a SLURM job array. The runs resume by themselves after time "
        "limits, preemptions and crashes.",
    )
    add_job(slurm)
    cluster = slurm.add_argument(
        "--cluster", required=True, metavar="PROFILE", help="a profile's name, such as one_gpu, or a YAML file"
    )
    cluster.completer = _complete_cluster  # type: ignore[attr-defined]
    slurm.add_argument("--dry-run", action="store_true", help="print what would be submitted, and submit nothing")
    slurm.add_argument("--images-per-second", type=float, metavar="X", help="for --dry-run's estimate: a run's speed")
    status = _add(commands, "status", _status, help="the state of each member, or of all that was started here")
    status.add_argument("name", nargs="?", metavar="NAME", help="the array's or the run's name; without it, all")
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(is_result=True)
    logs = _add(commands, "logs", _logs, help="the end of a member's logs")
    _add_name(logs)
    logs.add_argument("member", nargs="?", metavar="MEMBER", help="as `status` names it; an array of one needs none")
    logs.set_defaults(is_result=True)
    logs.add_argument("--lines", type=int, default=40, metavar="N", help="how many lines of each log (default 40)")
    resume = _add(commands, "resume", _resume, help="submit again what is missing, failed or was cancelled")
    _add_name(resume)
    resume.add_argument("--new-code", action="store_true", help="with the present code, not with the frozen one")
    cancel = _add(commands, "cancel", _cancel, help="take all of it out of SLURM; what runs saves its state")
    _add_name(cancel)
    sync = _add(commands, "sync", _sync, help="send the runs to W&B, from a machine with a network")
    _add_name(sync)


def _add(
    commands: "Commands[argparse.ArgumentParser]", name: str, function: Any, **texts: Any
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, **texts)
    parser.set_defaults(function=function, execute=_execute)
    return parser


def _complete_cluster(prefix: str, **_: object) -> list[str]:
    from fer_ddp.config.recipe_files import packaged_names

    return packaged_names("cluster profile")


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
    from launch.status import as_json, overview, overview_json, status_of, table

    if options.name is None:
        print(overview_json() if options.json else overview())
        return
    members = status_of(options.name)
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
    guard_output()
    sys.exit(main(sys.argv[1:]))
