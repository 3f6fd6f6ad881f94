"""Starts jobs, here or on a SLURM cluster."""
