"""A table of ablations from finished runs: pairs of equal seeds, their interval, the cost of training."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_runs import hits, labels_of, predicted, write_run

from bench.ablations import main, page, paired_difference
from fer_ddp.runs.checkpoint import save_checkpoint

JOB = {
    "optimizer": {"name": "adamw", "lr": 0.004},
    "model": {"name": "compact_cnn"},
    "epochs": 2,
    "image_size": {"sides": [32], "until": 0.5},
}


def write(folder: Path, correct: int, seed: int, **changes: Any) -> Path:
    labels = labels_of()
    run = write_run(folder, {"val": (labels, predicted(labels, hits(correct)))}, seed=seed, job=JOB | changes)
    (run / "checkpoints").mkdir()
    save_checkpoint(run / "checkpoints" / "last.safetensors", {"image_shape": [1, 48, 48], "weight": torch.zeros(1)})
    return run


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\| (?!change|---).*", text, re.M)
    ]


def test_a_row_is_a_recipe_s_difference_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    for seed, correct in ((0, 100), (1, 110), (2, 150)):
        write(tmp_path / f"cpu-size-seed{seed}", correct, seed)
    for seed, correct in ((0, 110), (1, 118)):
        write(tmp_path / f"cpu-full-seed{seed}", correct, seed, image_size={"sides": []})
    write(tmp_path / "cpu-sam-seed0", 96, 0, optimizer=JOB["optimizer"] | {"sam_radius": 0.05, "sam_every_steps": 2})  # type: ignore[operator]
    text = page(tmp_path / "cpu-size-seed0", [tmp_path])
    full, sam = rows(text)
    assert "val accuracy is 50.00, 55.00, 75.00 %" in text
    # 32 x 32 takes 4 / 9 of the multiply-adds of 48 x 48, but for those of the linear layer
    assert full[:5] + full[6:] == ["cpu-full", "`image_size.sides=[]`", "0, 1", "57.00", "+4.50", "1.38"]
    assert sam[:5] + sam[6:] == [
        *("cpu-sam", "`optimizer.sam_every_steps=2` `optimizer.sam_radius=0.05`", "0", "48.00", "-2.00", "1.50"),
    ]


def test_the_interval_of_several_seeds_holds_their_mean_and_widens_where_they_differ() -> None:
    base = np.stack([hits(100), hits(100), hits(100)]).astype(np.int64)
    alike = np.stack([hits(110), hits(110), hits(110)]).astype(np.int64)
    unlike = np.stack([hits(90), hits(110), hits(130)]).astype(np.int64)
    widths = []
    for changed in (alike, unlike):
        mean, interval = paired_difference(changed, base)
        assert (mean, interval.low < 0.05 < interval.high) == (pytest.approx(0.05), True)
        widths.append(interval.high - interval.low)
    assert widths[1] > 2 * widths[0]


def test_a_reference_that_is_no_finished_run_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "cpu-size-seed0", 100, 0)
    (tmp_path / "cpu-size-seed0" / "summary.json").unlink()
    assert main([str(tmp_path / "cpu-size-seed0"), str(tmp_path), "--out", str(tmp_path / "page.md")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith("is not a finished run with val predictions; name one of the reference recipe")
