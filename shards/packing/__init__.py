"""Writes a data set as WebDataset shards with a manifest."""
