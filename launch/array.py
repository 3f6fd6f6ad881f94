"""Expands an array file, recipes x variants x grid x seeds, into named runs, each a whole job."""

import dataclasses
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from fer_ddp.config.job import Job
from fer_ddp.config.load import load_job
from fer_ddp.config.messages import format_errors
from fer_ddp.config.recipe_files import find_job, find_relative
from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.files import RUNS
from fer_ddp.runs.folder import RunFolder
from fer_ddp.training.checks import check_run
from fer_ddp.yaml_io import read_yaml, to_yaml
from launch.folder import ArrayFolder, folder_of
from shards.reading.scan import load_or_scan_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayFile:
    """The keys of an array file."""

    jobs: Annotated[list[str], Field(min_length=1)]
    """Job files, relative to the array's file, or names of recipes."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    """Each job runs with each of them."""
    variants: dict[Annotated[str, Field(pattern=r"^[\w.+-]+$")], dict[str, Any]] = dataclasses.field(
        default_factory=dict
    )
    """``name: {key.sub: value}``; each job runs with each of these sets of keys."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = dataclasses.field(default_factory=dict)
    """``key.sub: [values]``; each job runs with each combination."""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """``key.sub: value`` for every member, such as ``data.path: data/fer2013``."""


_ARRAY_FILE = TypeAdapter(ArrayFile)
_MOST_MEMBERS = 4_000
"""SLURM's own limit of a job array, MaxArraySize, is 1,001 unless it was raised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One run of an array."""

    name: str
    """Unique in the array, such as ``model4-lr=0.001-seed2``."""
    job: Job


@dataclass(frozen=True, kw_only=True, slots=True)
class JobArray:
    """Runs that are started together."""

    name: str
    members: tuple[Member, ...]

    @property
    def folder(self) -> ArrayFolder:
        """Where the bookkeeping lies: beside the runs."""
        return folder_of(self.name, [Path(member.job.run) for member in self.members])

    def write(self, cluster: dict[str, Any] | None) -> ArrayFolder:
        """Write what the array is, and on which cluster it runs, into its `folder`. Raises RunError."""
        self.folder.write(
            self.name,
            runs={member.name: member.job.run for member in self.members},
            jobs={member.name: to_yaml(member.job.to_dict(), checked=True) for member in self.members},
            cluster=cluster,
        )
        return self.folder


def is_array(path: Path) -> bool:
    """Whether a YAML file holds an array of jobs and not a job."""
    return "jobs" in read_yaml(path)


def load_array(name: str | Path, overrides: list[str]) -> JobArray:
    """The runs of an array file, or the one of a job file, by path or name; ``overrides`` go to all of them.

    The runs of an array are ``runs/ARRAY/MEMBER``. Raises JobError naming the file and the key.
    """
    path = find_job(name)
    if not is_array(path):
        job = load_job(path, overrides)
        run = Path(job.run).name
        return JobArray(name=run, members=(Member(name=run, job=job),))
    array = _read(path)
    fixed = {override.partition("=")[0] for override in overrides}
    changed = {key for variant in array.variants.values() for key in variant}
    for key in sorted(fixed & {"seed", "run", "name", *array.grid, *changed}):
        raise JobError(f"{key}: {path} gives each member its own; change it there, or take it off the command line")
    for where, keys in (("overrides", array.overrides.keys()), ("variants", changed)):
        for key in sorted(keys & {"seed", "run"}):
            raise JobError(f"{path}: {where}: {key}: each member gets its own; remove it from the {where}")
    members: dict[str, Member] = {}
    variants = array.variants or {"": {}}
    count = math.prod(map(len, (array.jobs, variants, array.seeds, *array.grid.values())))
    if count > _MOST_MEMBERS:
        raise JobError(
            f"{path}: has {count:,} members (jobs x variants x grid x seeds); an array has {_MOST_MEMBERS:,} at most, "
            f"so give fewer values, or make several files"
        )
    combinations = itertools.product(array.jobs, variants, _combinations(array.grid), array.seeds)
    for job_file, variant, values, seed in combinations:
        job_path = find_relative(job_file, path.parent)
        member = "-".join([job_path.stem, *([variant] if variant else []), *_words(values), f"seed{seed}"])
        if member in members:
            raise JobError(f"{path}: two members are called {member}; name each job, value and seed once")
        own = {"wandb.group": path.stem} | array.overrides | variants[variant] | values
        own |= {"seed": seed, "run": str(RUNS / path.stem / member)}
        job = load_job(job_path, [*(f"{key}={json.dumps(value)}" for key, value in own.items()), *overrides])
        members[member] = Member(name=member, job=job)
    return JobArray(name=path.stem, members=tuple(members.values()))


def check_members(members: tuple[Member, ...], world_size: int) -> dict[str, RunError]:
    """Check that each can be trained on ``world_size`` ranks, as ``train`` would. Raises JobError or DataError.

    Returns, by member, the errors of those whose run folder is damaged.
    """
    damaged = {}
    for member in members:
        try:
            check_run(
                RunFolder(member.job.run), member.job, load_or_scan_manifest(Path(member.job.data.path)), world_size
            )
        except RunError as error:
            damaged[member.name] = error
        except JobError as error:
            message = f"{member.name}: {error}"
            if len(members) > 1:  # each member has its own run=
                message = message.replace("choose another run=", "copy the array's file under another name")
            raise JobError(message) from None
    return damaged


def _read(path: Path) -> ArrayFile:
    values = read_yaml(path)
    try:
        return _ARRAY_FILE.validate_json(json.dumps(values), strict=True, extra="forbid")
    except ValidationError as error:
        raise JobError(format_errors(error, ArrayFile, lambda keys: str(path))) from None


def _combinations(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Each choice of one value a key, in the order of the file."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _words(values: dict[str, Any]) -> list[str]:
    """``lr=0.001`` for ``optimizer.lr``: the key's last part where that is plain, and what a file name can hold."""
    last = [key.rpartition(".")[2] for key in values]
    words = []
    for key, short in zip(values, last, strict=True):
        text = values[key] if isinstance(values[key], str) else json.dumps(values[key], separators=(",", ":"))
        word = f"{short if last.count(short) == 1 else key}={text}"
        words.append("".join(letter if letter.isalnum() or letter in "=.,_+-[]" else "_" for letter in word))
    return words
