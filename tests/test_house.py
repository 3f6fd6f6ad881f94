"""Who may import whom, and how long the loop may be."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("launch", "fer_ddp", "shards")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def imported(path: Path) -> set[str]:
    """All modules, and names in modules, that ``path`` imports at any depth, such as ``torch.nn.parallel``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def importers(*modules: str) -> list[str]:
    """The files that import one of ``modules`` or what is in it."""
    return [
        str(path.relative_to(ROOT))
        for path in FILES
        if any(name == module or name.startswith(f"{module}.") for name in imported(path) for module in modules)
    ]


def in_package(files: list[str], package: str) -> list[str]:
    return [file for file in files if file.startswith(f"{package}/")]


def test_one_module_talks_to_torch_distributed() -> None:
    assert importers("torch.distributed", "torch.nn.parallel") == ["fer_ddp/distributed.py", "launch/torchrun.py"]


def test_no_other_module_names_torch_distributed() -> None:
    names = ("torch.distributed", "nn.parallel", "DistributedDataParallel")
    code = {str(path.relative_to(ROOT)): ast.unparse(without_texts(path)) for path in FILES}
    assert [file for file, text in code.items() if any(name in text for name in names)] == [
        "fer_ddp/distributed.py",
        "launch/torchrun.py",
    ]


def without_texts(path: Path) -> ast.AST:
    """The code of ``path``, its strings empty."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return tree


def test_one_module_talks_to_wandb() -> None:
    assert importers("wandb") == ["fer_ddp/runs/tracking_process.py"]


def test_only_launch_knows_submitit() -> None:
    files = importers("submitit")
    assert files == in_package(files, "launch")


def test_fer_ddp_does_not_import_launch() -> None:
    assert in_package(importers("launch"), "fer_ddp") == []


def test_shards_imports_neither_fer_ddp_nor_launch() -> None:
    assert in_package(importers("launch", "fer_ddp"), "shards") == []


def test_shards_imports_no_torch() -> None:
    assert in_package(importers("torch", "torchvision"), "shards") == []


PREPARING = {
    f"fer_ddp/models/{name}.py" for name in ("__init__", "registry", "build", "own_models", "own_source", "timm_models")
} | {
    f"fer_ddp/models/{name}.py"
    for name in ("own_code", "own_definition", "default_weights", "fitting", "freezing", "structure")
}


def test_the_models_import_nothing_of_the_trainer() -> None:
    assert set(in_package(importers("fer_ddp"), "fer_ddp/models")) <= PREPARING


ROOMS = """
shards
errors text yaml_io constraints hardware signals rendezvous cli distributed randomness precision
statistics
metrics
figures
augment
layers
optim
models
data
runs
config
evaluation
training
deploy
report
__init__
__main__
launch
bench
"""
"""A room may import itself and what is in a line before it; the leaves of one line, also those before them in it."""


def room_of(module: str) -> str:
    """``data`` for ``fer_ddp.data.loader``, ``launch`` for ``launch.local``, ``""`` for a library."""
    package, _, inside = module.partition(".")
    if package in ("shards", "launch", "bench"):
        return package
    if package != "fer_ddp":
        return ""
    return inside.partition(".")[0] or "__init__"


def test_every_room_imports_only_the_rooms_before_it() -> None:
    order = {room: number for number, room in enumerate(ROOMS.split())}
    turned_round = []
    for path in [*FILES, *sorted((ROOT / "bench").rglob("*.py"))]:
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for module in imported(path):
            other = room_of(module)
            if module == "fer_ddp" or other not in order:
                continue  # a library, or a name of the public interface, such as fer_ddp.load
            if order[other] > order[room]:
                turned_round.append(f"{path.relative_to(ROOT)} imports {module}")
    assert turned_round == []


def test_few_modules_stand_beside_the_rooms() -> None:
    assert len([path for path in (ROOT / "fer_ddp").glob("*.py") if path.name != "__init__.py"]) <= 12


@pytest.mark.parametrize(
    "module", ["shards", "shards.__main__", "shards.packing.packer", "shards.reading.sample_workers"]
)
def test_importing_shards_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'webdataset'}} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize(
    "module",
    ["fer_ddp", "fer_ddp.__main__", "launch.__main__", "launch.status", "launch.slurm_task", "fer_ddp.runs.tracking"],
)
def test_what_needs_no_torch_does_not_wait_for_it(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "False\n"


ERRORS = {"JobError", "RunError", "Interrupted", "DataError", "BadImage", "BadRow", "InvalidValue"}


def test_no_error_ends_with_a_full_stop() -> None:
    calls = [node for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    errors = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ERRORS]
    sentences = [ast.unparse(call.args[0]).rstrip("'\"") for call in errors]
    assert len(sentences) > 100
    assert [sentence for sentence in sentences if sentence.endswith(".")] == []


def test_the_loop_is_one_screen() -> None:
    tree = ast.parse((ROOT / "fer_ddp" / "training" / "loop.py").read_text(encoding="utf-8"))
    (loop,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run_epochs"]
    assert loop.end_lineno is not None
    assert loop.end_lineno - loop.lineno + 1 <= 60


def test_a_network_is_one_screen_or_two() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "fer_ddp" / "models").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 150} == {}
