"""Reads packed data sets."""
