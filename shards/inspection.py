"""What a data set holds, in text and in figures."""

from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.images import shape_in_words
from shards.manifest import Manifest
from shards.reading.reader import refuse_url
from shards.reading.scan import load_or_scan_manifest
from shards.reading.votes import votes_by_key
from shards.splits import SPLITS
from shards.votes import CATEGORIES, describe_votes, vote_lines


def describe(manifest: Manifest) -> str:
    """The classes of each split as a table, image shape, mean and standard deviation, votes, rejects."""
    lines = [f"{manifest.samples:,} images, {shape_in_words(manifest.image_shape)}, from {manifest.source_format}", ""]
    lines += class_table(manifest)
    means = ", ".join(f"{value:.4f}" for value in manifest.mean)
    stds = ", ".join(f"{value:.4f}" for value in manifest.std)
    measured = "train" if "train" in manifest.splits else "all images"
    lines += ["", f"{measured}: mean {means}, standard deviation {stds} (pixels in 0 to 1)"]
    if manifest.votes is not None:
        lines.append(f"FER+ votes: {manifest.votes['with']:,} images with, {manifest.votes['without']:,} without")
    lines.append(f"rejected when packed: {manifest.rejects:,}")
    for split in SPLITS:
        if f"left_out_{split}" in manifest.options:
            count = manifest.options[f"left_out_{split}"]
            lines.append(f"{split}: {count:,} left out when packed, since they also appear in train")
    lines.append(f"digest: {manifest.digest}")
    return "\n".join(lines)


def class_table(manifest: Manifest) -> list[str]:
    """Lines of a table: the classes in label order, with each split's count and share."""
    names = [*manifest.class_names, "all"]
    width = max(len("class"), *(len(name) for name in names))
    lines = ["class".ljust(width) + "".join(f"{split:>17}" for split in manifest.splits)]
    for label, name in enumerate(names):
        line = name.ljust(width)
        for split in manifest.splits.values():
            count = split.class_counts[label] if label < len(split.class_counts) else split.samples
            line += f"{count:>9,} {100 * count / max(1, split.samples):>5.1f} %"
        lines.append(line)
    return lines


def inspect(folder: Path, figures: Path | None = None, workers: int = 1) -> str:
    """:func:`describe` for ``folder``; with ``figures``, draws ``distribution.png`` and ``samples.png`` there.

    Raises :class:`DataError` if the folder cannot be read or the figures cannot be written.
    """
    refuse_url(str(folder))
    manifest = load_or_scan_manifest(folder)
    text = "\n".join([describe(manifest), *_vote_lines(folder, manifest)])
    if figures is None:
        return text
    from shards.figures import plot_distribution, plot_sample_images, save_figure
    from shards.reading.reader import read_split

    split = next(iter(manifest.splits))  # train, or the first there is
    read = read_split(folder, split, workers, manifest)
    try:
        figures.mkdir(parents=True, exist_ok=True)
        name, shape = folder.resolve().name, shape_in_words(manifest.image_shape)
        distribution = plot_distribution(manifest, title=f"{name}: {manifest.samples:,} images, {shape}")
        save_figure(distribution, figures / "distribution.png")
        title = f"{name}: random images of each class of {split} ({len(read.labels):,} images)"
        samples = plot_sample_images(read.images, read.labels, manifest.class_names, title=title)
        save_figure(samples, figures / "samples.png")
    except OSError as error:
        raise DataError(f"{figures}: the figures cannot be written ({error.strerror})", exit_status=2) from error
    return f"{text}\n{figures / 'distribution.png'}\n{figures / 'samples.png'}"


def _vote_lines(folder: Path, manifest: Manifest) -> list[str]:
    """What the votes of each split amount to, those on images that were left out for them included."""
    if manifest.votes is None:
        return []
    by_split = {}
    for split, content in manifest.splits.items():
        known = manifest.options.get(f"votes_{split}")
        if known is None:
            votes = list(votes_by_key(folder, split, manifest).values())
            without = [[0] * len(CATEGORIES)] * (content.samples - len(votes))
            known = describe_votes(np.array(votes + without))
        by_split[split] = str(known)
    return vote_lines(by_split)
