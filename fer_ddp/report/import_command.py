"""``fer-ddp import-predictions``: its arguments, and what they mean."""

import argparse

from fer_ddp.errors import JobError
from shards.files import user_path

DESCRIPTION = (
    "Makes a folder that `report` takes like a finished run, of a CSV of predictions or of an ONNX model, which is run "
    "here. docs/others.md has the columns."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``import-predictions``."""
    parser.add_argument("file", type=user_path, metavar="FILE", help="predictions as .csv, or a model as .onnx")
    parser.add_argument("--data", type=user_path, required=True, metavar="OUT", help="the packed data set")
    parser.add_argument("--name", required=True, help="what the report calls it")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        choices=("val", "test"),
        help="what it covers (all there is); repeatable",
    )
    parser.add_argument("--run", type=user_path, metavar="DIR", help="the folder to make (runs/NAME)")
    parser.add_argument("--seed", type=int, metavar="N", help="of one of several runs of the same model")
    parser.add_argument("--source", metavar="URL", help="of the model, its code or its paper")
    parser.add_argument("--selection", metavar="TEXT", help="how its weights were chosen, and on which data")
    parser.add_argument("--note", metavar="TEXT", help="what else the report should tell")
    parser.add_argument("--logits", action="store_true", help="it gives logits, not probabilities")
    parser.add_argument("--classes", default="", metavar="NAME,...", help="what 0, 1, 2 ... or the outputs mean")
    parser.add_argument(
        "--merge", action="append", default=[], metavar="NAME=NAME", help="add a class of it to one of the data"
    )
    parser.add_argument("--drop-classes", default="", metavar="NAME,...", help="leave out these classes of it")
    model = parser.add_argument_group("what an ONNX model takes, where its file does not say it")
    model.add_argument("--size", type=int, metavar="PIXELS", help="height and width")
    model.add_argument("--color", choices=("grey", "rgb", "bgr"))
    model.add_argument("--layout", choices=("NCHW", "NHWC"))
    model.add_argument("--scale", type=float, metavar="X", help="divisor of the pixels, 255 for 0 to 1")
    model.add_argument("--mean", default="0", metavar="X,...", help="subtracted after that, a number a channel (0)")
    model.add_argument("--std", default="1", metavar="X,...", help="divisor after that, a number a channel (1)")


def import_predictions(options: argparse.Namespace) -> None:
    """Run the command."""
    from fer_ddp.report import imported
    from fer_ddp.report.imported_classes import ClassesOfFile
    from fer_ddp.report.imported_onnx import InputDescription

    result = imported.import_predictions(
        options.file,
        options.data,
        options.name,
        splits=options.split,
        run=options.run,
        seed=options.seed,
        origin=imported.Origin(source=options.source, selection=options.selection, note=options.note),
        classes=ClassesOfFile(
            order=_names(options.classes), merge=tuple(options.merge), drop=_names(options.drop_classes)
        ),
        logits=options.logits,
        input_description=InputDescription(
            size=options.size,
            color=options.color,
            layout=options.layout,
            scale=options.scale,
            mean=_numbers("--mean", options.mean),
            std=_numbers("--std", options.std),
        ),
    )
    print(result.text())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise JobError(f"{option} {text}: should be a number, or one a channel such as 0.5,0.5,0.5") from None
