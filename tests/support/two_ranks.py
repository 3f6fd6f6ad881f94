"""What only ranks together can show; started by torchrun, writes what it saw to a JSON file."""

import hashlib
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import torch

from fer_ddp import distributed
from fer_ddp.assemble import assemble
from fer_ddp.config import load_job
from fer_ddp.data import FERDataset
from fer_ddp.errors import RunError

job_file, out = Path(sys.argv[1]), Path(sys.argv[2])


def weights_digest(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def train_three_steps(*overrides: str, exchange: bool) -> tuple[list[str], float]:
    """(each rank's weights after three steps, the global batch's loss at the first step)."""
    job = load_job(job_file, list(overrides))
    dataset = FERDataset(job.data.path, "train")
    alone = nullcontext() if exchange else patch.object(distributed, "data_parallel", lambda network, example: network)
    with alone:
        batches, step = assemble(job, dataset, distributed.world_size(), device)
    first_loss = distributed.all_reduce_sum(step(batches.samples(0))).item()
    step(batches.samples(1))
    step(batches.samples(2))
    mine = torch.tensor(list(bytes.fromhex(weights_digest(step.state.network))))
    return [bytes(row.tolist()).hex() for row in distributed.all_gather(mine)], first_loss


def fail_on_rank_one() -> str:
    def work() -> None:
        if distributed.rank() == 1:
            raise RunError("this shard is damaged")

    try:
        distributed.on_every_rank(work)
    except RunError as error:
        return str(error)
    return "nothing was raised"


def agreement_steps() -> list[bool]:
    agreement = distributed.Agreement()
    return [agreement.ask(distributed.rank() == 1 and step == 1) for step in range(4)]


seen = {}
with distributed.world() as device:
    common = ("precision=float64", "loss.class_weights=balanced", "loss.label_smoothing=0.1")
    seen["weights"], seen["first_loss"] = train_three_steps(*common, exchange=True)
    seen["weights_without_exchange"], _ = train_three_steps(*common, exchange=False)
    seen["failure"] = fail_on_rank_one()
    answers = torch.tensor(agreement_steps())
    seen["agreement"] = distributed.all_gather(answers).tolist()
    seen["from_main"] = distributed.on_main(distributed.rank)
    if distributed.is_main():
        out.write_text(json.dumps(seen))
