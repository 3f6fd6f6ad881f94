"""Runs the code of a user's own model: imports it, and says what it raises by its file and line."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fer_ddp.errors import RunError
from fer_ddp.models.own_definition import check_definition
from fer_ddp.models.own_source import find_file, is_file, module_file, module_places

_roots = dict[str, list[Path]]()
"""Of each file or module that was imported: the files and folders that its code is in."""


def load_module(place: str, target: str) -> ModuleType:
    """The module of a file or module name, to take ``target`` from.

    Raises ValueError, with file and line, if it can't be imported; before it is, if its source has no such class or
    function.
    """
    path = find_file(place) if is_file(place) else None
    check_definition(place, path or module_file(place), target)
    _roots[place] = [path.absolute()] if path else module_places(place.partition(".")[0])
    with describing_errors(place):
        return _module_of(path) if path else importlib.import_module(place)


@contextmanager
def describing_errors(place: str) -> Iterator[None]:
    """Raises ValueError, with file and line, for what the code of ``place`` raises inside, whatever it is."""
    try:
        yield
    except (Exception, SystemExit) as error:  # such as of a script that reads its arguments
        raise ValueError(f"model.name: {describe_error(error, place)}") from error


def failure_of_own_code(error: Exception) -> RunError | None:
    """``error`` as the user's if code of a model of their own raised it, with file and line; None if it is ours."""
    for place in _roots:
        frame = _own_frame(error, place)
        if frame is not None:
            return RunError(f"model: {_described(error, frame)}")
    return None


def describe_error(error: BaseException, place: str) -> str:
    """What the code of ``place``, a file or a module's name, raised: the last file and line of it, kind and message."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)} line {error.lineno}: {error.msg}"
    frame = _own_frame(error, place)
    return _message(error) if frame is None else _described(error, frame)


def _described(error: BaseException, frame: traceback.FrameSummary) -> str:
    return f"{_shown(frame.filename)} line {frame.lineno}: {type(error).__name__}: {_message(error)}"


def _own_frame(error: BaseException, place: str) -> traceback.FrameSummary | None:
    """The innermost frame of the error's traceback that is in ``place``, or in the package of a module."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if any(Path(frame.filename).is_relative_to(root) for root in _roots[place])]
    return own[-1] if own else None


def _message(error: BaseException) -> str:
    try:
        return next(iter(str(error).splitlines()), type(error).__name__)
    except Exception:  # noqa: BLE001  of an exception class of the user's own
        return type(error).__name__


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
