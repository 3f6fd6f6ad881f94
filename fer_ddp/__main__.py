"""``python -m fer_ddp``: train a job, evaluate a run, plan for more GPUs."""

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong command or job, 75 interrupted."""
    options = _parser().parse_args(arguments)
    from fer_ddp.errors import Interrupted, JobError, RunError
    from fer_ddp.signals import StoppedEarly, stop_early
    from shards.errors import DataError

    stop_early()
    try:
        options.function(options)
    except (JobError, RunError, DataError, Interrupted) as error:
        _say(f"{'interrupted' if isinstance(error, Interrupted) else 'error'}: {error}")
        return error.exit_status
    except OSError as error:
        _say(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        return RunError.exit_status
    except StoppedEarly as stopped:
        _say(f"interrupted: stopped by {stopped}; the same command does it again")
        return Interrupted.exit_status
    return 0


def _say(sentence: str) -> None:
    """Rank zero speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        print(sentence, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fer_ddp", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train a job, or go on with its run",
        description="Trains a job. Alone it uses one device; under torchrun it is one of the ranks. "
        "The same command again goes on with a run that was interrupted.",
    )
    train.add_argument("job", type=Path, metavar="JOB.yaml", help="a recipe, such as jobs/smoke.yaml")
    train.add_argument("overrides", nargs="*", metavar="key.sub=value", help="last words, such as data.path=data/fake")
    train.set_defaults(function=_train)
    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate a run's chosen weights on val and test",
        description="Writes summary.json, predictions and figures into the run folder; for other data than the run "
        "was trained on, into a folder of their own inside it.",
    )
    evaluate.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/smoke-seed0")
    evaluate.add_argument("overrides", nargs="*", metavar="data.path=FOLDER", help="other data with the same classes")
    evaluate.set_defaults(function=_evaluate)
    plan = commands.add_parser(
        "plan",
        help="predict how a job scales to more GPUs",
        description="Measures a job's training step on this device, and predicts from it, the messages between the "
        "ranks and the link's rates how long a step of several ranks takes, and what limits it. Trains nothing.",
    )
    plan.add_argument("job", type=Path, metavar="JOB.yaml", help="a recipe, such as jobs/model4.yaml")
    plan.add_argument("overrides", nargs="*", metavar="key.sub=value", help="last words, such as global_batch_size=256")
    plan.add_argument("--gpus", default="1,2,4,8", metavar="N,N", help="numbers of ranks, one a GPU (1,2,4,8)")
    plan.add_argument(
        "--link",
        choices=["nvlink", "infiniband", "ethernet", "loopback"],
        help="what joins the ranks; loopback is measured between two ranks of this CPU (default: nvlink on a GPU, "
        "loopback on a CPU)",
    )
    plan.add_argument("--check", action="store_true", help="train a few steps on 1 and 2 ranks of this machine too")
    plan.set_defaults(function=_plan)
    return parser


def _train(options: argparse.Namespace) -> None:
    from fer_ddp import distributed
    from fer_ddp.config import load_job
    from fer_ddp.train import train

    job = load_job(options.job, options.overrides)
    with distributed.world() as device:
        train(job, device)


def _evaluate(options: argparse.Namespace) -> None:
    from fer_ddp import distributed
    from fer_ddp.config import load_job
    from fer_ddp.errors import JobError
    from fer_ddp.results import evaluate_run
    from fer_ddp.run_folder import RunFolder

    other = [override for override in options.overrides if not override.startswith("data.path=")]
    if other:
        raise JobError(f"{other[0]}: evaluate takes data.path=FOLDER alone; all else is the run's own")
    run = RunFolder(options.run)
    if not (run.path / "config.yaml").is_file():
        raise JobError(f"{run.path}: is no run folder (it has no config.yaml); give one such as runs/smoke-seed0")
    job = load_job(run.path / "config.yaml", options.overrides)
    with distributed.world() as device:
        results = distributed.on_main(lambda: evaluate_run(run, job, device, run.world_size()))
    if distributed.is_main():
        print(results.text())


def _plan(options: argparse.Namespace) -> None:
    from fer_ddp import distributed
    from fer_ddp.config import load_job
    from fer_ddp.errors import JobError
    from fer_ddp.plan import plan

    words = options.gpus.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise JobError(f"--gpus {options.gpus}: must be whole numbers above 0, such as 1,2,4,8")
    if distributed.launched():
        raise JobError("plan: starts its own ranks; start it without torchrun")
    job = load_job(options.job, options.overrides)
    with distributed.world() as device:
        print(plan(job, [int(word) for word in words], options.link, options.check, device))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
