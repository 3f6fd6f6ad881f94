"""Starts jobs: torchrun on this machine."""
