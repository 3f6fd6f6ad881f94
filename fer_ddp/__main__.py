"""``python -m fer_ddp``: all commands but ``launch``, those of `shards` included; ``fer-ddp`` has them all."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

import shards.__main__
from fer_ddp import __version__
from fer_ddp.cli import end_process, exit_status_of, parse
from fer_ddp.deploy import predict_command
from fer_ddp.errors import JobError
from fer_ddp.hardware import keep_freed_memory, limit_spinning, request_huge_pages
from fer_ddp.report import import_command
from shards.files import user_path
from shards.output import execute, guard_output
from shards.parallel import end_with_parent

Commands = argparse._SubParsersAction  # argparse has no public name for it


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong command or job, 75 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m fer_ddp", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"fer-ddp {__version__}")
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return execute(parse(parser, arguments))


DESCRIPTION = "Trains, evaluates and compares facial expression recognition models."


def _execute(options: argparse.Namespace) -> int:
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun, if it is killed, does not end its ranks
        end_with_parent(signal.SIGTERM)
    request_huge_pages()
    return exit_status_of(lambda: options.function(options))


def add_commands(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add the commands of shards and of this package; ``options.execute(options)`` runs one."""
    shards.__main__.add_commands(commands)
    _add_job_to_inspect(commands.choices["inspect"])
    train = _add(
        commands,
        "train",
        _train,
        help="train a job, or resume its run",
        description="Trains a job. Alone it uses one device; under torchrun it is one of the ranks. Run the same "
        "command again to resume a run that was interrupted.",
        epilog="`fer-ddp recipes` lists the recipes, `fer-ddp keys` the keys that a job may have.",
    )
    add_job(train)
    evaluate = _add(
        commands,
        "evaluate",
        _evaluate,
        help="evaluate a run's selected weights on val and test",
        description="Writes summary.json, predictions and figures into the run folder; for other data than the run "
        "was trained on, into a folder of their own inside it.",
    )
    _add_run(evaluate)
    evaluate.add_argument(
        "overrides", nargs="*", default=[], metavar="data.path=FOLDER", help="other data; classes are mapped by name"
    )
    evaluate.add_argument(
        "--merge",
        action="append",
        default=[],
        metavar="NAME=NAME",
        help="count a class of the data that the model does not have as another, such as contempt=neutral; repeatable",
    )
    evaluate.add_argument(
        "--drop-classes", default="", metavar="NAME,NAME", help="leave out the samples of these classes of the data"
    )
    evaluate.add_argument(
        "--out", type=user_path, metavar="DIR", help="write there, such as for a run that is read-only"
    )
    predict = _add(
        commands,
        "predict",
        predict_command.predict,
        help="classify images with a trained model",
        description=predict_command.DESCRIPTION,
    )
    predict_command.add_arguments(predict)
    export = _add(
        commands,
        "export",
        _export,
        help="write a run's model as a folder for use elsewhere",
        description="Writes model.onnx (onnxruntime: images of any size in, probabilities out; needs the extra onnx), "
        "model.pt2 (the same for torch), model.safetensors with config.json, labels.json, model.json, a model card "
        "README.md and example.py. Each is compared with the trained model first. An ensemble's folder is exported as "
        "one model.",
    )
    _add_run(export)
    export.add_argument("--out", type=user_path, required=True, metavar="DIR", help="a new or empty folder")
    export.add_argument(
        "--int8",
        action="store_true",
        help="also write model.int8.onnx, calibrated on training images, if its accuracy on val is at most 0.3 points "
        "below that of model.onnx; the run's data must be there",
    )
    figures = _add(
        commands,
        "figures",
        _figures,
        help="draw what a trained model looks at, how sure it is, and how it groups images",
        description="Draws grad_cam, calibration and embedding of val (test without val) into the run's figures/.",
    )
    _add_run(figures)
    figures.add_argument("overrides", nargs="*", default=[], metavar="data.path=FOLDER", help="where its data are now")
    push = _add(
        commands,
        "push",
        _push,
        help="send an exported folder to the Hugging Face Hub",
        description="Sends the weights, model.onnx and the model card; `predict hf:USER/NAME` uses them elsewhere. "
        "Needs the extra hub and `hf auth login`.",
    )
    push.add_argument("folder", type=user_path, metavar="DIR", help="a folder that `export` wrote")
    push.add_argument("name", metavar="USER/NAME", help="the repository, which is made if it is new")
    push.add_argument("--private", action="store_true", help="only you see a new repository")
    report = _add(
        commands,
        "report",
        _report,
        help="compare runs on one page",
        description="Writes a page that opens from disk, and the same as .md and .csv beside it: which recipe is best, "
        "by how much, and whether the difference is statistically significant. Runs of one job that differ in the "
        "seed are one recipe.",
    )
    _add_runs(report)
    report.add_argument("--out", type=user_path, required=True, metavar="PAGE.html", help="the page to write")
    report.add_argument(
        "--across",
        action="store_true",
        help="instead, a table across data sets: rows trained on, columns tested on, of what `evaluate` wrote",
    )
    report.add_argument("--images", action="store_true", help="show the worst errors: puts images of the data in it")
    report.add_argument(
        "--figures",
        action="store_true",
        help="show what `figures` drew of each recipe's first run: puts images of the data in it, and makes it large",
    )
    imported = _add(
        commands,
        "import-predictions",
        import_command.import_predictions,
        help="measure another model's predictions by the same rules",
        description=import_command.DESCRIPTION,
    )
    import_command.add_arguments(imported)
    ensemble = _add(
        commands,
        "ensemble",
        _ensemble,
        help="average the predictions of several runs",
        description="Averages the probabilities of the given runs. The members are recorded before their test "
        "predictions are read; a temperature is fitted on val; nothing selects among them.",
    )
    _add_runs(ensemble)
    ensemble.add_argument(
        "--out", type=user_path, required=True, metavar="DIR", help="the ensemble's folder; report takes it"
    )
    ensemble.add_argument("--temperature", action="store_true", help="fit a temperature for the mean")
    sync = _add(
        commands,
        "sync",
        _sync,
        help="send runs to Weights & Biases",
        description="Makes one W&B run of each run folder, in whatever mode it was trained and as far as it went; "
        "where the server has a part of it, the rest is added.",
    )
    sync.add_argument("runs", type=user_path, nargs="+", metavar="RUN", help="a run folder, such as runs/smoke-seed0")
    cache = _add(
        commands,
        "cache",
        _cache,
        help="list the data sets that are kept decoded on this machine, or remove some",
        description="Lists what the cache holds: size, last use, the data set, whether that still exists. What has not "
        "been used for 90 days is also removed whenever another data set is decoded, and what has been unused for "
        "longest while all of it takes more than a quarter of the disk.",
    )
    cache.add_argument(
        "--prune",
        action="store_true",
        help="remove what has not been used for 90 days, what data sets that are gone have left, and what is too much "
        "for the disk; never what is in use",
    )
    cache.add_argument("--older-than", type=float, metavar="DAYS", help="with --prune, instead of 90 days")
    cache.add_argument("--max-size", type=float, metavar="GIB", help="with --prune, instead of a quarter of the disk")
    _add(commands, "keys", _keys, help="list the keys that a job may have, with defaults and meanings")
    _add(commands, "recipes", _recipes, help="list the recipes, arrays and cluster profiles that come with it")
    for name in ("predict", "keys", "recipes"):
        commands.choices[name].set_defaults(is_result=True)


def _add_job_to_inspect(inspect: argparse.ArgumentParser) -> None:
    """``inspect`` is a command of shards, which knows no jobs."""
    inspect.add_argument(
        "--job",
        nargs="+",
        metavar=("JOB", "key.sub=value"),
        help="instead, draw a batch as this job's training step sees it, of OUT if given",
    )
    of_data = inspect.get_default("execute")
    inspect.set_defaults(
        execute=lambda options: exit_status_of(lambda: _inspect_job(options)) if options.job else of_data(options)
    )


def _add(
    commands: "Commands[argparse.ArgumentParser]", name: str, function: Any, **texts: Any
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, **texts)
    parser.set_defaults(function=function, execute=_execute)
    return parser


def add_job(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a job, or an array, and change its keys."""
    job = parser.add_argument("job", metavar="JOB", help="a recipe's name, such as smoke, or a YAML file")
    job.completer = _complete_job  # type: ignore[attr-defined]
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key.sub=value", help="overrides, such as data.path=data/fake"
    )


def _complete_job(prefix: str, **_: object) -> list[str]:
    """For argcomplete: the recipes and arrays, and YAML files here."""
    from fer_ddp.config.recipe_files import packaged_names

    return [*packaged_names("recipe", "array"), *map(str, Path(prefix).parent.glob("*.yaml"))]


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=user_path, metavar="RUN", help="a run folder, such as runs/smoke-seed0")


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        type=user_path,
        metavar="RUN",
        help="run folders, or folders that hold some, such as runs/quick",
    )


def _train(options: argparse.Namespace) -> None:
    limit_spinning()
    keep_freed_memory()
    from fer_ddp import distributed
    from fer_ddp.config.load import load_job
    from fer_ddp.training.run import train

    job = load_job(options.job, options.overrides)
    with distributed.world() as device:
        train(job, device, ends_process=True)


def _evaluate(options: argparse.Namespace) -> None:
    from fer_ddp import distributed, evaluate

    _check_data_path_alone("evaluate", options.overrides)
    folders = [override.removeprefix("data.path=") for override in options.overrides]
    dropped = options.drop_classes.split(",") if options.drop_classes else []
    results = evaluate(
        options.run, folders[-1] if folders else None, merge=options.merge, drop_classes=dropped, out=options.out
    )
    if distributed.is_main():
        print(results.text())


def _check_data_path_alone(command: str, overrides: list[str]) -> None:
    other = [override for override in overrides if not override.startswith("data.path=")]
    if other:
        raise JobError(f"{other[0]}: {command} takes data.path=FOLDER alone; all else is the run's own")


def _export(options: argparse.Namespace) -> None:
    from fer_ddp.deploy.export import export

    print(export(options.run, options.out, int8=options.int8).text())


def _push(options: argparse.Namespace) -> None:
    from fer_ddp.deploy.hub import push

    print(f"sent to {push(options.folder, options.name, private=options.private)}")


def _cache(options: argparse.Namespace) -> None:
    from fer_ddp.data.cache_folder import cache_folder, cache_table, prune_cache, removed_text

    limits = {"--older-than": options.older_than, "--max-size": options.max_size}
    for name, limit in limits.items():
        if limit is not None and not options.prune:
            raise JobError(f"{name} {limit:g}: needs --prune, which removes what is older or more")
        if limit is not None and not limit >= 0:
            raise JobError(f"{name} {limit:g}: should be 0 or more")
    folder = cache_folder()
    if options.prune:
        size = None if options.max_size is None else int(min(options.max_size, 2**33) * 2**30)
        print(removed_text(prune_cache(folder, days=options.older_than, max_bytes=size, absent_data=True)))
    print(cache_table(folder))


def _keys(options: argparse.Namespace) -> None:
    from fer_ddp.config.reference import key_table

    print(key_table())


def _recipes(options: argparse.Namespace) -> None:
    from fer_ddp.config.recipe_files import recipe_table

    print(recipe_table())


def _sync(options: argparse.Namespace) -> None:
    from fer_ddp.runs.tracking import send_run

    for run in options.runs:
        print(send_run(run), flush=True)


def _report(options: argparse.Namespace) -> None:
    from fer_ddp.report.across import write_across
    from fer_ddp.report.write import write_report

    if options.across:
        for option in (option for option in ("images", "figures") if getattr(options, option)):
            raise JobError(f"--{option}: the table across data sets has none; leave it or --across out")
        print(write_across(options.runs, options.out).text())
    else:
        print(write_report(options.runs, options.out, images=options.images, figures=options.figures).text())


def _figures(options: argparse.Namespace) -> None:
    from fer_ddp import distributed
    from fer_ddp.config.load import load_job
    from fer_ddp.evaluation.sheets import draw_sheets
    from fer_ddp.runs.files import check_run_folder
    from fer_ddp.runs.folder import RunFolder

    _check_data_path_alone("figures", options.overrides)
    check_run_folder(options.run)
    with distributed.world() as device:
        job = load_job(options.run / "config.yaml", options.overrides)
        written, notes = draw_sheets(RunFolder(options.run), job, device)
    print("\n".join([*notes, f"look at {', '.join(map(str, written))}"]))


def _inspect_job(options: argparse.Namespace) -> None:
    import json

    from fer_ddp.config.load import load_job
    from fer_ddp.training.augmented_batch import draw_augmented_batch

    name, *overrides = options.job
    if options.out is not None:
        overrides.append(f"data.path={json.dumps(str(options.out))}")
    print(f"look at {draw_augmented_batch(load_job(name, overrides), options.figures or Path())}")


def _ensemble(options: argparse.Namespace) -> None:
    from fer_ddp.evaluation.ensemble import write_ensemble

    print(write_ensemble(options.runs, options.out, temperature=options.temperature).text())


if __name__ == "__main__":
    guard_output()
    end_process(main(sys.argv[1:]))
