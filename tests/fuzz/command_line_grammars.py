"""Generated command lines: the words of each command in any order, and odd ones."""

from collections.abc import Sequence

from changes import copy
from harness import Case, Change
from hypothesis import strategies as st
from strategies import AS_THEIRS, Strategy, words

COMMANDS = {
    "pack": (
        "folders",
        "out",
        "--workers",
        "1",
        "--size",
        "--seed",
        "--folds",
        "--merge",
        "--classes",
        "--format",
        "--votes",
        "--val-fraction",
    ),
    "verify": ("data", "folders"),
    "inspect": ("data", "--figures", "out", "--job", "job.yaml"),
    "leakage": ("data", "--out", "x.csv", "--workers"),
    "fake": ("out", "--train", "2", "--val", "1", "--test", "0", "--workers", "1", "--seed"),
    "launch": (
        "status",
        "logs",
        "resume",
        "cancel",
        "sync",
        "slurm",
        "local",
        "run0",
        "runs/array",
        "--json",
        "--lines",
        "--cluster",
        "cluster.yaml",
        "--dry-run",
    ),
    "keys": (),
    "recipes": (),
    "sync": ("nowhere", "data"),
    "push": ("nowhere", "data", "a/b", "--private"),
}
TORCH_COMMANDS = {
    "train": (
        "job.yaml",
        "run0",
        "nowhere.yaml",
        "epochs=1",
        "data.path=data",
        "run=run0",
        "seed=-1",
        "model.name=x",
        "model={}",
        "a.b.c=1",
    ),
    "evaluate": (
        "run0",
        "data.path=data",
        "data.path=folders",
        "--merge",
        "a=b",
        "--drop-classes",
        "sad",
        "--out",
        "out",
    ),
    "predict": (
        "run0",
        "image.png",
        "folders",
        "--json",
        "--csv",
        "t.csv",
        "--draw",
        "drawn",
        "--every",
        "--frames",
        "--language",
        "ka",
    ),
    "export": ("nowhere", "data", "--out", "data", "--int8"),
    "figures": ("nowhere", "data", "data.path=x"),
    "report": ("run0", "run1", "ensemble", "imported", "--out", "r.html", "r.txt", "--images", "--figures", "--across"),
    "ensemble": ("run0", "run1", "--out", "e", "--temperature"),
    "import-predictions": (
        "run0/predictions/test.csv",
        *AS_THEIRS,
        "--run",
        "r",
        "--size",
        "--mean",
        "--scale",
        "--classes",
    ),
}


def lines_of(commands: dict[str, tuple[str, ...]], base: Sequence[str]) -> Strategy:
    """Command lines: a command's own words in any order, and odd ones."""

    def argv(name: str) -> Strategy:
        own = [st.sampled_from(commands[name])] * 4 if commands[name] else []
        return st.lists(st.one_of(*own, words), max_size=7).map(lambda rest: (name, *rest))

    start = tuple(Change(copy, name, name) for name in base)
    return st.one_of([argv(name) for name in commands]).map(lambda line: Case(start, line))


command_lines = lines_of(COMMANDS, ("folders", "data", "job.yaml", "cluster.yaml", "run0"))
torch_command_lines = lines_of(
    TORCH_COMMANDS, ("folders", "data", "job.yaml", "run0", "run1", "ensemble", "imported", "image.png")
)
