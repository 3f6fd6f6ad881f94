"""``python -m shards``: exit statuses and messages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.__main__ import main
from shards.labels import FER2013_CLASSES


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_csv_is_packed_verified_and_inspected(small_csv, tmp_path, capsys):
    out = tmp_path / "out"
    assert [run("pack", small_csv, out, "--workers", 1), run("verify", out), run("inspect", out)] == [0, 0, 0]
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{out}: 70 train, 14 val, 14 test in 3 shards, [\d.]+ s\.", lines[0])
    assert lines[1].split() == ["class", "train", "val", "test"]
    assert [line.split()[:2] for line in lines[2:9]] == [[name, "10"] for name in FER2013_CLASSES]
    assert lines[9].split()[:2] == ["all", "70"]
    assert lines[10] == f"{out}: all 98 samples in 3 shards match the manifest."
    assert lines[11] == "98 images, 8 x 8 grey, from fer2013-csv"


def test_leakage_is_listed_beside_the_data_set_or_where_one_likes(small_csv, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("pack", small_csv, out, "--workers", 1) == 0
    assert [run("leakage", out, "--workers", 1), run("leakage", out, "--out", tmp_path / "mine.csv")] == [0, 0]
    assert (tmp_path / "out.leakage.csv").read_bytes() == (tmp_path / "mine.csv").read_bytes()
    lines = capsys.readouterr().out.splitlines()
    assert f"{out}.leakage.csv: 0 rows" in lines
    assert "val leaks: 0 of 14 images (0.0 %) also appear in train" in lines


def test_inspect_says_what_leaks(small_csv, tmp_path, capsys):
    run("pack", small_csv, tmp_path / "out", "--workers", 1)
    run("inspect", tmp_path / "out")
    assert capsys.readouterr().out.splitlines()[-1] == "test leaks: 0 of 14 images (0.0 %) also appear in train"


def test_what_leaks_can_be_left_out_and_is_counted(write_csv, tmp_path, capsys):
    path = write_csv(["3,1 2 3 4,Training", "3,1 2 3 4,PublicTest", "3,9 8 0 7,PublicTest"])
    assert run("pack", path, tmp_path / "out", "--without-leaks", "--workers", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "left out, since they also appear in train: 1 of val and 0 of test."
    run("inspect", tmp_path / "out")
    assert "val: 1 left out when packed, since they also appear in train" in capsys.readouterr().out.splitlines()


def test_packing_again_reports_that_it_is_there(small_csv, tmp_path, capsys):
    arguments = ("pack", small_csv, tmp_path / "out", "--workers", 1)
    assert [run(*arguments), run(*arguments)] == [0, 0]
    assert "out: already holds these samples (70 train, 14 val, 14 test), byte for byte.\n" in capsys.readouterr().out


def test_rejects_are_reported_by_count_and_reason(write_csv, tmp_path, capsys):
    path = write_csv(["3,1 2 3 4,Training", "7,1 2 3 4,Training", "8,1 2 3 4,Training", "3,1 2 3,Training"])
    assert run("pack", path, tmp_path / "out", "--max-rejects", 3, "--workers", 1) == 0
    out = capsys.readouterr().out
    assert f"3 of 4 samples were rejected; {tmp_path / 'out.rejects.csv'} gives the reasons:" in out
    assert "\n      1  row 4: has 3 pixels; it should have 4" in out


def test_a_class_without_a_train_sample_is_warned_of(write_csv, tmp_path, capsys):
    path = write_csv(["3,1 2 3 4,Training", "3,1 2 3 5,PublicTest", "1,1 2 3 6,PublicTest", "6,1 2 3 7,PrivateTest"])
    assert run("pack", path, tmp_path / "out", "--workers", 1) == 0
    warning = "warning: train has no sample of disgust, neutral, which val or test has"
    assert capsys.readouterr().out.splitlines()[0] == warning


def test_a_stray_folder_is_refused_by_name_and_kept_by_a_flag(tmp_path, capsys):
    for place, folder in enumerate(("train/sad", "train/fear", "train/models", "test/sad", "test/fear")):
        (tmp_path / "faces" / folder).mkdir(parents=True)
        Image.new("L", (4, 4), place).save(tmp_path / "faces" / folder / "a.png")
    command = ("pack", tmp_path / "faces", tmp_path / "out", "--workers", 1)
    assert run(*command) == 1
    assert "keep the class with --allow-class models\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(*command, "--allow-class", "models") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-4:]] == ["fear", "models", "sad", "all"]
    assert run("pack", "/dev/null", tmp_path / "other", "--allow-class", "models") == 2


def test_no_warning_where_train_has_all_classes(small_csv, tmp_path, capsys):
    assert run("pack", small_csv, tmp_path / "out", "--workers", 1) == 0
    assert "warning:" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_the_help_says_what_the_folder_is(command, capsys):
    with pytest.raises(SystemExit):
        run(command, "--help")
    assert re.search(r"\n  OUT +a folder that pack or fake wrote", capsys.readouterr().out)


def test_too_many_rejects_are_a_failure_of_the_work(write_csv, tmp_path, capsys):
    path = write_csv(["3,1 2 3 4,Training", "7,1 2 3 4,Training"])
    assert run("pack", path, tmp_path / "out", "--workers", 1) == 1
    error = capsys.readouterr().err
    assert error.startswith("shards pack: 1 of 2 samples cannot be used, more than --max-rejects 0, so ")
    assert error.endswith("; repair them, or leave them out with --max-rejects 1\n")
    assert error.count("\n") == 1


def test_classes_without_a_sample_are_named_with_the_flag_that_leaves_them_out(write_csv, tmp_path, capsys):
    path = write_csv(["3,1 2 3 4,Training", "4,1 2 3 5,Training"])
    assert run("pack", path, tmp_path / "out", "--workers", 1) == 0
    note = "no sample of angry, disgust, fear, surprise, neutral; models get an output for each, unless packed with "
    assert f"{note}--classes happy,sad\n" in capsys.readouterr().out
    assert run("pack", path, tmp_path / "two", "--workers", 1, "--classes", "happy,sad") == 0
    printed = capsys.readouterr().out
    assert "no sample of" not in printed
    assert "left out by --classes" not in printed


def test_pack_with_source_and_out_exchanged_names_their_order(write_csv, tmp_path, capsys):
    assert run("pack", tmp_path / "out", write_csv(["3,1 2 3 4,Training"])) == 2
    assert capsys.readouterr().err.endswith("out: there is no such file or folder; SOURCE comes first, then OUT\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("pack", "nowhere.csv", "out"),
        ("verify", "nowhere"),
        ("inspect", "nowhere"),
        ("verify", "pipe:true"),
        ("leakage", "nowhere"),
        ("leakage", "pipe:true"),
        ("leakage", "nowhere", "--workers", "0"),
        ("inspect", "nowhere", "--workers", "0"),
        ("fake", "out", "--train", "0"),
        ("fake", "out", "--val", "-1"),
        ("pack", ".", "out", "--format", "csv"),
        ("pack", ".", "out", "--format", "folder"),
        ("pack", "/dev/null", "out", "--format", "folders"),
        ("inspect",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_is_two_and_one_message(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"shards {arguments[0]}: .+[^.]\n", error)
    assert not list(tmp_path.iterdir())


BY_ZERO = ("pack", "a", "b", "--val-fraction", "1/0")


@pytest.mark.parametrize("arguments", [(), ("pack",), ("pack", "a", "b", "--workers", "two"), ("unpack", "a"), BY_ZERO])
def test_what_argparse_refuses_is_two(arguments):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_a_folder_that_cannot_be_written_is_refused(small_csv, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("pack", small_csv, tmp_path / "file" / "out") == 2
    assert "cannot be made" in capsys.readouterr().err


def test_the_module_runs_and_passes_its_status_on(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "shards", "verify", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"shards verify: {tmp_path}: has no manifest.json")


def test_an_out_inside_the_source_is_refused(tmp_path, capsys):
    source = tmp_path / "images"
    (source / "train" / "happy").mkdir(parents=True)
    assert run("pack", source, source / "out") == 2
    assert capsys.readouterr().err.endswith(f"{source}/out: is inside the source {source}; choose an OUT beside it\n")
    assert not (source / "out").exists()


def test_a_link_that_leads_to_itself_is_refused(tmp_path, capsys):
    (tmp_path / "source").symlink_to("source")
    assert run("pack", tmp_path / "source", tmp_path / "out") == 2
    assert "source" in capsys.readouterr().err


def test_a_source_without_a_usable_sample_is_refused(write_csv, tmp_path, capsys):
    assert run("pack", write_csv(["9,1 2 3 4,Training"]), tmp_path / "out", "--max-rejects", "1") == 1
    assert f"the source has no usable sample, so {tmp_path / 'out'} was not written" in capsys.readouterr().err


def test_a_source_is_not_written_over_by_the_rejects_list(small_csv, tmp_path, capsys):
    source = tmp_path / "out.rejects.csv"
    shutil.copy(small_csv, source)
    assert run("pack", source, tmp_path / "out") == 2
    assert "is where the rejects of" in capsys.readouterr().err
    assert source.read_bytes() == small_csv.read_bytes()


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_size_that_no_memory_holds_is_refused(size, tmp_path, capsys):
    assert run("pack", tmp_path, tmp_path.with_name("out"), "--size", size) == 2
    assert f"--size is {size}; it should be 1 to 4096" in capsys.readouterr().err


def test_what_never_ends_is_not_read(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for source, kind in ((Path("/dev/zero"), "device"), (tmp_path / "pipe", "pipe")):
        assert run("pack", source, tmp_path / "out") == 2
        assert re.search(f"{source}: is a.* {kind}, not a file", capsys.readouterr().err)
    os.mkfifo(tmp_path / "mine.yaml")
    assert run("pack", tmp_path, tmp_path.with_name("out"), "--scheme", tmp_path / "mine.yaml") == 2
    assert "mine.yaml: is no file; it should be a YAML file" in capsys.readouterr().err


def test_a_tilde_in_source_and_out_is_the_home_folder(small_csv, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(small_csv.parent))
    assert run("pack", f"~/{small_csv.name}", "~/tilde", "--workers", 1) == 0
    assert run("verify", "~/tilde") == 0


def test_classes_and_folds_are_chosen_on_the_command_line(small_csv, tmp_path, capsys):
    flags = ("--workers", 1, "--merge", "disgust=angry", "--classes", "fear,anger", "--folds", 2)
    assert run("pack", small_csv, tmp_path / "out", *flags) == 0
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{tmp_path}/out/fold0: 15 train, 15 val, 6 test in 3 shards, [\d.]+ s\.", printed[0])
    assert printed[1].startswith(f"{tmp_path}/out/fold1: 15 train, 15 val, 6 test")
    assert [line.split()[:2] for line in printed[-3:]] == [["fear", "5"], ["angry", "10"], ["all", "15"]]


def test_a_source_without_val_is_told_how_to_get_one(write_csv, tmp_path, capsys):
    path = write_csv(["3,1 2 3 4,Training", "3,9 8 0 7,PrivateTest"])
    assert run("pack", path, tmp_path / "out", "--workers", 1) == 0
    assert "there is no val: --val-fraction 0.1 sets a tenth of train aside as one" in capsys.readouterr().out
    pixels = np.random.default_rng(0).integers(0, 256, (9, 48 * 48)).astype(str)
    path = write_csv([f"3,{' '.join(row)}" for row in pixels], header="emotion,pixels")
    assert run("pack", path, tmp_path / "all", "--workers", 1) == 0
    printed = capsys.readouterr().out
    assert "9 train in 1 shard, " in printed
    assert "so all of it is train; --val-fraction 0.1 takes a tenth of it as val" in printed
    assert run("pack", path, tmp_path / "third", "--workers", 1, "--test-fraction", 0.3) == 0
    printed = capsys.readouterr().out
    assert "there is no val: " in printed
    assert "all of it is train" not in printed
    path = write_csv([f"3,{row} 2 3 {200 - 3 * row}" for row in range(9)], header="emotion,pixels")
    assert run("pack", path, tmp_path / "test", "--workers", 1, "--test-fraction", 1) == 0
    assert "--val-fraction" not in capsys.readouterr().out


@pytest.mark.parametrize("target", ["manifest.json", "nowhere"])
def test_a_link_to_itself_or_to_nothing_is_refused_by_its_name(small_csv, tmp_path, capsys, target):
    out = tmp_path / "out"
    assert run("pack", small_csv, out, "--workers", 1) == 0
    (out / "manifest.json").unlink()
    (out / "manifest.json").symlink_to(target)
    for command in ("verify", "inspect", "leakage"):
        assert run(command, out) == 1
        assert f"{command}: {out}/manifest.json: cannot be read (" in capsys.readouterr().err
    (out / "manifest.json").unlink()
    (out / "train-000000.tar").unlink()
    (out / "train-000000.tar").symlink_to("train-000000.tar")
    assert run("inspect", out) == 1
    assert f"inspect: {out}/train-000000.tar: Too many levels of symbolic links" in capsys.readouterr().err


def test_names_that_no_file_can_have_are_refused(small_csv, tmp_path, capsys):
    long = "9" * 300
    for words in ((small_csv, tmp_path / long), (tmp_path / long, tmp_path / "out"), (long, "out")):
        assert run("pack", *words) in (1, 2)
        assert f"{long}: File name too long\n" in capsys.readouterr().err


def test_votes_of_a_million_columns_are_refused_before_they_are_read(write_csv, tmp_path, capsys):
    votes = tmp_path / "votes.csv"
    votes.write_text("a," * 1_000_000)
    assert run("pack", write_csv(["3,1 2 3 4,Training"]), tmp_path / "out", "--votes", votes, "--workers", 1) == 1
    assert f"{votes}: is not a CSV that can be read (it has 1,000,001 columns)" in capsys.readouterr().err
