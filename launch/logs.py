"""Where the logs of an array are, and the end of one."""

import os
from pathlib import Path

from fer_ddp.errors import JobError, RunError
from launch.folder import ArrayFolder
from shards.files import SMALL, check_regular


def logs_text(folder: ArrayFolder, member: str | None, lines: int) -> str:
    """The last ``lines`` of each log of ``member``, or, for None, of the only member. Raises JobError or RunError."""
    members = list(folder.runs)
    if member is None:
        if len(members) > 1:
            raise JobError(f"{folder.name}: has {len(members)} members; name one: {', '.join(members)}")
        (member,) = members
    if member not in members:
        raise JobError(f"{member}: is not a member of {folder.name}; it has {', '.join(members)}")
    paths = log_files(folder, member)
    if not paths:
        raise JobError(f"{folder.name}: {member} has no log yet; it has not started")
    parts = []
    for path in paths:
        parts.append("\n".join([f"==> {path} <==", *_end_of(path)[-lines:]]))
    return "\n\n".join(parts)


def _end_of(path: Path) -> list[str]:
    """The lines at the end of a log, which may be large. Raises RunError."""
    try:
        check_regular(path)
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - SMALL))
            return file.read(SMALL).decode(errors="replace").splitlines()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None


def log_files(folder: ArrayFolder, member: str) -> list[Path]:
    """The logs of one member, each start on a cluster in its own or appended, the oldest first."""
    local = folder.logs / f"{member}.log"
    paths = [local] if local.exists() else []
    for number, submission in enumerate(folder.submissions):
        job_id, members = submission.get("job_id"), submission["members"]
        if member in members and job_id is not None:
            name = job_id if len(members) == 1 else f"{job_id}_{members.index(member)}"
            paths += sorted(folder.logs_of(number).glob(f"{name}_*_log.out"))
    return paths
