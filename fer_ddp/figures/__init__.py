"""The figures of a run: learning curves, confusion matrix, measures per class, the worst errors.

Each function returns a matplotlib `Figure` of its own (no pyplot, no global state) whose headline says what is seen;
`save_figure` writes it. matplotlib is imported only once something is drawn.
"""

from fer_ddp.figures.confusion_matrix import plot_confusion_matrix
from fer_ddp.figures.learning_curves import plot_learning_curves
from fer_ddp.figures.per_class import plot_per_class
from fer_ddp.figures.style import save_figure
from fer_ddp.figures.worst_errors import plot_worst_errors

__all__ = ["plot_confusion_matrix", "plot_learning_curves", "plot_per_class", "plot_worst_errors", "save_figure"]
