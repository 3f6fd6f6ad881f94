"""From packed shards to the batch of a step: dataset, sampler, loader."""
