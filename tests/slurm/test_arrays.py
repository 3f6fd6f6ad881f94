"""Arrays on a real cluster of two nodes: they end as `launch local` ends, whatever the cluster does to them."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from launching import ROOT, run_files
from slurm_cluster import Cluster

pytestmark = pytest.mark.slurm

STEPS = 400
"""Of the job: some five seconds on one rank."""
WITHOUT_SLURM = str(Path(sys.executable).parent)
"""A PATH that does not lead to sbatch."""


@pytest.fixture
def place(faces: Path, tmp_path: Path, cluster: Cluster) -> "Place":
    """A working folder with two recipes, an array and a profile."""
    return Place(tmp_path / "work", faces, cluster)


class Place:
    """A folder in which a user works, with the cluster's commands."""

    def __init__(self, folder: Path, faces: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        (folder / "jobs").mkdir(parents=True)
        model = {"channels": [4, 8], "hidden": 16, "batch_norm": True, "block_dropout": 0.1}
        self.write(
            "jobs/wide.yaml",
            data={"path": str(faces)},
            model={"name": "plain_cnn", "arguments": model},
            optimizer={"name": "adamw", "lr": 0.003},
            augment={"flip": 0.5, "rotation_degrees": 10.0},
            ema={"decay": 0.9},
            epochs=STEPS // 10,
            global_batch_size=24,
            precision="float32",
            memory_format="contiguous",
            log={"every_steps": 1},
            checkpoint={"every_steps": 10},
            wandb={"mode": "disabled"},
        )
        self.write("jobs/narrow.yaml", extends="wide.yaml", model={"arguments": {"channels": [2, 4]}})
        self.write("jobs/six.yaml", jobs=["wide.yaml", "narrow.yaml"], seeds=[0, 1, 2], overrides={"epochs": 5})
        self.profile("cpu")

    def write(self, name: str, **values: Any) -> None:
        (self.folder / name).write_text(yaml.safe_dump(values, sort_keys=False))

    def profile(self, name: str, **changes: Any) -> None:
        plain = {"gpus_per_node": 0, "cpus_per_node": 1, "memory_gb": 2, "time_minutes": 10, "signal_seconds": 60}
        self.write(f"jobs/{name}.yaml", **(plain | changes))

    def launch(self, *arguments: str, code: Path = ROOT, path: str | None = None) -> subprocess.CompletedProcess[str]:
        """``python -m launch ARGUMENTS`` in this folder, with the packages in ``code``."""
        environment = self.cluster.environment | {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
        if path is not None:
            environment["PATH"] = path
        return subprocess.run(
            [sys.executable, "-m", "launch", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def submit(self, job: str, profile: str = "cpu", **more: Any) -> None:
        done = self.launch("slurm", f"jobs/{job}.yaml", "--cluster", f"jobs/{profile}.yaml", **more)
        assert (done.returncode, done.stderr) == (0, "")

    def status(self, name: str) -> dict[str, dict[str, Any]]:
        done = self.launch("status", name, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return {member["name"]: member for member in json.loads(done.stdout)}

    def states(self, name: str) -> list[str]:
        return [member["state"] for member in self.status(name).values()]

    def run_status(self, run: str) -> str | None:
        path = self.folder / "runs" / run / "status.json"
        return str(json.loads(path.read_text())["state"]) if path.exists() else None

    def steps_done(self, run: str) -> int:
        path = self.folder / "runs" / run / "steps.jsonl"
        return path.read_text().count("\n") if path.exists() else 0

    def finished(self, *runs: str, seconds: float = 240) -> None:
        self.cluster.wait_until(lambda: all(self.run_status(run) == "finished" for run in runs), seconds)

    def started(self, run: str, steps: int = 50) -> None:
        self.cluster.wait_until(lambda: self.steps_done(run) >= steps, 180)

    def idle(self, seconds: float = 120) -> None:
        """Wait until the cluster has nothing more to do."""
        self.cluster.wait_until(lambda: not self.cluster.run("squeue", "-h").strip(), seconds)

    def log(self, name: str, member: str) -> str:
        return self.launch("logs", name, member, "--lines", "1000").stdout

    def attempts(self, name: str, member: str) -> list[dict[str, Any]]:
        """The lines of a member's starts and ends."""
        path = self.folder / "runs" / f"{name}.launch" / "attempts" / f"{member}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def pids(self, name: str) -> list[int]:
        """The trainers of a run."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"fer_ddp" in words and f"runs/{name}.launch/members/{name}.yaml".encode() in words and b"-u" in words:
                found.append(int(path.parent.name))
        return found


@pytest.fixture(scope="module")
def undisturbed(faces: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Callable[..., Path]:
    """The run of ``jobs/wide.yaml`` that `launch local` makes, by ranks; it is made once."""
    place = Place(tmp_path_factory.mktemp("undisturbed") / "work", faces, cluster)

    def run(ranks: int = 1) -> Path:
        path = place.folder / "runs" / f"wide-{ranks}"
        if not path.exists():
            done = place.launch("local", "jobs/wide.yaml", f"run=runs/wide-{ranks}", "--ranks", str(ranks))
            assert done.returncode == 0, done.stderr
        return path

    return run


def same_files(run: Path, expected: Path) -> None:
    """Every file that must be reproducible has the same bytes, but for the run's own name in its job."""
    found, wanted = run_files(run), run_files(expected)
    for files, path in ((found, run), (wanted, expected)):
        job, _, _ = files["config.yaml"].rpartition(b"# crc32 ")  # its checksum is of the name as well
        files["config.yaml"] = job.replace(f"runs/{path.name}".encode(), b"")
    assert sorted(found) == sorted(wanted)
    assert [name for name in wanted if found[name] != wanted[name]] == []


def test_an_array_ends_as_launch_local_ends_it_and_status_shows_each_stage(place: Place) -> None:
    place.profile("two_at_once", array_parallelism=2)
    place.submit("six", "two_at_once")
    names = [f"{recipe}-seed{seed}" for recipe in ("wide", "narrow") for seed in (0, 1, 2)]
    place.cluster.wait_until(lambda: place.states("six") == ["running"] * 2 + ["waiting"] * 4, 30)
    place.finished(*(f"six/{name}" for name in names))
    place.idle()
    status = place.status("six")
    assert {name: (each["state"], each["epoch"], each["restarts"]) for name, each in status.items()} == dict.fromkeys(
        names, ("finished", 5, 0)
    )
    rows = list(csv.DictReader((place.folder / "runs/six.launch/report.csv").read_text().splitlines()))
    assert sorted((row["recipe"], row["seed"]) for row in rows) == sorted(
        (recipe, str(seed)) for recipe in ("wide", "narrow") for seed in (0, 1, 2)
    )

    shutil.move(place.folder / "runs", place.folder / "from-slurm")
    done = place.launch("local", "jobs/six.yaml", "--ranks", "1")
    assert done.returncode == 0, done.stderr
    for name in names:
        same_files(place.folder / "from-slurm/six" / name, place.folder / "runs/six" / name)


def test_status_needs_no_slurm_once_all_is_finished(place: Place) -> None:
    place.write("jobs/short.yaml", extends="narrow.yaml", epochs=1)
    place.submit("short")
    place.finished("short-seed0")
    done = place.launch("status", "short-seed0", path=WITHOUT_SLURM)
    assert (done.returncode, done.stdout.splitlines()[-1].partition(",")[0]) == (0, "1/1 done")


def test_a_time_limit_shorter_than_the_run_only_delays_it(place: Place) -> None:
    place.write("jobs/slow.yaml", extends="wide.yaml", epochs=STEPS, log={"every_steps": 10})
    # SLURM looks at limits every 30 seconds, so the signal comes after 20 to 50 seconds.
    place.profile("short", time_minutes=1, signal_seconds=10)
    place.submit("slow", "short")
    done = place.launch("local", "jobs/slow.yaml", "run=runs/slow-local", "--ranks", "1")
    assert done.returncode == 0, done.stderr
    place.finished("slow-seed0", seconds=600)
    assert place.status("slow-seed0")["slow-seed0"]["restarts"] >= 1
    same_files(place.folder / "runs/slow-seed0", place.folder / "runs/slow-local")


def take_all_nodes(place: Place) -> None:
    place.cluster.run("sbatch", "-p", "urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 3")


def test_a_preempted_run_resumes_by_itself(place: Place, undisturbed: Callable[..., Path]) -> None:
    place.profile("spot", partition="spot")
    place.submit("wide", "spot")
    place.started("wide-seed0")
    take_all_nodes(place)
    place.finished("wide-seed0")
    assert place.status("wide-seed0")["wide-seed0"]["restarts"] == 1
    same_files(place.folder / "runs/wide-seed0", undisturbed())


def test_a_run_that_preemption_would_cancel_requeues_itself(place: Place, undisturbed: Callable[..., Path]) -> None:
    place.profile("scavenge", partition="scavenge")
    place.submit("wide", "scavenge")
    place.started("wide-seed0")
    take_all_nodes(place)
    place.finished("wide-seed0")
    same_files(place.folder / "runs/wide-seed0", undisturbed())


def test_a_cancelled_run_saves_its_state_and_can_be_resumed(place: Place, undisturbed: Callable[..., Path]) -> None:
    place.submit("wide")
    place.started("wide-seed0")
    done = place.launch("cancel", "wide-seed0")
    assert (done.returncode, done.stderr) == (0, "")
    place.idle()
    assert (place.states("wide-seed0"), place.run_status("wide-seed0")) == (["interrupted"], "interrupted")
    done = place.launch("resume", "wide-seed0")
    assert (done.returncode, done.stderr) == (0, "")
    place.finished("wide-seed0")
    same_files(place.folder / "runs/wide-seed0", undisturbed())


def test_a_requeued_run_goes_on(place: Place, undisturbed: Callable[..., Path]) -> None:
    place.submit("wide")
    place.started("wide-seed0")
    place.cluster.run("scontrol", "requeue", place.status("wide-seed0")["wide-seed0"]["job_id"])
    place.finished("wide-seed0")
    same_files(place.folder / "runs/wide-seed0", undisturbed())


def test_a_run_whose_node_loses_power_goes_on(place: Place, undisturbed: Callable[..., Path]) -> None:
    place.submit("wide")
    place.started("wide-seed0")
    node = place.status("wide-seed0")["wide-seed0"]["node"]
    place.cluster.crash(node)
    place.cluster.boot(node)
    place.finished("wide-seed0")
    same_files(place.folder / "runs/wide-seed0", undisturbed())


def test_a_killed_trainer_is_started_again(place: Place, undisturbed: Callable[..., Path]) -> None:
    place.submit("wide")
    place.started("wide-seed0")
    for pid in place.pids("wide-seed0"):
        os.kill(pid, signal.SIGKILL)
    place.finished("wide-seed0")
    place.idle()
    ends = [line for line in place.attempts("wide-seed0", "wide-seed0") if "ended" in line]
    assert [end["exit_status"] for end in ends] == [128 + signal.SIGKILL, 0]
    same_files(place.folder / "runs/wide-seed0", undisturbed())


def test_two_nodes_train_along_the_curve_of_one_process_though_one_rank_is_killed(place: Place) -> None:
    place.write("jobs/exact.yaml", extends="wide.yaml", precision="float64", epochs=40)
    place.profile("two_nodes", nodes=2, cpus_per_node=2, ranks_per_node=2)
    place.submit("exact", "two_nodes")
    place.started("exact-seed0")
    os.kill(place.pids("exact-seed0")[-1], signal.SIGKILL)
    place.finished("exact-seed0", seconds=180)
    done = place.launch("local", "jobs/exact.yaml", "run=runs/alone", "--ranks", "1")
    assert done.returncode == 0, done.stderr
    environment = json.loads((place.folder / "runs/exact-seed0/environment.json").read_text())
    curves = [
        [json.loads(line)["loss"] for line in (place.folder / "runs" / run / "steps.jsonl").read_text().splitlines()]
        for run in ("exact-seed0", "alone")
    ]
    assert (environment["world_size"], len(curves[0])) == (4, 400)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-9, atol=0)


def test_what_is_edited_after_a_submission_changes_nothing_that_waits(place: Place) -> None:
    code = place.folder / "code"
    for package in ("launch", "fer_ddp", "shards"):
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    blocker = place.cluster.run(
        "sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 600"
    ).strip()
    place.write("jobs/short.yaml", extends="narrow.yaml", epochs=1)
    place.submit("short", code=code)
    (code / "fer_ddp" / "training" / "run.py").write_text("raise SystemExit('this was edited after the submission')")
    (place.folder / "jobs/short.yaml").unlink()
    place.cluster.run("scancel", blocker)
    place.finished("short-seed0")


def test_a_model_of_the_users_own_is_trained_as_it_was_submitted(place: Place) -> None:
    nets = place.folder / "nets"
    nets.mkdir()
    net = "from torch import nn\n\nclass Net(nn.Sequential):\n    def __init__(self, num_classes: int) -> None:\n"
    net += "        super().__init__(nn.Flatten(), nn.Linear(48 * 48, num_classes))\n"
    (nets / "face.py").write_text(net)
    blocker = place.cluster.run(
        "sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 600"
    ).strip()
    place.write("jobs/own.yaml", extends="narrow.yaml", epochs=1, model={"name": "nets/face.py:Net"})
    place.write("jobs/owns.yaml", jobs=["own.yaml"], seeds=[0, 1])
    place.submit("owns")
    (nets / "face.py").write_text("raise SystemExit('this was edited after the submission')")
    place.cluster.run("scancel", blocker)
    place.finished("owns/own-seed0", "owns/own-seed1")
    assert (place.folder / "runs/owns/own-seed1/model_source/face.py").read_text() == net


def test_a_run_that_fails_at_the_same_step_three_times_is_given_up(place: Place) -> None:
    place.write("jobs/wild.yaml", extends="narrow.yaml", optimizer={"name": "sgd", "lr": 999.0, "weight_decay": 1.0})
    place.submit("wild")
    place.cluster.wait_until(lambda: place.states("wild-seed0") == ["failed"], 120)
    place.idle()
    member = place.status("wild-seed0")["wild-seed0"]
    assert (member["state"], member["restarts"]) == ("failed", 2)
    assert "the loss was not finite at step" in member["message"]
    assert "wild-seed0: failed 3 times at step 0, so it is not retried" in place.log("wild-seed0", "wild-seed0")


def test_a_failed_member_does_not_hide_the_others(place: Place) -> None:
    place.write("jobs/pair.yaml", jobs=["narrow.yaml"], seeds=[0], grid={"optimizer.lr": [0.003, 999.0]})
    place.write("jobs/narrow.yaml", extends="wide.yaml", epochs=2, optimizer={"name": "sgd", "weight_decay": 1.0})
    place.submit("pair")
    place.idle(seconds=120)
    assert place.states("pair") == ["finished", "failed"]


def test_data_that_the_node_does_not_see_end_in_a_message(place: Place, faces: Path) -> None:
    copy = place.folder / "copied"
    shutil.copytree(faces, copy)
    blocker = place.cluster.run(
        "sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 600"
    ).strip()
    place.write("jobs/moved.yaml", extends="narrow.yaml", data={"path": str(copy)})
    place.submit("moved")
    shutil.rmtree(copy)
    place.cluster.run("scancel", blocker)
    place.idle()
    member = place.status("moved-seed0")["moved-seed0"]
    assert (member["state"], member["restarts"], str(copy) in member["message"]) == ("failed", 0, True)


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ({"partition": "nowhere"}, "error: sbatch refused: .*invalid partition specified: nowhere"),
        ({"memory_gb": 9999}, "error: sbatch refused: .*"),
        ({"nodes": 0}, "error: jobs/bad.yaml: nodes: is 0; it must be more than 0"),
    ],
)
def test_what_slurm_refuses_leaves_nothing_behind(place: Place, profile: dict[str, Any], sentence: str) -> None:
    place.profile("bad", **profile)
    done = place.launch("slurm", "jobs/wide.yaml", "--cluster", "jobs/bad.yaml")
    assert (done.returncode in (1, 2), len(done.stderr.splitlines())) == (True, 1), done.stderr
    assert re.match(sentence, done.stderr), done.stderr
    assert (place.cluster.run("squeue", "-h").strip(), (place.folder / "runs").exists()) == ("", False)


def test_without_sbatch_it_says_where_to_go(place: Place) -> None:
    done = place.launch("slurm", "jobs/wide.yaml", "--cluster", "jobs/cpu.yaml", path=WITHOUT_SLURM)
    assert (done.returncode, done.stderr) == (
        2,
        "error: sbatch: there is no such command here; run this on a login node of the cluster\n",
    )


def test_a_dry_run_prints_the_script_and_submits_nothing(place: Place) -> None:
    done = place.launch(
        "slurm", "jobs/six.yaml", "--cluster", "jobs/cpu.yaml", "--dry-run", "--images-per-second", "60"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "#SBATCH --array=0-5%6" in done.stdout
    assert "runs/six/narrow-seed2" in done.stdout
    assert "7,200 images at 60 a second and run: 0.0 rank hours" in done.stdout
    assert (place.cluster.run("squeue", "-h").strip(), (place.folder / "runs").exists()) == ("", False)
