"""Whether the source of a user's own model defines it, before anything of it is executed.

To import a module is to run it, and a run folder from a stranger may name any: ``antigravity:X`` opens a browser.
"""

import ast
from pathlib import Path

from fer_ddp.text import closest

_MAKES_NAMES = {"__getattr__", "exec", "globals", "locals", "setattr", "vars"}
"""A module that mentions one of these may have names that its source does not show."""
OTHER_CLASS = "is not a model; the class must derive from torch.nn.Module"
OTHER_FUNCTION = (
    "must be a class that derives from torch.nn.Module, or a function that is annotated to return one: "
    "def {target}(...) -> nn.Module"
)


def check_definition(place: str, path: Path, target: str) -> None:
    """Raises ValueError if the source in ``path`` shows that it has no ``target``, or that this builds no model.

    What it does not show, such as of a class that is imported from elsewhere, is found out by importing it.
    """
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # importing it raises the same, and is described with the line
    mentioned = {node.id for node in nodes if isinstance(node, ast.Name)}
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    aliases = {node.asname or node.name.partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
    defined = [node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    found = [node for node in defined if node.name == target]
    if target in assigned | aliases or "*" in aliases or _MAKES_NAMES & (mentioned | {each.name for each in defined}):
        return
    if not found:
        classes = [node.name for node in defined if isinstance(node, ast.ClassDef) and node.bases]
        close = closest(target, classes)
        known = f"its classes are {', '.join(classes)}" if classes else "it has no class"
        hint = f"did you mean {close}?" if close else known
        raise ValueError(f"model.name: {place} has no '{target}'; {hint}")
    if all(_builds_no_model(node) for node in found):
        problem = OTHER_CLASS if isinstance(found[-1], ast.ClassDef) else OTHER_FUNCTION.format(target=target)
        raise ValueError(f"model.name: {place}:{target} {problem}")


def _builds_no_model(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if node.decorator_list:
        return False
    return not (node.bases or node.keywords) if isinstance(node, ast.ClassDef) else node.returns is None
