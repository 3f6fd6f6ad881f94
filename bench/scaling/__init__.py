"""Predicts how a job scales to more GPUs; checked against real ranks."""
