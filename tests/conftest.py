"""What all tests share: a small data set, a small job, and a line at the end on the tests left out."""

import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml

# Before torch is loaded, here and in whatever the tests start: small models are fastest on one thread.
os.environ["OMP_NUM_THREADS"] = "1"

LONGEST = ("test_readme.py", "test_documents.py", "test_training.py", "test_continuing.py", "test_faults.py")
"""The files that take longest, which run first: last, one process would wait for another."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slurm", action="store_true", help="run the tests that start a private SLURM cluster")
    parser.addoption("--long", action="store_true", help="run the tests that take many minutes")
    parser.addoption("--gpu", action="store_true", help="run the tests that need a CUDA GPU; the others don't see one")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--gpu"):  # two ranks on one GPU are refused; the tests count ranks
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        missing = _missing(item)
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs {missing}"))


def _missing(item: pytest.Item) -> str | None:
    """What ``item`` needs and this session does not have."""
    if item.get_closest_marker("slurm") and not item.config.getoption("slurm"):
        return "SLURM (make test-slurm)"
    if item.get_closest_marker("long") and not item.config.getoption("long"):
        return "time (make test-long)"
    if item.get_closest_marker("real_data") and "FER2013_DATA" not in os.environ:
        return "FER2013_DATA"
    if item.get_closest_marker("gpu") and not item.config.getoption("gpu"):
        return "a GPU (make test-gpu)"
    if item.get_closest_marker("root") and (os.name == "nt" or os.getuid() != 0):
        return "root, to be two users"
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # From the reports, since with several processes the tests are collected in the others.
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped"))
    parts = [f"{count} {'tests' if count > 1 else 'test'} ({reason})" for reason, count in sorted(reasons.items())]
    terminalreporter.write_line(f"left out: {', '.join(parts) or 'nothing'}")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Decoded splits are kept in a folder of this session, also by the processes that the tests start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_DDP_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def kernels(request: pytest.FixtureRequest) -> None:
    """On a GPU the tests use the trainer's kernels."""
    if request.config.getoption("--gpu"):
        from fer_ddp.hardware import use_repeatable_kernels

        use_repeatable_kernels()


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed data set: 240, 70 and 70 synthetic faces in train, val and test."""
    from shards.packing.packer import pack
    from shards.sources.synthetic_faces import Faces, scan_faces

    folder = tmp_path_factory.mktemp("data") / "faces"
    pack(partial(scan_faces, Faces(train=240, val=70, test=70)), folder)
    return folder


@pytest.fixture
def tiny_job(faces: Path, tmp_path: Path) -> Path:
    """A job file: a tiny model on ``faces``, one epoch of ten steps, the run folder ``run`` beside the file."""
    path = tmp_path / "tiny.yaml"
    job = {
        "run": str(tmp_path / "run"),
        "data": {"path": str(faces)},
        "model": {"name": "plain_cnn", "arguments": {"channels": [4, 8], "hidden": 16}},
        "optimizer": {"name": "adam", "lr": 0.001},
        "epochs": 1,
        "global_batch_size": 24,
        "precision": "float32",
        "memory_format": "contiguous",
        "wandb": {"mode": "disabled"},
    }
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """``with full_disk():`` no file of this process can grow beyond 1000 bytes."""

    @contextmanager
    def limited() -> Iterator[None]:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    return limited
