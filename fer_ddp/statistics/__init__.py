"""How sure a figure is: intervals of one run, of a recipe over its seeds, and of the difference of two recipes."""

from fer_ddp.statistics.bootstrap import ClassMeanIntervals, bootstrap_class_means
from fer_ddp.statistics.comparison import Comparison, compare_recipes, mcnemar_p_value, paired_interval
from fer_ddp.statistics.crossed import VarianceComponents
from fer_ddp.statistics.holm import holm
from fer_ddp.statistics.interval import Interval
from fer_ddp.statistics.seeds import SeedsSummary, summarize_seeds
from fer_ddp.statistics.wilson import wilson_interval

__all__ = [
    "ClassMeanIntervals",
    "Comparison",
    "Interval",
    "SeedsSummary",
    "VarianceComponents",
    "bootstrap_class_means",
    "compare_recipes",
    "holm",
    "mcnemar_p_value",
    "paired_interval",
    "summarize_seeds",
    "wilson_interval",
]
