"""A cluster profile: what to ask SLURM for, one file a cluster."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from fer_ddp.config.messages import format_errors
from fer_ddp.config.recipe_files import find_cluster
from fer_ddp.constraints import PositiveFloat
from fer_ddp.errors import JobError
from fer_ddp.yaml_io import read_yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What each run of an array gets."""

    partition: str | None = None
    """sbatch's --partition; null takes the cluster's default, as for the next three."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: PositiveInt = 1
    """Nodes a run."""
    gpus_per_node: NonNegativeInt = 1
    """GPUs a node, a rank each; 0 trains on CPUs."""
    ranks_per_node: PositiveInt | None = None
    """Ranks a node where gpus_per_node is 0; null is one."""
    cpus_per_node: PositiveInt = 8
    """CPU cores a node."""
    memory_gb: PositiveFloat | None = None
    """Memory a node; null takes the cluster's default."""
    time_minutes: PositiveInt = 240
    """The time limit of one start; a run that needs longer resumes in the next."""
    signal_seconds: PositiveInt = 120
    """How long before the time limit, or a preemption that warns, the run is signalled to save its state."""
    array_parallelism: PositiveInt = 16
    """How many runs of an array at once."""
    setup: list[str] = dataclasses.field(default_factory=list)
    """Shell lines before the run, such as ``module load cuda``."""
    sbatch: dict[str, str | int] = dataclasses.field(default_factory=dict)
    """More options of sbatch, such as ``exclude: node7``."""

    @property
    def ranks(self) -> int:
        """Ranks on each node."""
        return self.gpus_per_node or self.ranks_per_node or 1

    @property
    def world_size(self) -> int:
        """Ranks on all nodes of a run."""
        return self.nodes * self.ranks

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)


_CLUSTER = TypeAdapter(Cluster)
_OURS = ("array", "dependency", "error", "nodes", "ntasks-per-node", "open-mode", "output", "requeue", "signal", "time")


def load_cluster(name: str | Path) -> Cluster:
    """Read a cluster profile, given by path or name. Raises JobError naming the file and the key."""
    path = find_cluster(name)
    return cluster_from_dict(read_yaml(path), str(path))


def cluster_from_dict(values: dict[str, Any], origin: str) -> Cluster:
    """Build a profile from plain values; ``origin`` names them in errors. Raises JobError."""
    try:
        cluster = _CLUSTER.validate_json(json.dumps(values), strict=True, extra="forbid")
    except ValidationError as error:
        raise JobError(format_errors(error, Cluster, lambda keys: origin)) from None
    if cluster.signal_seconds >= cluster.time_minutes * 60:
        raise JobError(
            f"{origin}: signal_seconds: is {cluster.signal_seconds}; it must be less than time_minutes, "
            f"which is {cluster.time_minutes * 60} seconds"
        )
    if cluster.gpus_per_node and cluster.ranks_per_node is not None:
        raise JobError(f"{origin}: ranks_per_node: a node with GPUs has a rank a GPU; take it out")
    for key in (key for key in _OURS if key in cluster.sbatch):
        raise JobError(f"{origin}: sbatch.{key}: is set by launch itself; take it out")
    return cluster
