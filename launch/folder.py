"""``runs/NAME.launch/``: what was started under a name, beside its runs. Any shell can read it at any time.

It holds ``array.json`` (members, cluster), ``members/`` (each member's whole job), ``submissions/``, ``code/`` (the
frozen code), ``logs/`` and ``attempts/`` (a line when a member starts on a node, a line when it ends).
"""

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fer_ddp.errors import JobError, RunError
from fer_ddp.runs.files import RUNS, check_shape, read_json, saved_step
from fer_ddp.runs.shapes import Array, AttemptLine, Config, Submission
from fer_ddp.yaml_io import read_yaml
from shards.files import SMALL, append_bytes, atomic_write_text, parse_json, read_regular, write_json
from shards.validation import InvalidValue, from_json

SUFFIX = ".launch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One start of a member on a cluster."""

    started: str
    """ISO 8601, UTC."""
    job_id: str = ""
    """SLURM's, with the task: ``7_2``."""
    nodes: str = ""
    ended: str | None = None
    """None while it runs, or where nothing could be written any more."""
    exit_status: int | None = None
    """Of the whole job: 0 finished, 75 interrupted, 2 wrong job; anything else failed."""
    saved_step: int | None = None
    """The saved step when it ended."""
    message: str | None = None
    """Why it failed."""

    @property
    def failed(self) -> bool:
        """Whether the work itself failed, so that doing it again may fail again."""
        return self.exit_status not in (None, 0, 75)


class ArrayFolder:
    """The bookkeeping of one array, or of one job that was started alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.code = path / "code"
        self.logs = path / "logs"
        self._submissions = path / "submissions"

    @property
    def name(self) -> str:
        """The array's name."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def runs(self) -> dict[str, Path]:
        """The run folder of each member, by name, in order."""
        return {member["name"]: Path(member["run"]) for member in self._read()["members"]}

    @property
    def submissions(self) -> list[dict[str, Any]]:
        """``{members, job_id, summary_job_id}`` of each submission to SLURM; a member's index is its task id."""
        return [read_json(path, Submission) for path in self._submission_files()]

    def job_ids(self) -> list[str]:
        """What SLURM called all that was ever submitted."""
        return [each[key] for each in self.submissions for key in ("job_id", "summary_job_id") if each.get(key)]

    @property
    def cluster(self) -> dict[str, Any] | None:
        """The cluster profile it was submitted with; None if it ran on this machine."""
        cluster: dict[str, Any] | None = self._read().get("cluster")
        return cluster

    def exists(self) -> bool:
        """Whether anything was started under this name."""
        return (self.path / "array.json").is_file()

    def member_file(self, member: str) -> Path:
        """The member's whole job, as ``train`` reads it."""
        return self.path / "members" / f"{member}.yaml"

    def read_member(self, member: str) -> dict[str, Any]:
        """The member's whole job as plain values. Raises JobError or RunError if its file is damaged."""
        values = read_yaml(self.member_file(member))
        check_shape(self.member_file(member), values, Config)
        return values

    def model_names(self) -> list[str]:
        """``model.name`` of each member."""
        return [self.read_member(member)["model"]["name"] for member in self.runs]

    def write(self, name: str, *, runs: dict[str, str], jobs: dict[str, str], cluster: dict[str, Any] | None) -> None:
        """Write what the array ``name`` is: by member, the run folder and the job as YAML. Raises RunError."""
        try:
            for folder in (self.path, self.logs, self._submissions, self.path / "members", self.path / "attempts"):
                folder.mkdir(parents=True, exist_ok=True)
            for member, job in jobs.items():
                atomic_write_text(self.member_file(member), job)
            members = [{"name": member, "run": run} for member, run in runs.items()]
            write_json(self.path / "array.json", {"name": name, "members": members, "cluster": cluster})
        except OSError as error:
            raise RunError(f"{error.filename}: can't be written ({error.strerror})") from None

    def begin_submission(self, members: list[str]) -> int:
        """Write down what is about to be submitted, since a task may run before SLURM's number is known here."""
        number = len(self._submission_files())
        write_json(self._submissions / f"{number:04}.json", {"members": members})
        return number

    def end_submission(self, number: int, job_id: str, summary_job_id: str) -> None:
        """Write down SLURM's numbers."""
        path = self._submissions / f"{number:04}.json"
        write_json(path, read_json(path) | {"job_id": job_id, "summary_job_id": summary_job_id})

    def drop_submission(self, number: int) -> None:
        """Forget a submission that SLURM refused."""
        shutil.rmtree(self.logs_of(number), ignore_errors=True)
        (self._submissions / f"{number:04}.json").unlink()

    def logs_of(self, submission: int) -> Path:
        """Where SLURM writes what the tasks of a submission print."""
        return self.logs / f"{submission:04}"

    def _submission_files(self) -> list[Path]:
        return sorted(self._submissions.glob("*.json"))

    def start_attempt(self, member: str, job_id: str, nodes: str) -> None:
        """A line: the member starts on these nodes."""
        self._append(member, {"started": _now(), "job_id": job_id, "nodes": nodes})

    def explain_attempt(self, member: str, message: str) -> None:
        """A line: why the last attempt fails."""
        self._append(member, {"message": message})

    def end_attempt(self, member: str, job_id: str, nodes: str, exit_status: int) -> Attempt:
        """A line: the last attempt has ended, or one that could not even write that it started."""
        attempts = self.attempts(member)
        if not attempts or attempts[-1].ended is not None:
            self.start_attempt(member, job_id, nodes)
        step = saved_step(self.runs[member])
        self._append(member, {"ended": _now(), "exit_status": exit_status, "saved_step": step})
        return self.attempts(member)[-1]

    def attempts(self, member: str) -> list[Attempt]:
        """All starts of a member, the first one first. Raises RunError if a line is damaged."""
        path = self.path / "attempts" / f"{member}.jsonl"
        attempts: list[dict[str, Any]] = []
        for number, text in enumerate(_lines(path), start=1):
            try:
                line = parse_json(text)
                if isinstance(line, dict) and "sentence" in line:  # as version 0.1 called it
                    line = {"message": line["sentence"]}
                found = {key: value for key, value in asdict(from_json(line, AttemptLine)).items() if value is not None}
            except (ValueError, InvalidValue) as error:
                raise RunError(
                    f"{path} line {number}: is damaged ({error}); remove the line to continue without it"
                ) from None
            if "started" in found:
                attempts.append(found)
            elif attempts:
                attempts[-1] |= found
        return [Attempt(**attempt) for attempt in attempts]

    def _append(self, member: str, line: dict[str, Any]) -> None:
        append_bytes(self.path / "attempts" / f"{member}.jsonl", f"{json.dumps(line)}\n".encode())

    def _read(self) -> dict[str, Any]:
        if not self.exists():
            raise JobError(f"{self.path}: there is no such folder; nothing was started under this name")
        return read_json(self.path / "array.json", Array)


def folder_of(name: str, runs: list[Path]) -> ArrayFolder:
    """Where the bookkeeping of the array ``name`` lies: beside its ``runs``."""
    alone = len(runs) == 1 and runs[0].name == name
    return ArrayFolder((runs[0].parent if alone else RUNS) / f"{name}{SUFFIX}")


def find_folder(name: str) -> ArrayFolder:
    """The bookkeeping of what was started as ``name``: an array's or a run's name, or its path. Raises JobError."""
    given = Path(name.rstrip("/").removesuffix(SUFFIX) + SUFFIX)
    for path in (given, RUNS / given):
        if ArrayFolder(path).exists():
            return ArrayFolder(path)
    known = [folder.name for folder in all_folders()]
    raise JobError(f"{name}: nothing was started under this name; {RUNS}/ holds {', '.join(known) or 'none'}")


def all_folders() -> list[ArrayFolder]:
    """The bookkeeping of all that was started from this working folder, by name."""
    return [ArrayFolder(path) for path in sorted(RUNS.glob(f"*{SUFFIX}")) if ArrayFolder(path).exists()]


def _lines(path: Path) -> list[bytes]:
    try:
        return read_regular(path, at_most=SMALL).splitlines() if path.exists() else []
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_summary(folder: Path) -> Path:
    """Write ``report.html``, ``.md`` and ``.csv`` of the array's finished runs into its ``folder``; the page's path.

    Raises RunError if no run is finished.
    """
    from fer_ddp.report.write import write_report  # torch takes seconds

    runs = [run for run in ArrayFolder(folder).runs.values() if run.is_dir()]
    return write_report(runs, folder / "report.html").page
