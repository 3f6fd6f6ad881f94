"""The network that a run chose, with its weights: what `evaluate`, `predict` and `export` use."""

from typing import Any

import torch
from torch import nn

from fer_ddp.checkpoint import load_checkpoint
from fer_ddp.config import Job
from fer_ddp.dropout import CurrentPlaces
from fer_ddp.errors import JobError, RunError
from fer_ddp.network import build_network, place_network
from fer_ddp.run_files import BEST, LAST
from fer_ddp.run_folder import RunFolder
from shards.manifest import Manifest


def chosen_model(
    run: RunFolder, job: Job, manifest: Manifest, device: torch.device
) -> tuple[nn.Module, dict[str, Any]]:
    """The network with the weights that ``job.select`` names, on ``device``, and the checkpoint that holds them.

    ``manifest`` is that of the data it is to look at. Raises JobError if their classes differ from the model's,
    RunError if there is no checkpoint or the run folder was edited so that its files don't fit each other.
    """
    path = run.checkpoints / f"{BEST if job.select == 'best_val' else LAST}.safetensors"
    chosen = load_checkpoint(path)
    if list(manifest.class_names) != chosen["class_names"]:
        raise JobError(
            f"{job.data.path}: its classes are {', '.join(manifest.class_names)}; the model's are "
            f"{', '.join(chosen['class_names'])}; evaluate it on data with the same classes in the same order"
        )
    network = build_network(job.model, seed=job.seed, manifest=manifest, current=CurrentPlaces())
    try:
        network.load_state_dict(_evaluated_weights(chosen))
    except RuntimeError:
        raise RunError(
            f"{run.path}/config.yaml: {job.model.name} with these arguments is not the network whose weights are in "
            f"{path}; put model.name and model.arguments back"
        ) from None
    network = place_network(
        network, device=device, precision=job.precision, memory_format=job.memory_format, world_size=1
    )
    return network, chosen


def _evaluated_weights(chosen: dict[str, Any]) -> dict[str, Any]:
    """The averaged weights of a whole state where it has them, else the network's; ``best`` holds just these."""
    ema = chosen.get("ema")
    if ema is None:
        return dict(chosen["network"])
    return {name.removeprefix("module."): tensor for name, tensor in ema.items() if name.startswith("module.")}
