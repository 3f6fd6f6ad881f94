"""``python -m fer_ddp report`` and ``ensemble``, as a user types them."""

from pathlib import Path

import pytest
from forking import run_forked
from made_up_runs import hits, labels_of, predicted, write_run

LABELS = labels_of()


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``python -m fer_ddp ARGUMENTS``."""
    ended = run_forked(1, "-m", "fer_ddp", *map(str, arguments))
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in range(2):
        made = {split: (LABELS, predicted(LABELS, hits(120, shift=seed))) for split in ("val", "test")}
        write_run(tmp_path / "runs" / f"run{seed}", made, seed=seed)
    return tmp_path / "runs"


def test_an_ensemble_and_a_report_of_it_and_of_what_is_left_out(runs: Path, tmp_path: Path) -> None:
    members = sorted(runs.iterdir())
    exit_status, said, wrong = command("ensemble", *members, "--out", runs / "both", "--temperature")
    assert (exit_status, wrong) == (0, "")
    assert said.splitlines()[-1] == f"2 members, recorded in {runs}/both/members.json before test was read"
    write_run(runs / "run2", {"val": (LABELS, predicted(LABELS, hits(1)))}, seed=2, state="running")
    page = tmp_path / "report.html"
    exit_status, said, wrong = command("report", runs, "--out", page)
    assert (exit_status, wrong) == (0, "")
    assert said.splitlines() == [
        f"left out: {runs}/run2 is not finished: running, epoch 2",
        f"look at {page}, {page.with_suffix('.md')}, {page.with_suffix('.csv')}",
    ]
    assert "ensemble of 2 runs" in page.read_text()


def test_a_folder_that_is_none_is_one_sentence_and_exit_status_2(tmp_path: Path) -> None:
    assert command("report", tmp_path / "absent", "--out", tmp_path / "report.html") == (
        2,
        "",
        f"error: {tmp_path}/absent: there is no such folder; give run folders, or folders that hold some\n",
    )


def test_nothing_finished_is_one_sentence_and_exit_status_1(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"val": (LABELS, predicted(LABELS, hits(1)))}, state="running")
    assert command("report", run, "--out", tmp_path / "report.html") == (
        1,
        "",
        f"error: there is nothing to report yet: {run} is not finished: running, epoch 2\n",
    )
    assert not (tmp_path / "report.html").exists()
