"""Random transforms of a whole batch on the device, each sample with parameters from its own position."""
