"""``inspect``: the numbers in words, and the figures."""

from dataclasses import replace

import numpy as np
from PIL import Image

from shards.figures import plot_distribution, plot_sample_images
from shards.inspection import describe, inspect
from shards.manifest import read_manifest


def test_the_table_gives_counts_and_per_cent_of_each_split(write_csv, pack_source):
    lines = [
        "0,1 2 3 4,Training",
        "3,1 2 3 5,Training",
        "3,1 2 3 6,Training",
        "3,1 2 3 7,Training",
        "6,1 2 3 4,PublicTest",
    ]
    text = describe(pack_source(write_csv(lines)))
    assert text.splitlines()[:11] == [
        "5 images, 2 x 2 grey, from fer2013-csv",
        "",
        "class               train              val",
        "angry           1  25.0 %        0   0.0 %",
        "disgust         0   0.0 %        0   0.0 %",
        "fear            0   0.0 %        0   0.0 %",
        "happy           3  75.0 %        0   0.0 %",
        "sad             0   0.0 %        0   0.0 %",
        "surprise        0   0.0 %        0   0.0 %",
        "neutral         0   0.0 %        1 100.0 %",
        "all             4 100.0 %        1 100.0 %",
    ]


def test_the_distribution_has_a_panel_a_split_and_a_bar_a_class(small_set):
    manifest = read_manifest(small_set)
    panels = plot_distribution(manifest).axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        "train: 70 images",
        "val: 14 images",
        "test: 14 images",
    ]
    assert [round(bar.get_width(), 3) for bar in panels[0].patches] == [round(100 / 7, 3)] * 7
    assert [tick.get_text() for tick in panels[0].get_yticklabels()] == list(manifest.class_names)
    assert panels[0].texts[0].get_text() == "10  (14.3 %)"


def test_sample_images_shows_images_of_each_class_in_its_row():
    labels = np.array([0, 0, 0, 2])
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 5, 5), np.uint8)
    axes = plot_sample_images(images, labels, ("a", "b", "c"), columns=2).axes
    shown = [{int(image.get_array()[0, 0]) for image in panel.images} for panel in axes]
    assert shown[0] | shown[1] < {0, 1, 2}
    assert shown[2:] == [set(), set(), {3}, set()]
    assert [panel.texts[0].get_text() for panel in axes[::2]] == ["a\n3", "b\n0", "c\n1"]


def test_the_same_seed_shows_the_same_images():
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 4), dtype=np.uint8)
    labels = np.zeros(50, np.int64)
    first, second = (plot_sample_images(images, labels, ("a",), columns=3, seed=5).axes for _ in range(2))
    assert all(
        np.array_equal(one.images[0].get_array(), two.images[0].get_array())
        for one, two in zip(first, second, strict=True)
    )


def test_a_title_is_above_the_figures_where_it_is_given(small_set):
    manifest = read_manifest(small_set)
    images, labels = np.zeros((1, 1, 4, 4), np.uint8), np.zeros(1, np.int64)
    figures = [
        plot_distribution(manifest, title="small: 98 images"),
        plot_sample_images(images, labels, ("a",), title="small: 98 images"),
        plot_distribution(manifest),
    ]
    assert [figure.get_suptitle() for figure in figures] == ["small: 98 images", "small: 98 images", ""]


def test_figures_are_written_as_pngs(small_set, tmp_path):
    inspect(small_set, tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["distribution.png", "samples.png"]
    with Image.open(tmp_path / "figures" / "samples.png") as image:
        assert image.format == "PNG"


def test_a_dollar_in_a_class_name_is_no_formula(small_set, tmp_path):
    names = ("$\\frac$", "$a_$ x$", *"cdefg")
    manifest = replace(read_manifest(small_set), class_names=names)
    images, labels = np.zeros((7, 1, 4, 4), np.uint8), np.arange(7)
    for figure in (plot_distribution(manifest, title="$\\x$"), plot_sample_images(images, labels, names, columns=2)):
        figure.savefig(tmp_path / "figure.png")
