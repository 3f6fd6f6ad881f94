"""Where a user's own model is: the file or module behind ``nets/face.py:Net`` and ``package.module:Net``.

A file is found by its path, relative to the working folder, and in a frozen copy of the code by the copy that was
frozen with it; never inside a run folder, which may come from a stranger."""

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import sysconfig
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

from fer_ddp.text import closest, shortened

_OF_A_RUN = ("checkpoints", "environment.json", "model_source.json", "status.json")
"""One of these beside a ``config.yaml`` makes a run folder, whole or not."""


def is_own_model(name: str) -> bool:
    """Whether ``name`` names a file or a module, and not a model of a registry."""
    return ".py:" in f"{name}:" or (":" in name and not name.startswith(("timm/", "torchvision/")))


def is_file(place: str) -> bool:
    """Whether ``place`` is a file, and not a module."""
    return place.endswith(".py")


def split_name(name: str) -> tuple[str, str]:
    """(file or module, class or function) of ``name``. Raises ValueError if one of them is not given."""
    place, colon, target = name.rpartition(":")
    if not colon:
        raise ValueError(f"model.name: {name} names a file; add the class: {name}:Class")
    if not target.isidentifier() or not (is_file(place) or all(map(str.isidentifier, place.split(".")))):
        raise ValueError(
            f"model.name: is '{name}'; a model of your own is named path/to/file.py:Class or package.module:Class"
        )
    return place, target


def find_file(place: str) -> Path:
    """The file named ``place``. Raises ValueError if it is absent or inside a run folder."""
    frozen, path = frozen_file(place, Path(__file__).parents[2]), Path(place).expanduser()
    try:
        if frozen.is_file():
            return frozen
        is_there = path.is_file()
    except (OSError, ValueError) as error:  # such as of a name that is too long, or holds a null character
        raise ValueError(f"model.name: {shortened(place, 100)} is not a path ({error})") from None
    if not is_there:
        names = [each.name for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
        close = closest(path.name, names)
        hint = f"did you mean {path.parent / close}?" if close else f"it is looked for from {Path.cwd()}"
        raise ValueError(f"model.name: there is no file {place}; {hint}")
    _refuse_run_folder(path)
    return path


def frozen_file(place: str, code: Path) -> Path:
    """Where the file named ``place`` lies in the frozen copy ``code`` of the code."""
    return code / "own_models" / hashlib.sha256(place.encode()).hexdigest()[:16] / Path(place).name


def module_places(module: str) -> list[Path]:
    """The file of a module, the folders of a package. Raises ValueError if there is none."""
    spec = _spec(module)
    return [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]


def module_file(module: str) -> Path:
    """The file of a module. Raises ValueError if there is none, or it or a package that it is in may not be imported.

    Nothing is imported, since whatever is may do anything.
    """
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        for path in module_places(".".join(parts[:depth])):
            _refuse_run_folder(path)
    origin, top = _spec(module).origin or "", parts[0]
    standard_library = Path(sysconfig.get_path("stdlib"))
    if top in sys.stdlib_module_names and (
        origin in ("", "built-in", "frozen") or Path(origin).is_relative_to(standard_library)
    ):
        raise ValueError(f"model.name: {top} belongs to Python's standard library, which holds no models")
    if not is_file(origin):
        raise ValueError(f"model.name: {module} has no source file in Python; name the module that holds the class")
    return Path(origin)


def _spec(module: str) -> ModuleSpec:
    """Where a module is, found without the import of the packages that it is in. Raises ValueError if it is nowhere."""
    top, *parts = module.split(".")
    folder = os.getcwd()
    if importlib.util.find_spec(top) is None and folder not in sys.path:
        sys.path.append(folder)  # the command fer-ddp does not look there; last, so that it hides nothing
    spec, name = importlib.util.find_spec(top), top
    for part in parts:
        name = f"{name}.{part}"
        spec = _inside(name, spec.submodule_search_locations if spec is not None else None)
    if spec is None:
        raise ValueError(f"model.name: there is no module {module}; it must be installed, or in {folder}")
    return spec


def _inside(name: str, folders: Iterable[str] | None) -> ModuleSpec | None:
    """The module ``name`` of the package in ``folders``; found in one of them, or a package without ``__init__.py``."""
    importers = [pkgutil.get_importer(folder) for folder in folders or ()]
    found = [spec for each in importers if each is not None and (spec := each.find_spec(name)) is not None]
    whole = next((spec for spec in found if spec.loader is not None), None)
    if whole is not None or not found:
        return whole
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [place for each in found for place in each.submodule_search_locations or ()]
    return spec


def _refuse_run_folder(path: Path) -> None:
    for folder in (path.resolve(), *path.resolve().parents):
        if (folder / "config.yaml").is_file() and any((folder / name).exists() for name in _OF_A_RUN):
            raise ValueError(
                f"model.name: {path} is in the run folder {folder}, from which no code is executed; "
                f"look at it, and copy it to a place of your own"
            )
