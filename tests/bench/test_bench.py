"""The benchmark runs whole on very little data; how fast anything is, is not asked here."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.sizes import QUICK
from bench.start import imported_megabytes
from bench.table import BEGIN, END, Row, compare, markdown, put_into, to_json

TINY = dataclasses.replace(
    QUICK, repeats=1, train=112, val=14, shard_samples=28, jpegs=14, augmented_batches=2, batch_size=8, epochs=3
)
STAGES = [
    "pack",
    "pack JPEGs of 112 x 112",
    "cold read",
    "cached read",
    "stream, shuffled",
    "cached shards to augmented batches",
    "cold shards, verified, to augmented batches",
    "augmentation alone",
    "epoch of model4",
    "epoch of model4, in memory",
    "step of model4",
    "start to first step, cached",
    "memory: peak of train",
    "memory: growth",
]
MACHINE = {
    "cpu": "a CPU",
    "cpus": 2,
    "gpu": None,
    "threads": 2,
    "load_at_start": 0.1,
    "system": "Linux",
    "python": "3.11",
    "versions": {"torch": "2.14.1"},
    "commit": "0123456789abcdef",
}


def results_of(*rows: Row | str) -> dict[str, Any]:
    return to_json(list(rows), machine=MACHINE, data="faces", sizes={"name": "quick", "repeats": 5})


@pytest.mark.long
def test_every_stage_gives_a_row_or_says_why_it_has_none(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_DDP_CACHE", str(cache))  # put back afterwards: the benchmark has a cache of its own
    monkeypatch.delenv("FER2013_CSV", raising=False)
    out = tmp_path / "bench.json"
    assert main(["--quick", "--json", str(out)], quick=TINY) == 0
    results = json.loads(out.read_text())
    left_out = [sentence.split(":")[0] for sentence in results["left_out"]]
    rows = {row["stage"]: row for row in results["rows"]}
    assert [stage for stage in STAGES if stage not in {*rows, *left_out}] == []
    assert ("augmentation alone" in left_out) == (importlib.util.find_spec("kornia") is None)
    figures = [row[side] for row in results["rows"] for side in ("ours", "peer") if row["stage"] != "memory: growth"]
    assert [figure for figure in figures if figure is not None and figure <= 0] == []
    assert results["data"] == "synthetic faces like FER2013, 112 train and 14 val images"


def test_a_ratio_is_how_many_times_as_fast_ours_is_by_the_medians() -> None:
    row = compare("read", "a peer", 100, [2.0, 1.0, 50.0], [8.0, 6.0, 4.0], 3)
    assert (row.ours, row.peer, row.ratio) == (50.0, pytest.approx(100 / 6), 3.0)


def test_the_table_says_what_missed_its_target() -> None:
    row = compare("read", "a peer", 100, [2.0], [3.0], 3)
    assert "| read | a peer | 50 images/s | 33.3 images/s | 1.50 | 3 (missed) |" in markdown(results_of(row)).split(
        "\n"
    )


def test_the_table_goes_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    put_into(page, "table")
    assert page.read_text() == f"before\n\n{BEGIN}\n\ntable\n\n{END}\n\nafter\n"


def test_a_page_without_marks_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="has no line <!-- bench: begin -->"):
        put_into(page, "table")
    assert page.read_text() == "nothing\n"


def test_an_earlier_run_is_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = results_of(Row(stage="start", against="", unit="s", ours=5.0), "stream: left out")
    (tmp_path / "earlier.json").write_text(json.dumps(results))
    assert main(["--results", str(tmp_path / "earlier.json")]) == 0
    assert capsys.readouterr().out == markdown(results) + "\n"


@pytest.mark.long
def test_the_memory_of_the_imported_modules_is_not_the_benchmarks_own() -> None:
    alone = imported_megabytes()
    held = bytearray(b"a") * 1_000_000_000
    assert imported_megabytes() < alone + 100
    del held
