"""The page: it loads nothing, says what it leaves out, and has every figure with and without what leaks."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import hits, labels_of, predicted, write_run

from fer_ddp.errors import JobError
from fer_ddp.report.write import write_report
from shards.labels import FER2013_CLASSES
from shards.manifest import read_manifest
from shards.reading.reader import read_split

LABELS = labels_of()
VOID = {"meta", "link", "input", "br", "img", "wbr", "line", "path", "rect", "circle"}


class Page(HTMLParser):
    """A page's tags, its addresses, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(str(value))
            elif name == "href" and tag == "a":
                self.links.append(str(value))
            elif name in ("href", "src", "srcset", "action", "data", "poster", "background", "xlink:href"):
                self.loads.append(str(value))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, text: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(text)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def two_recipes(folder: Path, splits: tuple[str, ...] = ("val", "test")) -> Path:
    for name, count in (("plain", 100), ("better", 160)):
        for seed in range(2):
            made = {split: (LABELS, predicted(LABELS, hits(count, shift=seed))) for split in splits}
            write_run(folder / f"{name}-{seed}", made, name=name, seed=seed)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return two_recipes(tmp_path / "runs")


def page_of(runs: Path, **options: object) -> Page:
    out = runs.parent / "out" / "report.html"
    write_report([runs], out, **options)  # type: ignore[arg-type]
    return Page(out.read_text())


def test_three_files_are_written(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.html"
    assert write_report([runs], out).text() == f"look at {out}, {out.with_suffix('.md')}, {out.with_suffix('.csv')}"
    assert sorted(path.name for path in out.parent.iterdir()) == ["report.csv", "report.html", "report.md"]


def test_the_page_loads_nothing_and_runs_nothing(runs: Path) -> None:
    page = page_of(runs, leaking={"val": ["val-0"], "test": []})
    assert page.loads == ["data:,"]  # the icon that a browser would ask for otherwise
    assert {"script", "iframe", "object", "embed", "img"} & page.tags == set()
    assert "url(" not in (runs.parent / "out" / "report.html").read_text()


def test_every_link_leads_into_the_page(runs: Path) -> None:
    page = page_of(runs, leaking={"val": ["val-0"], "test": []})
    assert [link for link in page.links if not link.startswith("#") or link[1:] not in page.ids] == []
    assert len(set(page.ids)) == len(page.ids)


def test_what_is_opened_is_closed(runs: Path) -> None:
    assert page_of(runs, leaking={"val": ["val-0"], "test": []}).open == []


def test_the_same_runs_give_the_same_bytes(runs: Path, tmp_path: Path) -> None:
    first, second = (write_report([runs], tmp_path / name / "report.html") for name in ("a", "b"))
    for file in ("page", "markdown", "table"):
        assert getattr(first, file).read_bytes() == getattr(second, file).read_bytes()


def test_the_answer_stands_at_the_top(runs: Path) -> None:
    text = page_of(runs).text
    answer = (
        "better is best: 80.0\u00a0% test accuracy, 30.0\u00a0points above plain. "
        "Statistically significant (p\u00a0<\u00a00.05, Holm) for these runs, with few seeds."
    ).replace("\u00a0", " ")
    assert 0 < text.index(answer) < text.index("Recipes")


def test_names_are_text_and_no_markup(tmp_path: Path) -> None:
    run = {"val": (LABELS, predicted(LABELS, hits(120)))}
    write_run(tmp_path / "runs" / "a", run, name="<b>bold</b>", classes=("<i>", 'say "&"'))
    page = page_of(tmp_path / "runs")
    assert "i" not in page.tags
    assert "<b>bold</b>: 60.0 % val accuracy" in page.text
    assert 'say "&"' in page.text


def test_left_out_runs_are_named(runs: Path) -> None:
    run = write_run(runs / "late", {"val": (LABELS, predicted(LABELS, hits(1)))}, state="running")
    page = page_of(runs)
    assert "1 run folder left out" in page.text
    assert f"{run} is not finished: running, epoch 2." in page.text


def test_every_figure_comes_with_and_without_the_samples_that_leak(runs: Path) -> None:
    leaking = {"val": [f"val-{place}" for place in range(80)], "test": [f"test-{place}" for place in range(80)]}
    page = page_of(runs, leaking=leaking)
    # Right are 160 (100) samples from the seed-th on: of the 120 that are left, 80 and 81 (20 and 21).
    assert "80.0 % test accuracy, 30.0 points above plain" in page.text
    assert "67.1 % test accuracy, 50.0 points above plain" in page.text
    assert "val 80 of 200 (40.0 %), test 80 of 200 (40.0 %)" in page.text
    assert {"view-all", "view-clean"} <= set(page.ids)


def test_without_a_list_of_leaks_there_is_no_switch(runs: Path) -> None:
    page = page_of(runs)
    assert "view-all" not in page.ids
    assert "All figures include the images that leak, if any do: this report does not know which they are." in page.text


def test_without_a_leak_nothing_is_shown_twice(runs: Path) -> None:
    page = page_of(runs, leaking={"val": [], "test": []})
    assert "view-all" not in page.ids
    assert page.text.count("30.0 points above plain") == 2  # the page's title and its headline
    assert "None: no image of val or test is also in train (val 200, test 200 images compared)." in page.text
    assert "test_accuracy_without_leaks" in (runs.parent / "out" / "report.csv").read_text()


def test_leaks_that_leave_nothing_over_are_said_to(runs: Path) -> None:
    page = page_of(runs, leaking={"val": [f"val-{place}" for place in range(199)], "test": []})
    assert "Too few images are left without them to measure anything." in page.text


def test_a_data_folder_that_is_gone_is_said_to_be(runs: Path) -> None:
    sentence = (
        "The data are not accessible (data/gone: there is no such folder; it should be one that `fer-ddp pack` wrote)."
    )
    assert f"Not measured. {sentence}" in page_of(runs).text


def test_published_figures_stand_beside_fer2013_alone(runs: Path, tmp_path: Path) -> None:
    assert "Published figures" not in page_of(runs).text
    counts = (467, 56, 496, 895, 653, 415, 607)
    labels = np.repeat(np.arange(7), counts)
    run = {"val": (labels, predicted(labels, hits(2000, 3589), 7))}
    write_run(tmp_path / "fer2013" / "a", run, classes=FER2013_CLASSES)
    page = page_of(tmp_path / "fer2013")
    assert "Not comparable with the figures above, which are on val" in page.text
    assert len([link for link in page.links if link.startswith("https://")]) == 8


def of_faces(folder: Path, faces: Path) -> Path:
    """A run on ``faces`` that is correct on 50 of its 70 val samples."""
    split, manifest = read_split(faces, "val"), read_manifest(faces)
    run = {"val": (split.labels, predicted(split.labels, hits(50, 70), 7))}
    options = {"classes": manifest.class_names, "digest": manifest.digest, "data": str(faces)}
    write_run(folder / "a", run, keys={"val": split.keys}, **options)  # type: ignore[arg-type]
    return folder


def test_images_of_the_data_are_in_the_page_only_when_asked_for(faces: Path, tmp_path: Path) -> None:
    runs = of_faces(tmp_path / "runs", faces)
    assert page_of(runs).loads == ["data:,"]
    pictures = page_of(runs, images=True).loads[1:]
    assert len(pictures) == 20
    assert all(picture.startswith("data:image/png;base64,") for picture in pictures)
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".csv", ".html", ".md"]


def test_images_of_data_that_are_gone_are_refused(runs: Path) -> None:
    with pytest.raises(JobError, match=r"^--images: the data are not accessible \(data/gone: "):
        page_of(runs, images=True)


def test_the_size_of_the_network_is_counted(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "report.html"
    markdown = write_report([of_faces(tmp_path / "runs", faces)], out).markdown
    # plain_cnn on 48 x 48: 3 x 3 from 1 to 4 channels, from 4 to 8 at half the side, then 8 x 12 x 12 to 16 to 7.
    parameters = (9 * 4 + 4) + (9 * 4 * 8 + 8) + (8 * 144 * 16 + 16) + (16 * 7 + 7)
    macs = 48 * 48 * 9 * 4 + 24 * 24 * 9 * 4 * 8 + 8 * 144 * 16 + 16 * 7
    assert (parameters, macs) == (18903, 267376)
    assert "| 18.9 k | 267 k |" in markdown.read_text()


@pytest.mark.parametrize("name", ["report", "report.htm", "report.md"])
def test_another_name_than_html_is_refused(runs: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(JobError) as refused:
        write_report([runs], tmp_path / name)
    assert str(refused.value) == (
        f"--out {tmp_path / name}: must end in .html; the .md and .csv beside it get the same name"
    )
