"""The commands: ``python -m shards pack | verify | inspect | leakage | fake``."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

from shards.errors import DataError, os_error_message
from shards.files import user_path
from shards.output import execute, guard_output
from shards.parallel import usable_cpus
from shards.splits import SPLITS
from shards.text import plural, printable

if TYPE_CHECKING:
    from shards.manifest import Manifest
    from shards.sources.scan import Source

_MAX_SIZE = 4096
"""Of ``--size``: one image more than fills a worker's memory otherwise."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 the data cannot be used, 2 the command is wrong."""
    parser = argparse.ArgumentParser(prog="python -m shards", description="Face images in WebDataset shards.")
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    return execute(parser.parse_args(arguments))


def _execute(options: argparse.Namespace) -> int:
    try:
        options.function(options)
    except DataError as error:
        print(printable(f"{options.program}: {error}"), file=sys.stderr)
        return error.exit_status
    except OSError as error:  # a name that is too long, a link to itself, a full disk
        print(printable(f"{options.program}: {os_error_message(error)}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{options.program}: stopped; nothing was written", file=sys.stderr)
        return 1
    return 0


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands of this package; ``options.execute(options)`` runs one and returns its exit status."""
    before = set(commands.choices)
    pack = commands.add_parser("pack", help="pack a CSV, folders or lists of images into shards")
    pack.add_argument("source", metavar="SOURCE", type=user_path, help="a CSV, a folder or a tar; see docs/data.md")
    pack.add_argument("out", metavar="OUT", type=user_path, help="the folder to make; it appears whole or not at all")
    # Not choices=FORMATS: the sources take as long to import as many a command takes.
    pack.add_argument(
        "--format", default="auto", metavar="NAME", help="auto (by what SOURCE is), or a name in docs/data.md"
    )
    _writing_options(pack)
    pack.add_argument(
        "--max-rejects", type=int, default=0, metavar="N", help="continue if at most N samples are bad (0)"
    )
    pack.add_argument(
        "--allow-class",
        action="append",
        default=[],
        metavar="NAME",
        help="keep a class folder that looks like a mistake: in one split alone, or of very few images; repeatable",
    )
    pack.add_argument(
        "--scheme",
        metavar="NAME",
        help="what the labels mean: fer2013, ferplus, rafdb (1 to 7), affectnet7, affectnet8, ckplus, ckplus-files, "
        "expw, kdef, jaffe, or a YAML file with a list `classes`",
    )
    pack.add_argument(
        "--label-field",
        metavar="NAME",
        help="the field of a tar's .json files, or the column of a Parquet file, that holds the label",
    )
    _image_options(pack)
    _class_and_split_options(pack)
    pack.add_argument(
        "--votes", type=user_path, metavar="CSV", help="FER+'s fer2013new.csv, joined to the CSV row by row"
    )
    pack.add_argument(
        "--without-leaks",
        action="store_true",
        help="leave out val and test images that also appear in train, exactly or nearly",
    )
    pack.set_defaults(function=_pack)

    verify = commands.add_parser("verify", help="read a data set back and compare it with its manifest")
    verify.add_argument("out", metavar="OUT", type=user_path, help="a folder that pack or fake wrote")
    verify.set_defaults(function=_verify, is_result=True)

    inspect = commands.add_parser("inspect", help="print what a data set holds and how much of it leaks; draw figures")
    inspect.add_argument(
        "out",
        nargs="?",
        metavar="OUT",
        type=user_path,
        help="a folder that pack or fake wrote, or of WebDataset tars",
    )
    _workers_option(inspect)
    inspect.add_argument("--figures", type=user_path, metavar="DIR", help="draw distribution.png and samples.png there")
    inspect.set_defaults(function=_inspect, is_result=True)

    leakage = commands.add_parser("leakage", help="list the images that appear twice in a data set, exactly or nearly")
    leakage.add_argument("out", metavar="OUT", type=user_path, help="as for inspect")
    leakage.add_argument(
        "--out", dest="ledger", metavar="CSV", type=user_path, help="where the list goes (OUT.leakage.csv)"
    )
    _workers_option(leakage)
    leakage.set_defaults(function=_leakage)

    fake = commands.add_parser("fake", help="draw synthetic faces and pack them")
    fake.add_argument("out", metavar="OUT", type=user_path, help="the folder to make; it appears whole or not at all")
    for split, count in zip(SPLITS, (4000, 800, 800), strict=True):
        fake.add_argument(f"--{split}", type=int, default=count, metavar="N", help=f"faces in {split} ({count})")
    _writing_options(fake)
    fake.set_defaults(function=_fake)

    for parser in (commands.choices[name] for name in commands.choices if name not in before):
        parser.set_defaults(execute=_execute, program=parser.prog.removeprefix("python -m "))


def _class_and_split_options(pack: argparse.ArgumentParser) -> None:
    pack.add_argument(
        "--classes", metavar="NAME,NAME", help="keep these classes alone, in this order: happy,sad,neutral"
    )
    pack.add_argument(
        "--merge",
        action="append",
        default=[],
        metavar="NAME=NAME",
        help="merge classes, before --classes: contempt=neutral, or angry,disgust=negative; repeatable",
    )
    pack.add_argument(
        "--val-fraction", type=_fraction, default=Fraction(), metavar="X", help="take X of train, such as 0.1, as val"
    )
    pack.add_argument(
        "--test-fraction",
        type=_fraction,
        default=Fraction(),
        metavar="X",
        help="take X of train, such as 0.1, as test; 1 makes a data set to evaluate on",
    )
    pack.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="K",
        help="make K data sets, OUT/fold0 and so on, each with another part of train as its val",
    )


def _image_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size", type=int, metavar="N", help="resize every image to N x N pixels (bilinear, antialiased)"
    )
    colour = parser.add_mutually_exclusive_group()
    colour.add_argument("--grey", dest="channels", action="store_const", const=1, help="convert every image to grey")
    colour.add_argument("--rgb", dest="channels", action="store_const", const=3, help="convert every image to RGB")
    fit = parser.add_mutually_exclusive_group()
    fit.add_argument(
        "--crop", dest="fit", action="store_const", const="crop", help="take the square in the centre of an image"
    )
    fit.add_argument("--pad", dest="fit", action="store_const", const="pad", help="make an image square by black bars")
    parser.set_defaults(fit="refuse")


def _writing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the order of the samples (0)")
    parser.add_argument(
        "--shard-samples", type=int, default=2048, metavar="N", help="samples in a shard at most (2048)"
    )
    _workers_option(parser)


def _workers_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=int,
        default=usable_cpus(),
        metavar="N",
        help="processes (one per CPU); the result does not depend on it",
    )


def _workers(options: argparse.Namespace) -> int:
    workers: int = options.workers
    if workers < 1:
        raise DataError(f"--workers is {workers}; it should be 1 or more", exit_status=2)
    return min(workers, 4 * usable_cpus())  # more would only wait


def _pack(options: argparse.Namespace) -> None:
    from shards.images import ImageOptions
    from shards.labels import read_scheme
    from shards.packing.classes import ClassChoice
    from shards.packing.division import Division
    from shards.packing.rejects import rejects_path
    from shards.sources.listing import SourceOptions
    from shards.sources.registry import source_of

    for path in (options.source, options.out, rejects_path(options.out)):
        try:
            path.resolve()
        except (OSError, RuntimeError):  # of Python 3.12 and before
            raise DataError(f"{path}: is a link that leads to itself; remove it", exit_status=2) from None
    if options.out.resolve().is_relative_to(options.source.resolve()) and options.source.is_dir():
        raise DataError(f"{options.out}: is inside the source {options.source}; choose an OUT beside it", exit_status=2)
    if options.out.exists() and not (options.source.exists() or (options.out / "manifest.json").exists()):
        raise DataError(
            f"{options.source}: there is no such file or folder; SOURCE comes first, then OUT", exit_status=2
        )
    if rejects_path(options.out).resolve() == options.source.resolve():
        raise DataError(
            f"{options.source}: is where the rejects of {options.out} would be listed; choose another OUT",
            exit_status=2,
        )
    if options.size is not None and not 1 <= options.size <= _MAX_SIZE:
        raise DataError(f"--size is {options.size}; it should be 1 to {_MAX_SIZE}", exit_status=2)
    chosen = SourceOptions(
        scheme=read_scheme(options.scheme) if options.scheme else None,
        allowed_classes=tuple(options.allow_class),
        label_field=options.label_field,
        images=ImageOptions(size=options.size, channels=options.channels, fit=options.fit),
    )
    source = source_of(options.source, options.format, options.votes, chosen)
    division = Division(val_fraction=options.val_fraction, test_fraction=options.test_fraction, folds=options.folds)
    classes = ClassChoice(
        merge=tuple(options.merge), classes=tuple(options.classes.split(",")) if options.classes else ()
    )
    _write(
        options,
        source,
        max_rejects=options.max_rejects,
        without_leaks=options.without_leaks,
        classes=classes,
        division=division,
    )


def _fake(options: argparse.Namespace) -> None:
    from shards.sources.synthetic_faces import Faces, scan_faces

    faces = Faces(train=options.train, val=options.val, test=options.test, seed=options.seed)
    _write(options, partial(scan_faces, faces))


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number; it should be one such as 0.1") from None


def _write(options: argparse.Namespace, source: "Source", **chosen: Any) -> None:
    """Pack ``source`` and print what was done; ``chosen`` are arguments of :func:`shards.packing.packer.pack`."""
    from shards.inspection import class_table
    from shards.packing.packer import pack
    from shards.packing.rejects import rejects_path, summarize_rejects
    from shards.sources.scan import is_all_train

    started = time.monotonic()
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP, and `nohup` has it ignored
        if signal.getsignal(getattr(signal, name, signal.SIGTERM)) != signal.SIG_IGN:
            signal.signal(getattr(signal, name, signal.SIGTERM), signal.default_int_handler)
    packed = pack(
        source,
        options.out,
        seed=options.seed,
        shard_samples=options.shard_samples,
        workers=_workers(options),
        **chosen,
    )
    manifest = packed.manifest
    left_out = {split: int(manifest.options.get(f"left_out_{split}", 0)) for split in SPLITS}
    if packed.rejects:
        listed = f"{len(packed.rejects)} of {packed.listed} samples"
        print(f"{listed} were rejected; {rejects_path(options.out)} gives the reasons:")
        print("\n".join(summarize_rejects(packed.rejects)))
    if "train" not in manifest.splits:
        print(f"{options.out}: has no train split, so models can be evaluated on it but not trained")
    if manifest.untrained_classes:
        print(f"warning: train has no sample of {', '.join(manifest.untrained_classes)}, which val or test has")
    if "without_leaks" in manifest.options:
        print(f"left out, since they also appear in train: {left_out['val']} of val and {left_out['test']} of test.")
    data_sets = {options.out: manifest}
    if packed.folds:
        data_sets = {options.out / f"fold{fold}": each for fold, each in enumerate(packed.folds)}
    for path, each in data_sets.items():
        counts = ", ".join(f"{split.samples} {name}" for name, split in each.splits.items())
        if packed.created:
            print(f"{path}: {counts} in {_shards(each)}, {time.monotonic() - started:.1f} s.")
        else:
            print(f"{path}: already holds these samples ({counts}), byte for byte.")
    advice = [note for note in packed.notes if is_all_train(note)]
    notes = [note for note in packed.notes if note not in advice]
    if "division" in chosen and "train" in manifest.splits and "val" not in manifest.splits:
        general = "there is no val: --val-fraction 0.1 sets a tenth of train aside as one, --folds 5 makes five"
        # Where test was taken out of train, the advice that all of the source is train is not true any more.
        notes += [general] if "test_fraction" in manifest.options else advice or [general]
    totals = [sum(counts) for counts in zip(*(split.class_counts for split in manifest.splits.values()), strict=True)]
    if "division" in chosen and "train" in manifest.splits and not all(totals):
        found = ",".join(name for name, total in zip(manifest.class_names, totals, strict=True) if total)
        absent = ", ".join(name for name, total in zip(manifest.class_names, totals, strict=True) if not total)
        notes.append(f"no sample of {absent}; models get an output for each, unless packed with --classes {found}")
    print("\n".join([*notes, *class_table(manifest)]))


def _shards(manifest: "Manifest") -> str:
    return plural(sum(len(split.shards) for split in manifest.splits.values()), "shard")


def _verify(options: argparse.Namespace) -> None:
    from shards.verify import verify

    manifest = verify(options.out)
    print(f"{options.out}: all {manifest.samples} samples in {_shards(manifest)} match the manifest.")


def _inspect(options: argparse.Namespace) -> None:
    from shards.inspection import inspect
    from shards.leakage.find import MAX_AUTOMATIC_SAMPLES, describe_leakage, find_leakage
    from shards.reading.scan import load_or_scan_manifest

    if options.out is None:
        raise DataError("give the folder of a data set", exit_status=2)
    print(inspect(options.out, options.figures, _workers(options)), flush=True)
    samples = load_or_scan_manifest(options.out).samples
    if samples > MAX_AUTOMATIC_SAMPLES:
        print(f"\nto see how much leaks, run `fer-ddp leakage {options.out}`: it compares {samples:,} images")
        return
    print(f"\n{describe_leakage(find_leakage(options.out, _workers(options)))}")


def _leakage(options: argparse.Namespace) -> None:
    from shards.leakage.find import describe_leakage, find_leakage, ledger_path, write_ledger

    leakage = find_leakage(options.out, _workers(options))
    ledger = options.ledger or ledger_path(options.out)
    rows = write_ledger(leakage, ledger)
    print(f"{describe_leakage(leakage)}\n{ledger}: {rows:,} rows")


if __name__ == "__main__":
    guard_output()
    sys.exit(main())
