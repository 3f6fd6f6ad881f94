"""Optimizers, learning rate schedules, losses and the average of weights."""
