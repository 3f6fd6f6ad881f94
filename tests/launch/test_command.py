"""``fer-ddp``: every command under one name, from any folder, with completions for the shell."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fer_ddp.__main__
import launch.__main__
from fer_ddp.config.recipe_files import packaged_names
from fer_ddp.errors import Interrupted, JobError, RunError
from launch.__main__ import run_any
from launch.torchrun import start_ranks
from shards.output import PIPE_CLOSED

COMMANDS = (
    "pack verify inspect leakage fake train evaluate predict export figures push report import-predictions ensemble "
    "sync cache keys recipes launch"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; as many columns as a line of help needs."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "commands"),
    [([], COMMANDS), (["launch"], "local slurm status logs resume cancel sync")],
)
def test_help_lists_every_command(words: list[str], commands: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_any([*words, "--help"])
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if re.match("    [a-z]", line)]  # descriptions are further right
    assert (ended.value.code, listed) == (0, commands.split())


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_any(["--version"])
    assert capsys.readouterr().out == f"fer-ddp {fer_ddp.__version__}\n"


def test_what_shards_refuses_names_the_command_that_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_any(["verify", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("fer-ddp verify: nowhere: ")


def test_a_cluster_is_tried_out_without_slurm_and_without_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_any(["launch", "slurm", "quick", "--cluster", "one_gpu", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "quick: 9 runs, each on 1 rank"
    assert "data/fer2013: there is no such folder here, so the jobs were not checked against it" in lines
    assert [line for line in lines if "array" in line or "time" in line] == [
        "#SBATCH --array=0-8%9",
        "#SBATCH --time=60",
    ]
    logs = folder / "runs/quick.launch/logs/0000"
    assert f"#SBATCH --output={logs}/%A_%a_0_log.out" in lines
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "completions"),
    [
        ("fer-ddp tr", ["train"]),
        ("fer-ddp train model4", [name for name in packaged_names("recipe", "array") if name.startswith("model4")]),
        ("fer-ddp launch slurm quick --cluster o", ["one_gpu", "one_node_8_gpus"]),
    ],
)
def test_the_shell_completes_commands_recipes_and_profiles(folder: Path, typed: str, completions: list[str]) -> None:
    pytest.importorskip("argcomplete", reason="argcomplete")
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": typed, "COMP_POINT": str(len(typed)), "_ARGCOMPLETE_IFS": "\n"}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "out"), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    code = "from launch.__main__ import fer_ddp_command; fer_ddp_command()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | asked, check=True, timeout=60)
    assert sorted((folder / "out").read_text().split("\n")) == sorted(completions)


def test_ranks_import_nothing_from_a_working_folder_that_may_be_a_strangers_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit('code of the data set was executed')")
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "printed", "wb") as printed:
        assert start_ranks(1, ["-m", "fer_ddp", "--version"], output=printed).wait(60) == 0
    assert (tmp_path / "printed").read_text().startswith("fer-ddp ")


def page_of_processes() -> str:
    return (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8").split("## Processes")[1]


def test_the_exit_statuses_of_the_page_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", page_of_processes(), re.MULTILINE)
    words = {1: "the work failed", 2: "are wrong", 75: "the state is saved", 141: "closed it"}
    statuses = {status for status, text in words.items() for row in rows if row[0] == str(status) and text in row[1]}
    assert statuses == {RunError.exit_status, JobError.exit_status, Interrupted.exit_status, PIPE_CLOSED}


def test_the_commands_that_only_print_are_those_of_the_page() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    fer_ddp.__main__.add_commands(commands)
    launching = argparse.ArgumentParser().add_subparsers()
    launch.__main__.add_commands(launching)
    found = {name for name, each in commands.choices.items() if each.get_default("is_result")}
    found |= {f"launch {name}" for name, each in launching.choices.items() if each.get_default("is_result")}
    (listed,) = re.findall(r"^(`keys`.*?) only print", page_of_processes(), re.MULTILINE | re.DOTALL)
    assert found == set(re.findall("`(.*?)`", listed))
