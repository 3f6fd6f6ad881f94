"""The private cluster does what a cluster does, so that the other tests here may rely on it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from slurm_cluster import Cluster, private_cluster

pytestmark = pytest.mark.slurm

STAYS_THE_FIRST_TIME = 'echo "run ${SLURM_RESTART_COUNT:-0} on $(hostname)"; [ "$SLURM_RESTART_COUNT" ] || sleep 300'
"""A job that ends only in its second run."""


@pytest.fixture
def submit(cluster: Cluster, tmp_path: Path) -> Callable[..., str]:
    """``submit(script, option, ...)`` returns the job's id; the job writes ``out`` in its folder, ``tmp_path``."""

    def submit(script: str, *options: str) -> str:
        always = ("--parsable", f"--chdir={tmp_path}", "--output=out", "--open-mode=append")
        return cluster.run("sbatch", *always, *options, "--wrap", script).strip()

    return submit


def wait_for_text(cluster: Cluster, path: Path, text: str) -> None:
    cluster.wait_until(lambda: path.exists() and text in path.read_text())


def wait_for_state(cluster: Cluster, job: str, state: str) -> None:
    cluster.wait_until(lambda: cluster.squeue()[job].state == state)


def states_of_runs(cluster: Cluster, job: str) -> list[str]:
    """The state in which each run of ``job`` ended, from the accounting, which lags some seconds behind."""
    options = ("--noheader", "--allocations", "--duplicates", f"--jobs={job}", "--format=State%20")
    return cluster.run("sacct", *options).split()


def has_ended(pid: int) -> bool:
    command_line = Path(f"/proc/{pid}/cmdline")
    return not command_line.exists() or command_line.read_bytes() == b""  # a zombie's is empty


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_job_runs_on_each_node_under_its_hostname(
    cluster: Cluster, submit: Callable[..., str], tmp_path: Path, node: str
) -> None:
    job = submit("hostname", f"--nodelist={node}")
    wait_for_state(cluster, job, "COMPLETED")
    assert (tmp_path / "out").read_text() == f"{node}\n"


def test_a_step_runs_on_both_nodes_at_once(cluster: Cluster, submit: Callable[..., str], tmp_path: Path) -> None:
    # Each waits for the other's file.
    step = "touch $(hostname); until [ -e node1 ] && [ -e node2 ]; do sleep 0.1; done; hostname"
    job = submit(f"srun bash -c '{step}'", "--nodes=2", "--ntasks-per-node=1")
    wait_for_state(cluster, job, "COMPLETED")
    assert sorted((tmp_path / "out").read_text().split()) == ["node1", "node2"]


def test_a_requeued_job_runs_again(cluster: Cluster, submit: Callable[..., str], tmp_path: Path) -> None:
    job = submit(STAYS_THE_FIRST_TIME, "--requeue", "--nodelist=node1")
    wait_for_text(cluster, tmp_path / "out", "run 0")
    cluster.run("scontrol", "requeue", job)
    wait_for_state(cluster, job, "COMPLETED")
    assert cluster.squeue()[job].restarts == 1
    assert "run 1 on node1" in (tmp_path / "out").read_text()
    cluster.wait_until(lambda: states_of_runs(cluster, job) == ["REQUEUED", "COMPLETED"])


def test_a_job_whose_node_loses_power_runs_again_once_it_is_back(
    cluster: Cluster, submit: Callable[..., str], tmp_path: Path
) -> None:
    job = submit(STAYS_THE_FIRST_TIME, "--requeue", "--nodelist=node1")
    wait_for_text(cluster, tmp_path / "out", "run 0")
    cluster.crash("node1")
    assert cluster.node_states() == {"node1": "down", "node2": "idle"}
    cluster.boot("node1")
    wait_for_state(cluster, job, "COMPLETED")
    cluster.wait_until(lambda: states_of_runs(cluster, job) == ["NODE_FAIL", "COMPLETED"])
    assert "run 1 on node1" in (tmp_path / "out").read_text()


def test_a_power_cut_ends_what_left_its_job_behind(
    cluster: Cluster, submit: Callable[..., str], tmp_path: Path
) -> None:
    submit("setsid sleep 300 & echo $!; sleep 300", "--nodelist=node1")
    wait_for_text(cluster, tmp_path / "out", "\n")
    pid = int((tmp_path / "out").read_text())
    assert not has_ended(pid)
    cluster.crash("node1")
    cluster.wait_until(lambda: has_ended(pid))


def test_an_urgent_job_interrupts_a_spot_job_and_ends_a_scavenge_job(
    cluster: Cluster, submit: Callable[..., str], tmp_path: Path
) -> None:
    spot = submit(STAYS_THE_FIRST_TIME, "--requeue", "--partition=spot", "--exclusive", "--nodelist=node1")
    scavenge = submit(STAYS_THE_FIRST_TIME, "--requeue", "--partition=scavenge", "--exclusive", "--nodelist=node2")
    wait_for_text(cluster, tmp_path / "out", "on node1")
    wait_for_text(cluster, tmp_path / "out", "on node2")
    urgent = submit("true", "--partition=urgent", "--exclusive", "--nodes=2")
    wait_for_state(cluster, urgent, "COMPLETED")
    wait_for_state(cluster, scavenge, "PREEMPTED")
    wait_for_state(cluster, spot, "COMPLETED")
    assert [line for line in (tmp_path / "out").read_text().splitlines() if "run 1" in line] == ["run 1 on node1"]


def test_before_the_time_limit_a_signal_reaches_the_step(
    cluster: Cluster, submit: Callable[..., str], tmp_path: Path
) -> None:
    # Limits are looked at every 30 s and the signal is sent up to 30 s early: not before 2 s, when the step listens.
    step = "trap 'echo signalled; exit 3' USR2; while true; do sleep 0.1; done"
    job = submit(f'srun bash -c "{step}"', "--time=2", "--signal=USR2@88")
    wait_for_state(cluster, job, "FAILED")
    assert "signalled" in (tmp_path / "out").read_text().splitlines()


def test_an_array_runs_no_more_tasks_at_once_than_asked(
    cluster: Cluster, submit: Callable[..., str], tmp_path: Path
) -> None:
    job = submit("echo +1; sleep 1; echo -1", "--array=0-3%2")
    tasks = [f"{job}_{task}" for task in range(4)]
    cluster.wait_until(lambda: [cluster.squeue()[task].state for task in tasks] == ["COMPLETED"] * 4)
    running = [0]
    for line in (tmp_path / "out").read_text().split():
        running.append(running[-1] + int(line))
    assert (len(running), max(running), running[-1]) == (9, 2, 0)


def test_stopping_a_cluster_ends_its_processes_and_no_other_cluster_s(cluster: Cluster, tmp_path: Path) -> None:
    with private_cluster(accounting=False) as other:
        options = ("--parsable", f"--chdir={tmp_path}", "--output=out")
        other.run("sbatch", *options, "--wrap", "setsid sleep 300 & echo $!; sleep 300")
        wait_for_text(other, tmp_path / "out", "\n")
        sleepers = sorted((other.folder / "run").glob("*.sleeper"))
        pids = [int(path.read_text()) for path in [*sleepers, tmp_path / "out"]]
        assert len(pids) == 4
    assert not other.folder.exists()
    cluster.wait_until(lambda: all(has_ended(pid) for pid in pids))
    assert cluster.node_states() == {"node1": "idle", "node2": "idle"}
