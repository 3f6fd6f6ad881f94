"""``report RUN... --across``: what was trained on against what was tested on."""

import csv
from pathlib import Path

import pytest
from made_up_runs import hits, labels_of, predicted, write_run

from fer_ddp.__main__ import main
from fer_ddp.report.across import collect_across, write_across
from fer_ddp.runs.files import read_json
from fer_ddp.statistics.intervals import wilson_interval
from shards.files import write_json

LABELS = labels_of()
FER, RAF = "a" * 64, "b" * 64


def evaluated(run: Path, digest: str, path: str, correct: int, classes: dict[str, str | None]) -> None:
    """Record an evaluation on other data, with ``correct`` of 100 samples of test."""
    folder = run / "evaluations" / digest[:12]
    folder.mkdir(parents=True)
    test = {"n": 100, "accuracy": correct / 100}
    write_json(folder / "summary.json", {"test": test, "data": {"path": path, "digest": digest, "classes": classes}})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two seeds on one data set, evaluated on another; one run on the other, with an evaluation by an old version."""
    for seed, count in enumerate((120, 140)):
        splits = {split: (LABELS, predicted(LABELS, hits(count))) for split in ("val", "test")}
        run = write_run(tmp_path / "runs" / f"fer{seed}", splits, seed=seed, digest=FER, data="data/fer2013")
        evaluated(run, RAF, "data/rafdb", 30 + 10 * seed, {"calm": "calm", "glad": "glad", "odd": None})
    splits = {"val": (LABELS, predicted(LABELS, hits(150)))}
    run = write_run(tmp_path / "runs" / "raf", splits, digest=RAF, data="data/rafdb")
    (run / "evaluations" / FER[:12]).mkdir(parents=True)
    write_json(run / "evaluations" / FER[:12] / "summary.json", {"val": {"n": 50, "accuracy": 0.5}})
    return tmp_path / "runs"


def test_rows_are_what_was_trained_on_and_columns_what_was_tested_on(runs: Path) -> None:
    across = collect_across([runs])
    assert [(row.recipe, row.trained_on, row.seeds) for row in across.rows] == [
        ("baseline", "fer2013", 2),
        ("baseline", "rafdb", 1),
    ]
    names = [column.name for column in across.columns]
    assert names == ["fer2013 test", "rafdb val", "rafdb test, without odd", "fer2013 val"]
    found = [
        {column.name: (cell.accuracy, cell.images, cell.is_own) for column, cell in row.cells.items()}
        for row in across.rows
    ]
    assert found == [
        {
            "fer2013 test": (pytest.approx(0.65), 200, True),
            "rafdb test, without odd": (pytest.approx(0.35), 100, False),
        },
        {"rafdb val": (0.75, 200, True), "fer2013 val": (0.5, 50, False)},
    ]


def test_the_page_the_markdown_and_the_csv_have_the_same_figures(runs: Path, tmp_path: Path) -> None:
    written = write_across([runs], tmp_path / "across.html")
    low, high = wilson_interval(35, 100)
    shown = f"35.0 % ({100 * low:.1f} to {100 * high:.1f} %, 100 images)"
    assert "| baseline | fer2013 | 2 | **65.0 %** (" in written.markdown.read_text()
    assert shown in written.markdown.read_text()
    assert "<td>35.0 %<small>" in written.page.read_text()
    rows = list(csv.DictReader(written.table.read_text().splitlines()))
    assert [row["tested_on"] for row in rows] == [
        *("fer2013 test", "rafdb test, without odd"),
        *("rafdb val", "fer2013 val"),
    ]
    assert (float(rows[1]["low"]), float(rows[1]["high"])) == (low, high)


def test_the_command_writes_it_and_leaves_the_runs_as_they_are(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_json(runs / "raf" / "summary.json")
    assert main(["report", str(runs), "--across", "--out", str(tmp_path / "across.html")]) == 0
    assert capsys.readouterr().out.startswith(f"look at {tmp_path}/across.html, ")
    assert read_json(runs / "raf" / "summary.json") == before
    assert main(["report", str(runs), "--across", "--images", "--out", str(tmp_path / "across.html")]) == 2
