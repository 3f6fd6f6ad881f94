"""Layers that give the same result on any number of ranks."""
