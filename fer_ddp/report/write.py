"""The report of runs: a self-contained HTML page, and the same as Markdown and CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_ddp.errors import JobError, RunError
from fer_ddp.report.collect import ReportRuns, collect_runs
from fer_ddp.report.costs import NetworkCost, network_cost
from fer_ddp.report.data_folder import DataFolder, find_data, find_sheets, worst_mistakes
from fer_ddp.report.page import page
from fer_ddp.report.text import markdown, table
from fer_ddp.report.views import Leaking, make_views
from fer_ddp.runs.finished import SkippedRun
from shards.files import atomic_write_text
from shards.leakage.find import MAX_AUTOMATIC_SAMPLES, leaking_keys
from shards.parallel import usable_cpus


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenReport:
    """What `write_report` did."""

    page: Path
    markdown: Path
    table: Path
    left_out: tuple[SkippedRun, ...]
    """The run folders that the report skips; the page lists them too."""

    def text(self) -> str:
        """For a terminal."""
        lines = [f"left out: {out.path} {out.reason}" for out in self.left_out]
        return "\n".join([*lines, f"look at {self.page}, {self.markdown}, {self.table}"])


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    images: bool = False,
    figures: bool = False,
    leaking: Leaking | None = None,
) -> WrittenReport:
    """Write the report of ``runs`` to ``out`` (.html), with ``.md`` and ``.csv`` beside it.

    runs: run folders, ensembles' folders, or folders that hold some. images: also show the worst errors, which puts
    images of the data set into the page. figures: also show what ``fer-ddp figures`` drew of the first run of each
    recipe, with images as well. leaking: by split, the keys of the samples whose image is also in train;
    every figure comes with and without them. None: search for them, if the data are accessible and not too many.

    The same runs give the same bytes. Raises JobError for a path without runs or a wrong ``out``, RunError if no run
    can be used or a file can't be written, DataError if the data are here and damaged.
    """
    if out.suffix != ".html":
        raise JobError(f"--out {out}: must end in .html; the .md and .csv beside it get the same name")
    collected = collect_runs(runs)
    data, no_data = find_data(collected)
    if images and data is None:
        raise JobError(f"--images: {no_data[0].lower()}{no_data[1:]}")
    if leaking is None and data is not None and data.manifest.samples <= MAX_AUTOMATIC_SAMPLES:
        leaking = leaking_keys(data.path, workers=usable_cpus())
    views = make_views(collected, leaking, data)
    costs = _costs(collected, data)
    shown = (*views[0].recipes, *views[0].ensembles)
    mistakes = worst_mistakes(data, shown[0], views[0].reporting_split) if images and data else []
    written = WrittenReport(
        page=out, markdown=out.with_suffix(".md"), table=out.with_suffix(".csv"), left_out=collected.left_out
    )
    files = {
        written.page: page(
            collected,
            views,
            costs=costs,
            data=data,
            no_data=no_data,
            leaking=leaking,
            mistakes=mistakes,
            sheets=find_sheets(shown) if figures else {},
        ),
        written.markdown: markdown(collected, views, costs),
        written.table: table(collected, views, costs, leaking),
    }
    write_files(files)
    return written


def write_files(files: Mapping[Path, str]) -> None:
    """Write each text to its path, in folders that are made. Raises RunError."""
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, text)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error


def _costs(collected: ReportRuns, data: DataFolder | None) -> dict[str, NetworkCost | None]:
    """By recipe; None where the data, and so the images' shape, are not accessible."""
    known: dict[str, NetworkCost | None] = {}
    for recipe in collected.all_recipes:
        known[recipe.name] = network_cost(recipe.runs[0], data.manifest.image_shape) if data else None
    return known
