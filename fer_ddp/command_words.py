"""Reads a command line on which ``key=value`` words may stand anywhere."""

import argparse


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Like ``parser.parse_args``, which takes a command's ``overrides`` only where no option stands before them."""
    options, left = parser.parse_known_args(arguments)
    overrides = getattr(options, "overrides", None)
    unknown = [word for word in left if overrides is None or word.startswith("-") or "=" not in word]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if overrides is not None:
        options.overrides = [*overrides, *left]
    return options
