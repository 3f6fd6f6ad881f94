"""The report as Markdown, for a pull request, and as CSV, for whatever else."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fer_ddp.report.claims import judge_claims
from fer_ddp.report.collect import Recipe, ReportRuns
from fer_ddp.report.costs import NetworkCost, TimeCost, time_cost
from fer_ddp.report.views import Leaking, View, leaking_samples
from fer_ddp.runs.finished import SkippedRun
from fer_ddp.text import large, markdown_text, p_value, percent, percent_interval, points, points_interval


def left_out_lines(left_out: Sequence[SkippedRun]) -> list[str]:
    """A list in Markdown; nothing if none is left out."""
    return (
        ["Left out:", "", *(f"- {_code(out.path)} {markdown_text(out.reason)}" for out in left_out), ""]
        if left_out
        else []
    )


def _code(path: Path) -> str:
    """A path in fixed width, where that is possible."""
    text = str(path)
    return f"`{text}`" if text.isprintable() and "`" not in text else markdown_text(text)


_TITLES = {"all": "All images", "clean": "Without the images that leak"}


def markdown(collected: ReportRuns, views: Sequence[View], costs: Mapping[str, NetworkCost | None]) -> str:
    """The verdict, the table of recipes and the differences, for each view; and what was left out."""
    lines = ["# Report", ""]
    for view in views:
        lines += [f"## {_TITLES[view.key]}", ""] if len(views) > 1 else []
        if view.verdict:
            lines += [f"**{markdown_text(view.verdict.summary)}** {markdown_text(' '.join(view.verdict.details))}", ""]
        lines += _recipes(view, costs)
        if view.pairs:
            lines += ["", f"Differences on {view.reporting_split}, in points; p corrected by Holm:", ""]
            lines += ["| difference | points | 95 % interval | p | significant |", "|---|---|---|---|---|"]
            lines += [
                f"| {markdown_text(f'{pair.first} − {pair.second}')} | {points(pair.comparison.difference)} | "
                f"{points_interval(pair.comparison.interval)} | {p_value(pair.corrected_p).removeprefix('p = ')} | "
                f"{'yes' if pair.significant else 'no'} |"
                for pair in view.pairs
            ]
        claims = judge_claims(view, collected)
        if claims:
            lines += ["", f"The write-up's claims, on {view.reporting_split}:", ""]
            lines += ["| claim | measured (95 % interval) | verdict | runs |", "|---|---|---|---|"]
            lines += [
                f"| {each.statement} | {each.measured} | {each.verdict} | {markdown_text(each.runs)} |"
                for each in claims
            ]
        lines.append("")
    counts = ", ".join(f"{split} {len(keys):,} images" for split, keys in collected.keys.items())
    lines += [f"Data: digest {collected.data_digest[:12]}; {counts}.", ""]
    imported = [recipe for recipe in collected.all_recipes if recipe.imported]
    if imported:
        lines += ["Imported predictions; selection as stated by whoever imported them:", ""]
        lines += [f"- {_origin(recipe)}" for recipe in imported] + [""]
    lines += left_out_lines(collected.left_out)
    return "\n".join(lines)


def _recipes(view: View, costs: Mapping[str, NetworkCost | None]) -> list[str]:
    splits = list(view.masks)
    head = [f"{split} accuracy (95 % interval)" for split in splits]
    lines = [
        "| " + " | ".join(["recipe", "seeds", *head, f"{view.reporting_split} macro-F1", "parameters", "MACs"]) + " |",
        "|" + "---|" * (5 + len(splits)),
    ]
    for recipe in (*view.recipes, *view.ensembles):
        figures, cost = view.figures[recipe.name], costs[recipe.name]
        cells = [
            f"{percent(figures[split].accuracy.mean)} ({percent_interval(figures[split].accuracy.interval)})"
            for split in splits
        ]
        size = [large(cost.parameters), large(cost.multiply_accumulates)] if cost else ["–", "–"]
        seeds = f"{len(recipe.runs[0].members['members'])} members" if recipe.is_ensemble else str(len(recipe.runs))
        f1 = percent(figures[view.reporting_split].macro_f1.mean)
        lines.append("| " + " | ".join([markdown_text(recipe.name), seeds, *cells, f1, *size]) + " |")
    return lines


def _origin(recipe: Recipe) -> str:
    """Where imported predictions come from, on one line."""
    origin = recipe.imported
    parts = [f"{recipe.name}: selection {origin.get('selection') or 'not stated'}"]
    parts += [origin.get("source") or "", origin.get("note") or ""]
    parts += ["labels alone, so no calibration"] if recipe.labels_only else []
    return markdown_text("; ".join(filter(None, parts)))


def table(
    collected: ReportRuns, views: Sequence[View], costs: Mapping[str, NetworkCost | None], leaking: Leaking | None
) -> str:
    """CSV: a row a run, skipped ones at the end with the reason; figures in full precision."""
    everything, *clean = views
    if leaking is not None and not any(leaks.any() for leaks in leaking_samples(collected, leaking).values()):
        clean = [everything]
    head = ["recipe", "run", "seed"]
    head += [f"{split}_{name}" for split in collected.splits for name in ("accuracy", "macro_f1", "calibration_error")]
    head += [f"{split}_accuracy_without_leaks" for _ in clean for split in collected.splits]
    head += ["parameters", "multiply_accumulates", "seconds", "images_per_second", "left_out"]
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, head, lineterminator="\n")
    rows.writeheader()
    for recipe in collected.all_recipes:
        for place, run in enumerate(recipe.runs):
            row: dict[str, Any] = {"recipe": recipe.name, "run": run.path, "seed": run.seed}
            for split, figures in everything.figures[recipe.name].items():
                row[f"{split}_accuracy"] = figures.accuracy.accuracies[place]
                row[f"{split}_macro_f1"] = figures.macro_f1.values[place]
                if figures.calibration is not None:
                    row[f"{split}_calibration_error"] = figures.calibration.error.values[place]
            for view in clean:
                for split, figures in view.figures[recipe.name].items():
                    row[f"{split}_accuracy_without_leaks"] = figures.accuracy.accuracies[place]
            rows.writerow(row | _cost_columns(costs[recipe.name], time_cost([run])))
    for out in collected.left_out:
        rows.writerow({"run": out.path, "left_out": out.reason})
    return text.getvalue()


def _cost_columns(network: NetworkCost | None, time: TimeCost | None) -> dict[str, Any]:
    return (asdict(network) if network else {}) | (
        {"seconds": time.seconds, "images_per_second": time.images_per_second} if time else {}
    )
