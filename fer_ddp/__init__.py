"""Trains facial expression recognition models; docs/python.md shows the interface, README.md the commands.

Importing it loads no torch: each function does when it is called. What a user did wrong raises a `UserError`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_ddp.errors import Interrupted, JobError, RunError
from shards.errors import DataError, UserError

if TYPE_CHECKING:
    import torch

    from fer_ddp.config.job import Job as Job
    from fer_ddp.data.dataset import FERDataset as FERDataset
    from fer_ddp.deploy.faces import FaceDetector as FaceDetector
    from fer_ddp.deploy.predict import Predictions as Predictions
    from fer_ddp.deploy.predict import Predictor as Predictor
    from fer_ddp.evaluation.evaluate import Results as Results
    from fer_ddp.report.write import WrittenReport as WrittenReport
    from shards.figures import plot_sample_images as plot_sample_images

    __version__: str

_LAZY = {
    "FERDataset": "fer_ddp.data.dataset",
    "FaceDetector": "fer_ddp.deploy.faces",
    "Job": "fer_ddp.config.job",
    "Predictions": "fer_ddp.deploy.predict",
    "Predictor": "fer_ddp.deploy.predict",
    "Results": "fer_ddp.evaluation.evaluate",
    "WrittenReport": "fer_ddp.report.write",
    "plot_sample_images": "shards.figures",
}

__all__ = [
    "DataError",
    "FERDataset",
    "FaceDetector",
    "Interrupted",
    "Job",
    "JobError",
    "Predictions",
    "Predictor",
    "Results",
    "RunError",
    "UserError",
    "WrittenReport",
    "evaluate",
    "load",
    "load_job",
    "plot_sample_images",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'fer_ddp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fer-ddp")
    except PackageNotFoundError:  # a checkout that was not installed
        return "unknown"


def load_job(job: str | Path, overrides: Sequence[str] = (), **keys: object) -> "Job":
    """A job from a YAML file, or from a recipe by its name, such as ``smoke``.

    overrides: ``key.sub=value``, as on the command line. keys: the same as Python values, ``epochs=2`` or
    ``**{"data.path": folder}``. Raises JobError for an unknown key, a wrong type or an impossible combination.
    """
    import json

    from fer_ddp.config.load import load_job

    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else str(value)  # of NumPy or torch; else a path

    texts = [overrides] if isinstance(overrides, str) else overrides
    given = [f"{key}={json.dumps(value, default=plain)}" for key, value in keys.items()]
    return load_job(Path(job), [*texts, *given])


def train(job: "Job", device: "str | torch.device | None" = None) -> "Results":
    """Train ``job`` in its run folder and evaluate it; a run that was interrupted is resumed.

    device: such as ``cpu`` or ``cuda:1``; None is a GPU if there is one. Returns the summary and the run folder. In the
    main thread a stop signal or Ctrl-C saves the state and raises Interrupted. Raises JobError before anything is
    written, also if another thread of this process trains; RunError or DataError if the work fails.
    """
    from fer_ddp import distributed
    from fer_ddp.config.job import Job
    from fer_ddp.evaluation.evaluate import Results
    from fer_ddp.hardware import choose_device
    from fer_ddp.runs.files import read_json
    from fer_ddp.training.run import train

    if not isinstance(job, Job):
        raise JobError(f"train: takes a job; load it first: fer_ddp.train(fer_ddp.load_job({str(job)!r}))")
    with distributed.world() as default:
        train(job, choose_device(device, default))
    folder = Path(job.run)
    return Results(summary=read_json(folder / "summary.json"), folder=folder)


def evaluate(
    run: str | Path,
    data: str | Path | None = None,
    device: "str | torch.device | None" = None,
    *,
    merge: Sequence[str] = (),
    drop_classes: Sequence[str] = (),
    out: str | Path | None = None,
) -> "Results":
    """Evaluate the weights that a run selected on its val and test splits, or on those of other ``data``.

    The classes of other data are mapped by name. Of those that the model does not have, the samples are counted as
    another class (``merge=["contempt=neutral"]``) or left out (``drop_classes=["contempt"]``). Writes ``summary.json``,
    ``predictions/`` and ``figures/`` into the folder ``out``, by default the run's, for other data a folder inside it;
    returns that folder and the summary. Raises JobError if ``run`` is not a run folder or the data don't fit the model,
    DataError if the data are damaged.
    """
    import json

    from fer_ddp import distributed
    from fer_ddp.config.load import load_job
    from fer_ddp.evaluation.class_mapping import ClassOptions
    from fer_ddp.evaluation.evaluate import evaluate_run
    from fer_ddp.hardware import choose_device
    from fer_ddp.runs.files import check_run_folder
    from fer_ddp.runs.folder import RunFolder

    folder = RunFolder(run)
    check_run_folder(folder.path)
    job = load_job(folder.path / "config.yaml", [] if data is None else [f"data.path={json.dumps(str(data))}"])
    if data is None and not Path(job.data.path).exists():
        raise JobError(f"{job.data.path}: the run's data are not there; give their folder: data.path=FOLDER")
    with distributed.world() as default:
        chosen = choose_device(device, default)
        classes = ClassOptions(merge=tuple(merge), drop=tuple(drop_classes))
        return distributed.rank_zero_call(
            lambda: evaluate_run(
                folder,
                job,
                chosen,
                folder.world_size(),
                class_options=classes,
                out=None if out is None else Path(out),
            )
        )


def load(folder: str | Path | Sequence[str | Path], device: "str | torch.device | None" = None) -> "Predictor":
    """A trained model from a run's, an ensemble's or an exported folder: ``load("runs/smoke-seed0").predict("a.png")``.

    folder: or several, whose probabilities are averaged. device: such as ``cpu`` or ``cuda:1``; None is a GPU if there
    is one. Raises JobError if ``folder`` is none of these or several don't fit each other, RunError if it is damaged.
    """
    from fer_ddp import distributed
    from fer_ddp.deploy.load import average
    from fer_ddp.hardware import choose_device, default_device

    folders = [folder] if isinstance(folder, str | Path) else folder
    return average(
        list(map(Path, folders)), choose_device(device, default_device(distributed.rank(), distributed.local_rank()))
    )


def write_report(
    runs: str | Path | Iterable[str | Path], out: str | Path = "report.html", *, images: bool = False
) -> "WrittenReport":
    """Compare runs on one page ``out`` (.html), with the same as .md and .csv beside it; returns the three paths.

    runs: a run folder, a folder that holds some, or several of either. images: also show the worst errors, which puts
    images of the data set into the page. Raises JobError for a path without runs.
    """
    from fer_ddp.report.write import write_report

    folders = [runs] if isinstance(runs, str | Path) else runs
    return write_report([Path(run) for run in folders], Path(out), images=images)
