"""The order of imports inside shards."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ORDER = """
errors text output files parallel progress palette validation labels splits votes
manifest file_kind images png pixel_statistics
reading
sources
leakage
packing
figures
inspection verify
__main__
"""
"""A module, or a folder of modules, imports only what is before it."""


def imports() -> dict[str, set[str]]:
    """For every module of shards, the modules of shards that it imports at any depth."""
    found = {}
    for path in (ROOT / "shards").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        modules = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = {module for module in modules if module.startswith("shards.")}
    return found


def test_every_module_imports_only_what_is_before_it() -> None:
    order = {name: number for number, name in enumerate(ORDER.split())}
    turned_round = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if order[other.split(".")[1]] > order[module.split(".")[1]]
    ]
    assert turned_round == []


def test_the_order_names_every_module() -> None:
    assert {module.split(".")[1] for module in imports() if module != "shards"} == set(ORDER.split())


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(imports()).prepare()
