"""What only ranks together can show; started by torchrun, writes what it saw to a JSON file."""

import hashlib
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from cpu_options import ON_ANY_RANKS, SMALL, with_teacher

from fer_ddp import distributed
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import RunError
from fer_ddp.training.setup import build_trainer

job_file, out = Path(sys.argv[1]), Path(sys.argv[2])


def weights_digest(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def train_three_steps(*overrides: str, exchange: bool) -> tuple[list[str], float]:
    """(each rank's weights after three steps, the global batch's loss at the first step)."""
    job = load_job(job_file, list(overrides))
    dataset = FERDataset(job.data.path, "train")
    alone = nullcontext() if exchange else patch.object(distributed, "data_parallel", lambda model, example: model)
    with alone:
        trainer = build_trainer(job, dataset, distributed.world_size(), device)
    first_loss = distributed.all_reduce_sum(trainer.step(trainer.loader.raw_batch(0))).item()
    trainer.step(trainer.loader.raw_batch(1))
    trainer.step(trainer.loader.raw_batch(2))
    mine = torch.tensor(list(bytes.fromhex(weights_digest(trainer.state.model))))
    return [bytes(row.tolist()).hex() for row in distributed.gather_tensors(mine)], first_loss


def losses_of_four_steps(*overrides: str) -> list[float]:
    job = load_job(job_file, [*SMALL, *distributed.rank_zero_call(lambda: with_teacher(list(overrides), job_file))])
    trainer = build_trainer(job, FERDataset(job.data.path, "train"), distributed.world_size(), device)
    return [distributed.all_reduce_sum(trainer.step(trainer.loader.raw_batch(step))).item() for step in range(4)]


def fail_on_rank_one() -> str:
    def work() -> None:
        if distributed.rank() == 1:
            raise RunError("this shard is damaged")

    try:
        distributed.on_every_rank(work)
    except RunError as error:
        return str(error)
    return "nothing was raised"


def consensus_steps() -> list[bool]:
    consensus = distributed.StopConsensus()
    return [consensus.ask(distributed.rank() == 1 and step == 1)[0] for step in range(4)]


seen = {}
with distributed.world() as device:
    common = ("precision=float64", "loss.class_weights=balanced", "loss.label_smoothing=0.1")
    seen["weights"], seen["first_loss"] = train_three_steps(*common, exchange=True)
    seen["weights_without_exchange"], _ = train_three_steps(*common, exchange=False)
    seen["losses"] = {name: losses_of_four_steps(*overrides) for name, overrides in ON_ANY_RANKS.items()}
    seen["failure"] = fail_on_rank_one()
    flags = torch.tensor(consensus_steps())
    seen["consensus"] = distributed.gather_tensors(flags).tolist()
    seen["from_rank_zero"] = distributed.rank_zero_call(distributed.rank)
    if distributed.is_main():
        out.write_text(json.dumps(seen))
