"""Training on FER+'s votes: the target of each training sample that has one, by the rules of `shards.votes`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from fer_ddp import randomness
from fer_ddp.data.cache import cached_votes
from fer_ddp.errors import JobError
from shards.labels import FERPLUS, class_meaning
from shards.manifest import Manifest
from shards.votes import in_classes, majority_targets, multi_targets, probability_targets

if TYPE_CHECKING:
    from fer_ddp.data.dataset import FERDataset
    from fer_ddp.data.stream import StreamedSplit

TARGET_STREAM = "targets/class"
Targets = Literal["label", "majority", "probability", "multi_target", "cross_entropy"]
_RULES = {
    "majority": majority_targets,
    "probability": probability_targets,
    "multi_target": multi_targets,
    "cross_entropy": probability_targets,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class VoteTargets:
    """What the votes on the training split make of it."""

    table: Tensor
    """(samples, classes): probabilities that sum to 1, or for multi_target 1 for each right class; zeros for a sample
    that the rule leaves out."""
    used: Tensor
    """int64 (samples used,): the indices of the others, ascending."""
    are_drawn: bool
    """Whether each time that a sample is shown one of its classes is drawn."""

    def of(self, indices: Tensor, keys: Tensor) -> Tensor:
        """(batch, classes): the targets of samples int64 (batch,), with their keys of ``TARGET_STREAM``."""
        targets = self.table[indices]
        return draw_class(targets, keys) if self.are_drawn else targets


def draw_class(probabilities: Tensor, keys: Tensor) -> Tensor:
    """One class of each row of probabilities (batch, classes), as 1 among zeros, by its key int32 (batch,)."""
    unit = randomness.first_uniform(keys).to(probabilities.dtype)
    ends = probabilities.cumsum(dim=1)
    below = unit[:, None] * ends[:, -1:] < ends
    # The first class that ends above the number; a class of probability 0 ends where the one before it does.
    return below.to(probabilities.dtype).diff(dim=1, prepend=torch.zeros_like(probabilities[:, :1]))


def check_targets(targets: Targets, path: str, manifest: Manifest) -> None:
    """Raises JobError if the data at ``path`` can't have such targets.

    Their labels must be by the votes as well: accuracy would be that of other labels than those trained on.
    """
    if targets == "label":
        return
    if manifest.options.get("labels") != "votes":
        raise JobError(
            f"data.targets: {targets} needs a data set that is labelled by FER+'s votes, and {path} is not; pack "
            f"FER2013's CSV with --votes fer2013new.csv --scheme ferplus, or set data.targets=label"
        )
    other = [name for name in manifest.class_names if class_meaning(name) not in FERPLUS.class_names]
    if other:
        raise JobError(
            f"data.targets: {targets} needs classes that FER+'s votes name, and {path} has {', '.join(other)}; "
            f"set data.targets=label"
        )


def check_votes(manifest: Manifest, path: str) -> None:
    """Raises JobError if `vote_shares` can't be of the data at ``path``."""
    other = [name for name in manifest.class_names if class_meaning(name) not in FERPLUS.class_names]
    if manifest.votes is None or other:
        lack = "no votes" if manifest.votes is None else f"classes that FER+'s votes do not name ({', '.join(other)})"
        raise JobError(
            f"loss.smoothing_matrix: votes needs FER+'s votes, and {path} has {lack}; pack FER2013's CSV with --votes "
            f"fer2013new.csv, or give the matrix"
        )


def vote_shares(path: str, dataset: "FERDataset | StreamedSplit") -> Tensor:
    """How people voted on the images of each class: float64 (classes, classes), rows by label, each with sum 1.

    Votes for other categories than the data's classes are left out; a class without votes is itself alone. Raises as
    `check_votes` and `cached_votes`.
    """
    manifest = dataset.manifest
    check_votes(manifest, path)
    votes = torch.from_numpy(cached_votes(Path(path), "train", manifest, dataset.keys)).double()
    columns = [FERPLUS.class_names.index(class_meaning(name)) for name in manifest.class_names]
    counts = torch.zeros(len(columns), len(columns), dtype=torch.float64)
    counts.index_add_(0, dataset.labels, votes[:, columns])
    total = counts.sum(dim=1, keepdim=True)
    return torch.where(total > 0, counts / total.clamp(min=1), torch.eye(len(columns), dtype=torch.float64))


def vote_targets(targets: Targets, path: str, dataset: "FERDataset | StreamedSplit", dtype: torch.dtype) -> VoteTargets:
    """The targets, not ``label``, of ``dataset``, the training split of ``path``.

    Raises as `check_targets` and `cached_votes`, and JobError if no sample has a target.
    """
    manifest = dataset.manifest
    check_targets(targets, path, manifest)
    votes = cached_votes(Path(path), "train", manifest, dataset.keys)
    table = in_classes(_RULES[targets](votes), manifest.class_names)
    if targets == "multi_target":
        table = table > 0
    used = table.any(axis=1)
    if not used.any():
        raise JobError(f"data.targets: {targets} leaves no training sample of {path}; set data.targets=label")
    return VoteTargets(
        table=torch.from_numpy(table).to(dtype),
        used=torch.from_numpy(used).nonzero()[:, 0],
        are_drawn=targets == "probability",
    )
