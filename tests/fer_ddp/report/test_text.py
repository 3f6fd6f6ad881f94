"""The report as Markdown and CSV, and numbers as words."""

import csv
from pathlib import Path

import pytest
from made_up_runs import hits, labels_of, predicted, write_run

from fer_ddp import text as words
from fer_ddp.report.collect import collect_runs
from fer_ddp.report.write import write_report
from fer_ddp.runs.environment import repeat_command
from fer_ddp.text import plural

LABELS = labels_of()


def run_of(count: int) -> dict[str, tuple[object, object]]:
    return {"val": (LABELS, predicted(LABELS, hits(count)))}


@pytest.fixture
def written(tmp_path: Path) -> tuple[str, list[dict[str, str]]]:
    """(Markdown, rows of the CSV) of two finished runs and one that is not."""
    for name, count, state in (("b", 100, "finished"), ("a", 160, "finished"), ("c", 1, "running")):
        write_run(tmp_path / "runs" / name, run_of(count), name=name, state=state)  # type: ignore[arg-type]
    report = write_report([tmp_path / "runs"], tmp_path / "report.html", leaking={"val": ["val-0", "val-1"]})
    with open(report.table, newline="") as file:
        return report.markdown.read_text(), list(csv.DictReader(file))


def test_the_markdown_says_what_the_page_says(written: tuple[str, list[dict[str, str]]], tmp_path: Path) -> None:
    markdown, _ = written
    head = (
        "# Report\n\n## All images\n\n"
        "**a is best: 80.0 % val accuracy, 30.0 points above b. Statistically significant (p < 0.05, Holm) for these "
        "runs, one seed each.** Difference to b: +30.0 points, 95 % interval +24.1 to +36.7, p < 0.001. Each recipe "
        "has one seed, so this holds for these runs only; other seeds may reverse it. There is no test split: val both "
        "selects and reports, which is slightly optimistic.\n\n"
        "| recipe | seeds | val accuracy (95 % interval) | val macro-F1 | parameters | MACs |\n"
        "|---|---|---|---|---|---|\n"
        "| a | 1 | 80.0 % (73.9 to 85.0 %) | 80.0 % | – | – |\n"
        "| b | 1 | 50.0 % (43.1 to 56.9 %) | 50.0 % | – | – |\n\n"
        "Differences on val, in points; p corrected by Holm:\n\n"
        "| difference | points | 95 % interval | p | significant |\n"
        "|---|---|---|---|---|\n"
        "| a − b | +30.0 | +24.1 to +36.7 | p < 0.001 | yes |\n\n"
        "## Without the images that leak\n\n"
    )
    assert markdown.startswith(head)
    assert markdown.endswith(f"Left out:\n\n- `{tmp_path}/runs/c` is not finished: running, epoch 2\n")


def test_the_csv_has_a_row_a_run(written: tuple[str, list[dict[str, str]]], tmp_path: Path) -> None:
    a, b, c = written[1]
    assert a == {
        "recipe": "a",
        "run": f"{tmp_path}/runs/a",
        "seed": "0",
        "val_accuracy": "0.8",
        "val_macro_f1": "0.8",
        "val_calibration_error": a["val_calibration_error"],
        "val_accuracy_without_leaks": str(158 / 198),
        "parameters": "",
        "multiply_accumulates": "",
        "seconds": "10.0",
        "images_per_second": "60.0",
        "left_out": "",
    }
    assert float(a["val_calibration_error"]) == pytest.approx(0.1)
    assert b["val_accuracy"] == "0.5"
    assert {name: value for name, value in c.items() if value} == {
        "run": f"{tmp_path}/runs/c",
        "left_out": "is not finished: running, epoch 2",
    }


def test_a_run_is_made_again_from_its_own_configuration(tmp_path: Path) -> None:
    run = write_run(tmp_path / "my run", run_of(100))  # type: ignore[arg-type]
    assert repeat_command(collect_runs([run]).runs[0]) == (
        f"python -m fer_ddp train '{run}/config.yaml' 'run={run}-again'"
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.points(0.0004), "0.0"),
        (words.points(-0.0126), "−1.3"),
        (words.p_value(0.00099), "p < 0.001"),
        (words.p_value(0.0324), "p = 0.032"),
        (words.p_value(0.5), "p = 0.50"),
        (words.large(950), "950"),
        (words.large(2_380_000), "2.38 M"),
        (words.large(999_900), "1.00 M"),
        (words.large(1_820_000_000), "1.82 G"),
        (words.duration(4.04), "4.0 s"),
        (words.duration(42.4), "42 s"),
        (words.duration(1620), "27 min"),
        (words.duration(9060), "2 h 31 min"),
        (words.join_names(["a"]), "a"),
        (words.join_names(["a", "b", "c"]), "a, b and c"),
        (plural(1, "run"), "1 run"),
        (plural(1200, "run"), "1,200 runs"),
    ],
)
def test_numbers_read_as_people_write_them(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&#60;img src=x onerror=alert(1)>"),
        ("a|b", "a&#124;b"),
        ("$\\frac$ `x` *y* [z](u)", "&#36;&#92;frac&#36; &#96;x&#96; &#42;y&#42; &#91;z&#93;(u)"),
        ("&lt; _a_ \n b", "&#38;lt; &#95;a&#95; b"),
        ("baseline_training (lr=0.1), p < 0.05 & q", "baseline_training (lr=0.1), p < 0.05 & q"),
    ],
)
def test_a_name_is_text_in_markdown(name: str, shown: str) -> None:
    assert words.markdown_text(name) == shown


def test_a_jobs_name_is_no_markup_in_any_line_of_the_markdown(tmp_path: Path) -> None:
    for seed, state in enumerate(("finished", "running")):
        splits = {"val": (LABELS, predicted(LABELS, hits(120)))}
        write_run(tmp_path / f"<b>{seed}", splits, name="<script>", seed=seed, state=state)
    write_run(tmp_path / "other", {"val": (LABELS, predicted(LABELS, hits(90)))})
    text = write_report([tmp_path], tmp_path / "report.html").markdown.read_text()
    assert "<script>" not in text
    assert "<b>" not in text.replace(f"`{tmp_path}/<b>1`", "")
