"""Each stage of the trainer against what a user would pick instead, in one run on one machine."""
