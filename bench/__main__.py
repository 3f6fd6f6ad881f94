"""``python -m bench``: times every stage, prints the table, writes the figures."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from bench.augment import augment_results
from bench.data import Data, prepare
from bench.pack import pack_results
from bench.pack_images import pack_images_results
from bench.read import read_results
from bench.sizes import FULL, QUICK, Sizes
from bench.start import start_results
from bench.step import step_results
from bench.table import Result, machine, markdown, put_into, to_json

STAGES: dict[str, Callable[[Data, Sizes], list[Result]]] = {
    "pack": pack_results,
    "images": pack_images_results,
    "read": read_results,
    "augment": augment_results,
    "step": partial(step_results, device=torch.device("cpu")),
    "start": start_results,
}


def main(arguments: list[str], quick: Sizes = QUICK) -> int:
    options = _parser().parse_args(arguments)
    if options.results is None:
        results = run(quick if options.quick else FULL, options.only, torch.device(options.device))
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    else:
        results = json.loads(options.results.read_text())
    print(markdown(results))
    if options.markdown is not None:
        put_into(options.markdown, markdown(results))
    return 0


def run(sizes: Sizes, only: list[str], device: torch.device) -> dict[str, object]:
    """Every stage of ``only``; on a GPU the training step alone, since the rest is the CPU's."""
    stages = {"step": partial(step_results, device=device)} if device.type == "cuda" else STAGES
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        where = machine(device)
        data = prepare(sizes, Path(folder))
        for name, stage in stages.items():
            if name in only:
                print(f"bench: {name}", file=sys.stderr, flush=True)
                results += stage(data, sizes)
        description = data.description
    return to_json(results, machine=where, data=description, sizes=asdict(sizes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small part of each stage: under 2 minutes on two CPUs")
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES), help="these stages alone")
    parser.add_argument("--device", default="cpu", help="cuda: the training step on a GPU (not run on one yet)")
    parser.add_argument(
        "--json", type=Path, default=Path("runs/bench.json"), metavar="FILE", help="the figures go here"
    )
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="put the table into this page, between its marks")
    parser.add_argument("--results", type=Path, metavar="FILE", help="measure nothing, show an earlier --json FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
