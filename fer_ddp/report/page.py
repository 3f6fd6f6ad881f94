"""The page: figures, charts and text rendered with ``page.html.jinja``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from fer_ddp import text
from fer_ddp.report import charts
from fer_ddp.report.claims import judge_claims
from fer_ddp.report.collect import Recipe, ReportRuns
from fer_ddp.report.compare import Pair
from fer_ddp.report.costs import NetworkCost, time_cost
from fer_ddp.report.data_folder import DataFolder, Mistake
from fer_ddp.report.environment import report_environments
from fer_ddp.report.measures import ClassFigures, SplitFigures
from fer_ddp.report.published import is_fer2013, published_figures
from fer_ddp.report.views import Leaking, View, leaking_samples
from fer_ddp.runs.environment import repeat_command
from fer_ddp.runs.finished import FinishedRun
from fer_ddp.statistics.intervals import Interval


def page(
    collected: ReportRuns,
    views: Sequence[View],
    *,
    costs: Mapping[str, NetworkCost | None],
    data: DataFolder | None,
    no_data: str,
    leaking: Leaking | None,
    mistakes: Sequence[Mistake],
    sheets: Mapping[str, Sequence[tuple[str, str]]],
) -> str:
    """The whole HTML file; it loads nothing.

    no_data: why ``data`` is None, a sentence. sheets: what `find_sheets` returns.
    """
    recipes = (*views[0].recipes, *views[0].ensembles)
    return render(
        "page.html.jinja",
        collected=collected,
        views=views,
        recipes=recipes,
        deep_share=charts.DEEP_SHARE,
        accuracy_chart=_accuracy_chart,
        difference_chart=_difference_chart,
        learning_curves=_learning_curves(recipes),
        class_bar=_class_bar,
        confusion_rows=_confusion_rows,
        most_common_mistake=_most_common_mistake,
        reliability=_reliability,
        mean_confidence=_mean_confidence,
        costs=costs,
        times={recipe.name: time_cost(recipe.runs) for recipe in recipes},
        data=data,
        no_data=no_data,
        leaks=_leaks(collected, leaking, recipes),
        fer2013=is_fer2013(collected),
        published=published_figures() if is_fer2013(collected) else [],
        best_epoch=any(run.job.get("select") == "best_val" for run in collected.runs),
        claims={view.key: judge_claims(view, collected) for view in views},
        environments=report_environments([run for recipe in recipes for run in recipe.runs]),
        repeat_command=repeat_command,
        mistakes=mistakes,
        sheets=sheets,
    )


def render(template: str, **values: Any) -> str:
    """A template of this folder, with the functions of `fer_ddp.text` and the style of the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"tight": _tight, "breakable": _breakable}
    environment.globals |= {name: getattr(text, name) for name in _TEXT_FUNCTIONS}
    style = Markup(charts.palette_css() + Path(__file__).with_name("page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, **values)


_TEXT_FUNCTIONS = (
    *("percent", "percent_interval", "points", "points_interval", "p_value"),
    *("large", "duration", "join_names", "plural"),
)


def _tight(text_: str) -> str:
    """No line break between a number and its unit."""
    return (
        text_.replace(" %", "\u00a0%")
        .replace(" points", "\u00a0points")
        .replace("p = ", "p\u00a0=\u00a0")
        .replace("p < ", "p\u00a0<\u00a0")
    )


def _breakable(name: str) -> Markup:
    """A long name or path may break after its underscores and slashes."""
    return Markup(str(escape(name)).replace("_", "_<wbr>").replace("/", "/<wbr>"))


def _accuracy_chart(view: View) -> tuple[list[tuple[Recipe, SplitFigures, Markup]], Markup]:
    """A (recipe, figures, line) each, and the axis."""
    shown = [(recipe, view.figures[recipe.name][view.reporting_split]) for recipe in (*view.recipes, *view.ensembles)]
    scale = _scale([value for _, each in shown for value in (*each.accuracy.interval, *each.accuracy.accuracies)])
    lines = []
    for recipe, figures in shown:
        accuracy = figures.accuracy
        described = f"{text.percent(accuracy.mean)}, 95 % interval {text.percent_interval(accuracy.interval)}"
        lines.append((recipe, figures, _dots(scale, accuracy.mean, accuracy.interval, accuracy.accuracies, described)))
    return lines, charts.axis(scale)


def _difference_chart(view: View) -> tuple[list[tuple[Pair, Markup]], Markup]:
    """A (pair, line) each, and the axis, which holds 0."""
    scale = _scale([0.0, *(bound for pair in view.pairs for bound in pair.comparison.interval)])
    lines = []
    for pair in view.pairs:
        compared = pair.comparison
        described = f"{text.points(compared.difference)} points, {text.points_interval(compared.interval)}"
        lines.append((pair, _dots(scale, compared.difference, compared.interval, (), described)))
    return lines, charts.axis(scale)


def _scale(shares: Sequence[float]) -> charts.Scale:
    return charts.padded(charts.scale_over([100 * share for share in shares]))


def _dots(scale: charts.Scale, mean: float, reach: Interval, seeds: Sequence[float], described: str) -> Markup:
    """Of shares on a scale in per cent."""
    bounds = 100 * reach.low, 100 * reach.high
    return charts.dots(scale, 100 * mean, bounds, [100 * seed for seed in seeds], described)


def _learning_curves(recipes: Sequence[Recipe]) -> list[tuple[Recipe, Markup, Markup]]:
    """(recipe, accuracy, loss) of those that have epochs; the same axes for all, so that they can be compared."""
    trained = [recipe for recipe in recipes if any(run.metrics for run in recipe.runs)]
    curves = {
        recipe.name: [
            [_curves(recipe, split, measure, factor) for split in ("train", "val")]
            for measure, factor in (("accuracy", 100.0), ("loss", 1.0))
        ]
        for recipe in trained
    }
    if not trained:
        return []
    x = charts.scale_over([line["epoch"] for r in trained for run in r.runs for line in run.metrics], whole=True)
    panels = []
    for place in (0, 1):
        values = [
            value
            for of_recipe in curves.values()
            for each in of_recipe[place]
            for seed in each.seeds
            for _, value in seed
        ]
        panels.append(charts.padded(charts.scale_over(values, ticks=4)))
    return [
        (
            recipe,
            charts.curves_plot(curves[recipe.name][0], x, panels[0], f"accuracy of {recipe.name} by epoch, per cent"),
            charts.curves_plot(curves[recipe.name][1], x, panels[1], f"loss of {recipe.name} by epoch"),
        )
        for recipe in trained
    ]


def _curves(recipe: Recipe, split: str, measure: str, factor: float) -> charts.Curves:
    def points(run: FinishedRun) -> tuple[tuple[float, float], ...]:
        values = [(line["epoch"], line.get(split, {}).get(measure)) for line in run.metrics]
        return tuple((epoch, factor * value) for epoch, value in values if value is not None and math.isfinite(value))

    return charts.Curves(kind=split, seeds=tuple(points(run) for run in recipe.runs))


def _class_bar(figures: ClassFigures) -> Markup:
    f1 = figures.f1
    return charts.bar((100 * f1.mean, 100 * f1.low, 100 * f1.high), f"F1 {text.percent(f1.mean)}")


def _confusion_rows(figures: SplitFigures) -> list[tuple[ClassFigures, list[tuple[int, float]]]]:
    """(class, cells) each; a cell is (count over all runs, share of the row), the share 0 in a row without samples."""
    totals = figures.confusion.sum(axis=1)
    return [
        (of_class, [(int(count), count / max(1, total)) for count in row])
        for of_class, row, total in zip(figures.classes, figures.confusion.tolist(), totals.tolist(), strict=True)
    ]


def _most_common_mistake(figures: SplitFigures) -> str:
    """One sentence for the page."""
    mistakes = figures.confusion - np.diag(figures.confusion.diagonal())
    if not mistakes.any():
        return "It makes no mistake."
    true, guess = divmod(int(mistakes.argmax()), len(mistakes))
    share = mistakes[true, guess] / mistakes.sum()
    names = [each.name for each in figures.classes]
    return f"Its most common mistake: {names[true]} → {names[guess]}, {text.percent(share)} of all mistakes."


def _reliability(figures: SplitFigures) -> Markup:
    assert figures.calibration is not None
    return charts.reliability_plot(
        figures.calibration.reliability,
        f"confidence against accuracy, calibration error {figures.calibration.error.mean:.3f}",
    )


def _mean_confidence(figures: SplitFigures) -> float:
    assert figures.calibration is not None
    bins = figures.calibration.reliability
    filled = bins.counts > 0
    return float((bins.confidence[filled] * bins.counts[filled]).sum() / bins.counts.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Leaks:
    """What leaks in a split, and how the recipes do on it."""

    samples: int
    leaking: int
    accuracies: dict[str, float]
    """On the leaking samples, by recipe, mean over seeds; empty if there is none."""


def _leaks(collected: ReportRuns, leaking: Leaking | None, recipes: Sequence[Recipe]) -> dict[str, _Leaks] | None:
    """By split; None if it is not known what leaks."""
    if leaking is None:
        return None
    return {
        split: _Leaks(
            samples=len(leaks),
            leaking=int(leaks.sum()),
            accuracies={each.name: float(each.correct(split)[:, leaks].mean()) for each in recipes if leaks.any()},
        )
        for split, leaks in leaking_samples(collected, leaking).items()
    }
