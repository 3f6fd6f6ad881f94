"""Two users of one machine: Mallory neither reads nor changes what is Alice's, who trusts nothing of Mallory's."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from other_user import ALICE, MALLORY, as_user

from fer_ddp import FERDataset
from fer_ddp.data.cache_folder import cache_entries, cache_folder, prune_cache
from fer_ddp.errors import RunError
from fer_ddp.runs.folder import RunFolder
from shards.files import FileLock, atomic_write_bytes, open_to_append, read_regular
from shards.reading.reader import read_split

pytestmark = pytest.mark.root


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like /tmp: all users may make files in it, and remove their own."""
    folder = Path(tempfile.mkdtemp(prefix="two-users-"))
    folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for name in ("FER_DDP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def secret(shared: Path) -> Path:
    """A file of Alice's in a folder of hers."""

    def write() -> Path:
        (shared / "alice").mkdir(mode=0o755)
        (shared / "alice" / "secret").write_text("hers")
        return shared / "alice" / "secret"

    return as_user(ALICE, write)


@pytest.fixture
def data(shared: Path, faces: Path) -> Path:
    """A data set that both can read."""
    return Path(shutil.copytree(faces, shared / "faces"))


def pixels(data: Path) -> int:
    return int(np.asarray(FERDataset(data, "val").images).sum())


def what_opens(folder: Path) -> list[str]:
    """What this user can list, read or write in ``folder``."""
    found = []
    for path in [folder, *folder.rglob("*")]:
        for way in (
            os.listdir,
            lambda each: os.close(os.open(each, os.O_RDONLY)),
            lambda each: open(each, "ab").close(),
        ):
            try:
                way(path)
            except OSError:
                continue
            found.append(str(path))
    return found


def test_each_has_a_cache_of_their_own_that_the_other_cannot_open(shared: Path, data: Path) -> None:
    right = int(read_split(data, "val").images.sum())
    assert [as_user(user, lambda: pixels(data)) for user in (ALICE, MALLORY)] == [right, right]
    for user, other in ((ALICE, MALLORY), (MALLORY, ALICE)):
        theirs = shared / f"fer_ddp-{user}"
        assert len(as_user(user, lambda folder=theirs: cache_entries(folder))) == 1
        assert as_user(other, lambda folder=theirs: what_opens(folder)) == []
        assert as_user(other, lambda folder=theirs: cache_entries(folder)) == []


def make_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def make_folder(path: Path, target: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def make_pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)
    path.chmod(0o666)


def make_file(path: Path, target: Path) -> None:
    path.touch()
    path.chmod(0o666)


@pytest.mark.parametrize("make", [make_link, make_folder, make_pipe, make_file])
def test_a_cache_folder_that_mallory_has_made_is_refused(
    shared: Path, data: Path, secret: Path, make: Callable[[Path, Path], None]
) -> None:
    as_user(MALLORY, lambda: make(shared / f"fer_ddp-{ALICE}", secret.parent))
    with pytest.raises(RunError, match=f"{shared}/fer_ddp-{ALICE}: .*set FER_DDP_CACHE to a folder"):
        as_user(ALICE, lambda: pixels(data))
    assert os.listdir(secret.parent) == ["secret"]


def test_a_cache_that_the_variable_names_is_not_shared_either(
    shared: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_DDP_CACHE", str(shared))
    assert as_user(ALICE, cache_folder) == shared / f"fer_ddp-{ALICE}"
    for mode in (0o755, 0o777, 0o1777):
        (shared / "mallorys").mkdir(exist_ok=True)
        os.chown(shared / "mallorys", MALLORY, MALLORY)
        (shared / "mallorys").chmod(mode)
        monkeypatch.setenv("FER_DDP_CACHE", str(shared / "mallorys"))
        with pytest.raises(RunError, match="mallorys: is a link, or belongs to another user"):
            as_user(ALICE, cache_folder)


def test_an_entry_of_mallorys_in_a_folder_of_the_group_is_refused(
    shared: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shared / "group").mkdir()
    os.chown(shared / "group", ALICE, MALLORY)
    (shared / "group").chmod(0o770)
    monkeypatch.setenv("FER_DDP_CACHE", str(shared / "group"))
    as_user(ALICE, lambda: pixels(data))
    (entry,) = (shared / "group").iterdir()

    def replace() -> None:
        entry.rename(shared / "group" / "moved")
        entry.mkdir()

    as_user(MALLORY, replace)
    with pytest.raises(RunError, match=f"{entry}: is a link, or belongs to another user"):
        as_user(ALICE, lambda: pixels(data))
    assert as_user(ALICE, lambda: prune_cache(shared / "group", days=0)) == []


def test_a_file_is_written_into_a_shared_folder_whatever_mallory_has_left_there(shared: Path, secret: Path) -> None:
    def leave() -> None:
        for name in (".out.csv.tmp", ".out.csv.0123456789abcdef.tmp"):
            (shared / name).symlink_to(secret)

    as_user(MALLORY, leave)
    as_user(ALICE, lambda: atomic_write_bytes(shared / "out.csv", b"new"))
    assert ((shared / "out.csv").read_bytes(), secret.read_text()) == (b"new", "hers")


@pytest.mark.parametrize("make", [make_link, make_pipe, make_file])
def test_what_mallory_made_under_the_name_itself_is_neither_written_to_nor_followed(
    shared: Path, secret: Path, make: Callable[[Path, Path], None]
) -> None:
    as_user(MALLORY, lambda: make(shared / "out.csv", secret))
    with pytest.raises(OSError, match=r"out.csv") as caught:
        as_user(ALICE, lambda: atomic_write_bytes(shared / "out.csv", b"new"))
    assert caught.value.filename == str(shared / "out.csv")
    assert secret.read_text() == "hers"
    assert sorted(path.name for path in shared.iterdir()) == ["alice", "out.csv"]


@pytest.mark.parametrize("make", [make_link, make_pipe, "dangling", "hard link"])
def test_a_lock_or_a_log_in_a_shared_folder_follows_nothing_and_waits_for_nothing(
    shared: Path, secret: Path, make: Callable[[Path, Path], None] | str
) -> None:
    if callable(make):
        as_user(MALLORY, lambda: make(shared / ".lock", secret))
    elif make == "dangling":
        as_user(MALLORY, lambda: (shared / ".lock").symlink_to(secret.with_name("new")))
    else:  # root may where the kernel forbids it to Mallory
        os.link(secret, shared / ".lock")

    def lock() -> None:
        FileLock(shared / ".lock").acquire(wait=False)

    def append() -> None:
        with open_to_append(shared / ".lock") as file:
            file.write(b"more")

    for use in (lock, append)[: 1 if make == "hard link" else 2]:
        if make == "hard link":
            as_user(ALICE, use)  # which writes nothing
        else:
            with pytest.raises(OSError, match=r"\.lock"):
                as_user(ALICE, use)
    assert (secret.read_text(), os.listdir(secret.parent)) == ("hers", ["secret"])


def test_a_run_folder_of_mallorys_writes_nothing_through_its_links(shared: Path, secret: Path) -> None:
    run = shared / "run"

    def leave() -> None:
        RunFolder(run).create()
        (run / "steps.jsonl").symlink_to(secret)
        (run / "status.json").symlink_to(secret)
        for path in (run, run / "checkpoints"):
            path.chmod(0o777)

    as_user(MALLORY, leave)
    with pytest.raises(OSError, match="is a link, which is not followed"):
        as_user(ALICE, lambda: RunFolder(run).append_line("steps.jsonl", {"step": 1}))
    as_user(ALICE, lambda: RunFolder(run).write_status("running"))
    assert secret.read_text() == "hers"
    assert not (run / "status.json").is_symlink()


def test_what_is_read_never_waits_for_a_pipe_of_mallorys(shared: Path, secret: Path) -> None:
    as_user(MALLORY, lambda: make_pipe(shared / "face.png", secret))
    with pytest.raises(OSError, match="is a named pipe, not a file"):
        as_user(ALICE, lambda: read_regular(shared / "face.png"))
