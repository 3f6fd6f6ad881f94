"""Evaluation of a run's chosen weights, alone or as an ensemble."""
