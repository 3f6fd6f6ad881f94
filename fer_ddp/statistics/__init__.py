"""Confidence intervals and paired tests over seeds and samples."""
