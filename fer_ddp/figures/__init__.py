"""Figures of a run: learning curves, confusion matrix, metrics per class, worst errors."""
