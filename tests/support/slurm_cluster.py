"""A private SLURM cluster: start it, ask it, cut a node's power."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

SCRIPTS = Path(__file__).parents[1] / "slurm" / "cluster"
T = TypeVar("T")


class NoCluster(Exception):
    """Why a cluster could not be started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What squeue reports of a job, or of one task of an array."""

    state: str
    reason: str
    nodes: str
    restarts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A running cluster with node1 and node2; its partitions are described in ``cluster/start``."""

    folder: Path
    """Its configuration (``slurm.conf``) and logs (``log/``)."""
    environment: dict[str, str]
    """For commands that are to see this cluster and no other."""

    def run(self, *command: str | Path, timeout: float = 60) -> str:
        """What a command such as ``sbatch`` prints; an AssertionError with its errors if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{command} exited with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def squeue(self) -> dict[str, Task]:
        """The tasks that wait, run or have ended, by id such as ``7`` or ``7_2``."""
        fields = ("JobArrayID", "State", "Reason", "NodeList", "RestartCnt")
        lines = self.run("squeue", "-h", "--array", "-t", "all", "-O", ",".join(f"{field}:200|" for field in fields))
        tasks = {}
        for line in lines.splitlines():
            name, state, reason, nodes, restarts = (word.strip() for word in line.removesuffix("|").split("|"))
            tasks[name] = Task(state=state, reason=reason, nodes=nodes, restarts=int(restarts))
        return tasks

    def crash(self, node: str) -> None:
        """Cut ``node``'s power, and tell the controller, which would take half a minute to notice."""
        self.run(SCRIPTS / "crash", self.folder, node)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=no power")

    def boot(self, node: str) -> None:
        """Switch ``node`` on again; jobs may start there once it is idle."""
        self.run(SCRIPTS / "boot", self.folder, node)

    def node_states(self) -> dict[str, str]:
        """The state of each node, such as ``idle``, ``mixed`` or ``down``."""
        return dict(line.split() for line in self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines())

    def wait_until(self, condition: Callable[[], T], seconds: float = 60) -> T:
        """The first true value of ``condition``; after so many seconds an AssertionError with the logs' ends."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, f"still not so after {seconds} s\n{self._what_it_says()}"
            time.sleep(0.1)
        return value

    def clear(self) -> None:
        """Cancel all jobs, switch on what is off, and wait until both nodes are idle."""
        for node in ("node1", "node2"):
            if not (self.folder / "run" / f"{node}.sleeper").exists():
                self.boot(node)
        self.run("scancel", f"--user={os.getuid()}")
        self.wait_until(lambda: set(self.node_states().values()) == {"idle"})

    def _what_it_says(self) -> str:
        ends = [
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted((self.folder / "log").iterdir())
        ]
        tasks = "\n".join(f"{name}: {task}" for name, task in self.squeue().items())
        return "\n".join([tasks, str(self.node_states()), *ends])


@contextmanager
def private_cluster(*, accounting: bool = True) -> Iterator[Cluster]:
    """A cluster that ends with the block; raises NoCluster if it cannot be started.

    Without ``accounting`` there is no sacct, and the start takes half a second instead of two.
    """
    # Not in pytest's folder: its path is too long for UNIX sockets.
    folder = Path(tempfile.mkdtemp(prefix="fer-slurm-"))
    options = [] if accounting else ["--no-accounting"]
    # Inside a job of another cluster, that one's variables would be taken for ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    try:
        with open(Path(tempfile.gettempdir()) / "fer-slurm-start.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two data bases that begin at the same moment don't both come up
            started = subprocess.run(
                [SCRIPTS / "start", folder, *options], env=environment, stderr=subprocess.PIPE, text=True, check=False
            )
        if started.returncode != 0:
            raise NoCluster(started.stderr)
        yield Cluster(folder=folder, environment=environment | {"SLURM_CONF": str(folder / "slurm.conf")})
    finally:
        subprocess.run([SCRIPTS / "stop", folder], check=True)
        shutil.rmtree(folder)
