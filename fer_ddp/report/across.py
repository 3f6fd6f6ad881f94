"""A table across data sets: rows are what was trained on, columns what was tested on."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_ddp.config.recipes import identity, recipe_names
from fer_ddp.errors import JobError, RunError
from fer_ddp.report.page import render
from fer_ddp.report.text import left_out_lines
from fer_ddp.report.write import WrittenReport, write_files
from fer_ddp.runs.files import read_json
from fer_ddp.runs.finished import FinishedRun, SkippedRun, find_runs, read_runs
from fer_ddp.runs.shapes import Summary
from fer_ddp.statistics.intervals import Interval, wilson_interval
from fer_ddp.text import markdown_text, percent, percent_interval
from shards.labels import class_meaning

_DIGITS = 12
"""Of a data set's digest, as ``evaluate`` names its folders."""
_ELSEWHERE = "elsewhere"
"""Where a model was trained whose predictions were imported."""
NOTE = (
    "Accuracy, the mean over seeds, and Wilson's 95 % interval for so many images, which does not cover other seeds. "
    "Classes are mapped by name. An interval of a model on the data it was trained on is that of other images of the "
    "same source; across sources the labels differ as well."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """How the runs of a row did on a data set."""

    accuracies: tuple[float, ...]
    """A run each."""
    images: int
    is_own: bool
    """Whether it is the data set that the row was trained on."""

    @property
    def accuracy(self) -> float:
        """The mean over runs."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def interval(self) -> Interval:
        """Wilson's, 95 %, of the mean."""
        return wilson_interval(round(self.accuracy * self.images), self.images)


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A data set, or a part of its classes."""

    name: str
    """``rafdb test``, with what was merged and left out."""
    digest: str
    """The first digits of its manifest's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Runs of one recipe on one data set."""

    recipe: str
    trained_on: str
    seeds: int
    cells: dict[Column, Cell]


@dataclass(frozen=True, kw_only=True, slots=True)
class Across:
    """The table."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    """First what was trained on, in the order of the rows."""
    left_out: tuple[SkippedRun, ...]


def collect_across(paths: Sequence[Path]) -> Across:
    """Read the runs that ``paths`` are or hold, and their evaluations on other data.

    Raises JobError for a path that holds no run, RunError if no run is finished.
    """
    runs, left_out = read_runs(find_runs(paths))
    if not runs:
        raise RunError("there is nothing to report yet: " + "; ".join(f"{out.path} {out.reason}" for out in left_out))
    names = _data_names(runs)
    groups: dict[tuple[Any, str], list[tuple[str, FinishedRun]]] = {}
    for recipe, run in zip(recipe_names(runs), runs, strict=True):
        # Imported predictions for several data sets are of one model, trained elsewhere.
        key = ((run.name, "imported"), "") if run.imported else (identity(run), run.data_digest)
        groups.setdefault(key, []).append((recipe, run))
    labels = Counter((group[0][1].name, digest) for (_, digest), group in groups.items())
    rows = []
    for (_, digest), group in groups.items():
        recipe, first = group[0]
        cells: dict[Column, list[tuple[dict[str, Any], bool]]] = {}
        for _, run in group:
            for column, result, is_own in _results(run, names):
                cells.setdefault(column, []).append((result, is_own))
        rows.append(
            Row(
                recipe=first.name if labels[first.name, digest] == 1 else recipe,
                trained_on=_ELSEWHERE if first.imported else names[digest[:_DIGITS]],
                seeds=len({run.seed for _, run in group}),
                cells={
                    column: Cell(
                        accuracies=tuple(result["accuracy"] for result, _ in results),
                        images=results[0][0]["n"],
                        is_own=results[0][1],
                    )
                    for column, results in cells.items()
                },
            )
        )
    own = [column for row in rows for column, cell in row.cells.items() if cell.is_own]
    columns = dict.fromkeys([*own, *(column for row in rows for column in row.cells)])
    return Across(rows=tuple(rows), columns=tuple(columns), left_out=tuple(left_out))


def _data_names(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """The name of each data set by the first digits of its digest: its folder's, with digits where two share it."""
    folders: dict[str, str] = {}
    for run in runs:
        for digest, summary in _evaluations(run):
            job = (run.job or run.imported) if digest == run.data_digest[:_DIGITS] else {}
            path = summary.get("data", {}).get("path") or job.get("data", {}).get("path") or ""
            folders[digest] = folders.get(digest) or Path(path).name
    shared = Counter(folders.values())
    return {
        digest: folder if folder and shared[folder] == 1 else f"{folder or 'data'} {digest[:6]}"
        for digest, folder in folders.items()
    }


def _evaluations(run: FinishedRun) -> Iterator[tuple[str, dict[str, Any]]]:
    """(first digits of the data's digest, summary) of the run's own results and of those on other data."""
    yield run.data_digest[:_DIGITS], run.summary
    for path in sorted((run.path / "evaluations").glob("*/summary.json")):
        yield path.parent.name[:_DIGITS], read_json(path, Summary)


def _results(run: FinishedRun, names: dict[str, str]) -> Iterator[tuple[Column, dict[str, Any], bool]]:
    """(column, metrics, whether it is the run's own data set) of each evaluation: of test, or val where it lacks it."""
    for digest, summary in _evaluations(run):
        split = "test" if "test" in summary else "val"
        if split not in summary:
            continue
        classes = summary.get("data", {}).get("classes", {})
        dropped = [name for name, new in classes.items() if new is None]
        merged = [
            f"{name} as {new}" for name, new in classes.items() if new and class_meaning(name) != class_meaning(new)
        ]
        words = [f"{names[digest]} {split}", *merged, *(f"without {name}" for name in dropped)]
        own = not run.imported and digest == run.data_digest[:_DIGITS]
        yield Column(name=", ".join(words), digest=digest), summary[split], own


def write_across(paths: Sequence[Path], out: Path) -> WrittenReport:
    """Write the table of the runs that ``paths`` are or hold to ``out`` (.html), with .md and .csv beside it.

    Raises as `collect_across` does, JobError for a wrong ``out``, RunError for a file that can't be written.
    """
    if out.suffix != ".html":
        raise JobError(f"--out {out}: must end in .html; the .md and .csv beside it get the same name")
    across = collect_across(paths)
    written = WrittenReport(
        page=out, markdown=out.with_suffix(".md"), table=out.with_suffix(".csv"), left_out=across.left_out
    )
    files = {
        written.page: render("across.html.jinja", across=across, note=NOTE),
        written.markdown: _markdown(across),
        written.table: _table(across),
    }
    write_files(files)
    return written


def _markdown(across: Across) -> str:
    head = ["recipe", "trained on", "seeds", *(markdown_text(f"on {column.name}") for column in across.columns)]
    lines = ["# Across data sets", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in across.rows:
        cells = [_in_words(row.cells.get(column)) for column in across.columns]
        lines.append(
            "| " + " | ".join([markdown_text(row.recipe), markdown_text(row.trained_on), str(row.seeds), *cells]) + " |"
        )
    lines += ["", f"{NOTE} In bold: on the data set it was trained on.", ""]
    lines += left_out_lines(across.left_out)
    return "\n".join(lines)


def _in_words(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    accuracy = f"**{percent(cell.accuracy)}**" if cell.is_own else percent(cell.accuracy)
    return f"{accuracy} ({percent_interval(cell.interval)}, {cell.images:,} images)"


def _table(across: Across) -> str:
    """CSV: a row for each row and column of the table; figures in full precision."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["recipe", "trained_on", "tested_on", "seeds", "images", "accuracy", "low", "high"])
    for row in across.rows:
        for column, cell in row.cells.items():
            seeds = len(cell.accuracies)
            rows.writerow([row.recipe, row.trained_on, column.name, seeds, cell.images, cell.accuracy, *cell.interval])
    return text.getvalue()
