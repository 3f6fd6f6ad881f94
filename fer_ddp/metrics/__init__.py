"""Metrics of predictions: accuracy, F1, calibration, averaged probabilities."""
