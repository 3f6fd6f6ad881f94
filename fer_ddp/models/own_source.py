"""Where a user's own model is: the file or module behind ``nets/face.py:Net`` and ``package.module:Net``.

A file is found by its path, relative to the working folder, and in a frozen copy of the code by the copy that was
frozen with it; never inside a run folder, which may come from a stranger.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from fer_ddp.text import closest

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
    if frozen.is_file():
        return frozen
    if not path.is_file():
        names = [each.name for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
        close = closest(path.name, names)
        hint = f"did you mean {path.parent / close}?" if close else f"it is looked for from {Path.cwd()}"
        raise ValueError(f"model.name: there is no file {place}; {hint}")
    _refuse_run_folder(path)
    return path


def load_module(place: str) -> ModuleType:
    """The module of a file or module name. Raises ValueError, with file and line, if it can't be imported."""
    path = find_file(place) if is_file(place) else None
    try:
        return _module_of(path) if path else _import(place)
    except (Exception, SystemExit) as error:  # such as of a script that reads its arguments
        if isinstance(error, ValueError) and str(error).startswith("model.name: "):
            raise
        raise ValueError(f"model.name: {describe_error(error, place)}") from error


def frozen_file(place: str, code: Path) -> Path:
    """Where the file named ``place`` lies in the frozen copy ``code`` of the code."""
    return code / "own_models" / hashlib.sha256(place.encode()).hexdigest()[:16] / Path(place).name


def module_places(module: str) -> list[Path]:
    """The file of a module, the folders of a package. Raises ValueError if there is none."""
    spec = _spec(module)
    return [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]


def describe_error(error: BaseException, place: str) -> str:
    """What the code of ``place``, a file or a module's name, raised: the last file and line of it, kind and message."""
    message = next(iter(str(error).splitlines()), type(error).__name__)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)} line {error.lineno}: {error.msg}"
    roots = [find_file(place).absolute()] if is_file(place) else module_places(place.partition(".")[0])
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if any(Path(frame.filename).is_relative_to(root) for root in roots)]
    return f"{_shown(own[-1].filename)} line {own[-1].lineno}: {type(error).__name__}: {message}" if own else message


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _module_of(path: Path) -> ModuleType:
    """The module of a file, executed once for each content; known to Python, since dataclasses look theirs up."""
    name = f"own_model_{hashlib.sha256(path.read_bytes() + str(path.absolute()).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _import(module: str) -> ModuleType:
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):  # a package is checked before it is imported to find what is in it
        for path in module_places(".".join(parts[:depth])):
            _refuse_run_folder(path)
    return importlib.import_module(module)


def _spec(module: str) -> ModuleSpec:
    top, folder = module.partition(".")[0], os.getcwd()
    if importlib.util.find_spec(top) is None and folder not in sys.path:
        sys.path.append(folder)  # the command fer-ddp does not look there; last, so that it hides nothing
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        spec = None  # what should hold it is not a package
    if spec is None:
        raise ValueError(f"model.name: there is no module {module}; it must be installed, or in {folder}")
    return spec


def _refuse_run_folder(path: Path) -> None:
    for folder in (path.resolve(), *path.resolve().parents):
        if (folder / "config.yaml").is_file() and any((folder / name).exists() for name in _OF_A_RUN):
            raise ValueError(
                f"model.name: {path} is in the run folder {folder}, from which no code is executed; "
                f"look at it, and copy it to a place of your own"
            )
