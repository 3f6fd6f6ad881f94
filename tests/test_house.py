"""Who may import whom, and how long the loop may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("launch", "fer_ddp", "shards")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


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
    assert importers("torch.distributed", "torch.nn.parallel") == ["fer_ddp/distributed.py"]


def test_no_other_module_names_torch_distributed() -> None:
    names = ("torch.distributed", "nn.parallel", "DistributedDataParallel")
    code = {str(path.relative_to(ROOT)): ast.unparse(without_texts(path)) for path in FILES}
    assert [file for file, text in code.items() if any(name in text for name in names)] == ["fer_ddp/distributed.py"]


def without_texts(path: Path) -> ast.AST:
    """The code of ``path``, its strings empty."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return tree


def test_one_module_talks_to_wandb() -> None:
    assert importers("wandb") == ["fer_ddp/tracking.py"]


def test_only_launch_knows_submitit() -> None:
    files = importers("submitit")
    assert files == in_package(files, "launch")


def test_fer_ddp_does_not_import_launch() -> None:
    assert in_package(importers("launch"), "fer_ddp") == []


def test_shards_imports_neither_fer_ddp_nor_launch() -> None:
    assert in_package(importers("launch", "fer_ddp"), "shards") == []


def test_shards_imports_no_torch() -> None:
    assert in_package(importers("torch", "torchvision"), "shards") == []


def test_the_networks_import_nothing_of_the_trainer() -> None:
    files = in_package(importers("fer_ddp"), "fer_ddp/models")
    assert files == ["fer_ddp/models/__init__.py"]


@pytest.mark.parametrize("module", ["shards", "shards.__main__", "shards.packer", "shards.sample_workers"])
def test_importing_shards_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'webdataset'}} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize(
    "module",
    ["fer_ddp", "fer_ddp.__main__", "launch.__main__", "launch.status", "launch.slurm_task", "fer_ddp.tracking"],
)
def test_what_needs_no_torch_does_not_wait_for_it(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "False\n"


ERRORS = {"JobError", "RunError", "Interrupted", "DataError", "BadImage", "BadRow", "WrongKey"}


def test_no_error_ends_with_a_full_stop() -> None:
    calls = [node for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    errors = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ERRORS]
    sentences = [ast.unparse(call.args[0]).rstrip("'\"") for call in errors]
    assert len(sentences) > 100
    assert [sentence for sentence in sentences if sentence.endswith(".")] == []


def test_the_loop_is_one_screen() -> None:
    tree = ast.parse((ROOT / "fer_ddp" / "train.py").read_text(encoding="utf-8"))
    (loop,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run_epochs"]
    assert loop.end_lineno is not None
    assert loop.end_lineno - loop.lineno + 1 <= 60


def test_a_network_is_one_screen_or_two() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "fer_ddp" / "models").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 150} == {}
