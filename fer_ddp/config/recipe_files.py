"""Job, array and cluster files by path or by name: a file here of that name first, then those of the package."""

import difflib
import itertools
from pathlib import Path

from fer_ddp.errors import JobError

PACKAGED = Path(__file__).parents[1] / "recipes"
"""In a checkout a link to ``jobs/``; a wheel holds the files themselves."""

_FOLDERS = {"recipe": PACKAGED, "array": PACKAGED / "arrays", "cluster profile": PACKAGED / "clusters"}


def find_job(name: str | Path) -> Path:
    """The file of a job or of an array of jobs: a path, or a name such as ``smoke``. Raises JobError for a wrong name.

    A path that does not exist is returned as it is, for its reader to refuse.
    """
    return _find(name, "recipe", "array")


def find_cluster(name: str | Path) -> Path:
    """The file of a cluster profile: a path, or a name such as ``one_gpu``. Raises JobError for a wrong name."""
    return _find(name, "cluster profile")


def find_relative(name: str, folder: Path) -> Path:
    """What ``extends:``, or ``jobs:`` of an array, in a file in ``folder`` names: a file relative to it, or a recipe.

    Where there is neither, the path that the file would have.
    """
    beside, packaged = folder / name, PACKAGED / f"{name}.yaml"
    return packaged if not beside.is_file() and len(Path(name).parts) == 1 and packaged.is_file() else beside


def packaged_names(*kinds: str) -> list[str]:
    """The names of the packaged files of these kinds: recipe, array, cluster profile."""
    return [path.stem for kind in kinds for path in _files(kind)]


def recipe_table() -> str:
    """All packaged files, one line each: the name and the first sentence of the comment at the file's top."""
    width = max(len(name) for name in packaged_names(*_FOLDERS))
    parts = []
    for kind, use in (
        ("recipe", "fer-ddp train NAME"),
        ("array", "fer-ddp launch local NAME"),
        ("cluster profile", "fer-ddp launch slurm NAME --cluster PROFILE"),
    ):
        lines = [f"  {path.stem:<{width}}  {_first_sentence(path)}" for path in _files(kind)]
        parts.append("\n".join([f"{kind}s, for `{use}`:", *lines]))
    return "\n\n".join(parts)


def _find(name: str | Path, *kinds: str) -> Path:
    typed = Path(name)
    if typed.is_file() or len(typed.parts) != 1:
        return typed
    stem = str(typed).removesuffix(".yaml")
    paths = [Path(f"{stem}.yaml"), *(_FOLDERS[kind] / f"{stem}.yaml" for kind in kinds)]
    found = next((path for path in paths if path.is_file()), None)
    if found is not None:
        return found
    known = [*packaged_names(*kinds), *sorted(path.stem for path in Path().glob("*.yaml"))]
    close = difflib.get_close_matches(stem, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`fer-ddp recipes` lists those that come with it"
    raise JobError(f"{name}: there is no such file and no {' or '.join(kinds)} of this name; {hint}")


def _files(kind: str) -> list[Path]:
    return sorted(_FOLDERS[kind].glob("*.yaml"))


def _first_sentence(path: Path) -> str:
    lines = itertools.takewhile(lambda line: line.startswith("# "), path.read_text(encoding="utf-8").splitlines())
    return " ".join(line.removeprefix("# ") for line in lines).partition(". ")[0].removesuffix(".") + "."
