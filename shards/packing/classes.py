"""Drops and merges the classes of a source: ``--classes`` and ``--merge``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shards.errors import DataError
from shards.labels import class_meaning, did_you_mean, whole_number
from shards.packing.vote_labels import votes_of
from shards.sources.scan import SourceScan
from shards.votes import CATEGORIES, clearest_emotion, parse_votes, votes_text


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassChoice:
    """What the user wants of the classes of a source; names in any spelling."""

    merge: tuple[str, ...] = ()
    """``contempt=neutral`` or ``angry,disgust=negative``, carried out in this order, before ``classes``."""
    classes: tuple[str, ...] = ()
    """Those to keep, in the order that they are to have; all of them, in the scheme's order, if empty."""


def map_classes(class_names: Sequence[str], choice: ClassChoice) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """The classes that ``choice`` leaves, and for each of ``class_names`` the one it becomes; None if it is dropped.

    A merged class has the place of the one it is merged into, or, where that is a new name, of the first of those that
    become it. Raises :class:`DataError` (exit status 2) for a name that is not a class.
    """
    names = list(class_names)
    becomes: list[str | None] = list(class_names)
    for text in choice.merge:
        sources, separator, target = text.partition("=")
        merged = [known_class(source, names, "--merge") for source in sources.split(",")]
        if not separator or not target.strip() or "=" in target or whole_number(target) is not None:
            raise DataError(
                f"--merge {text}: should be the classes to merge and the class they become, such as contempt=neutral "
                f"or angry,disgust=negative",
                exit_status=2,
            )
        known = next((name for name in names if class_meaning(name) == class_meaning(target)), None)
        new = known or target.strip()
        if known is None:
            names[min(map(names.index, merged))] = new
        names = [name for name in names if name == new or name not in merged]
        becomes = [new if name in merged else name for name in becomes]
    if choice.classes:
        chosen = [known_class(name, names, "--classes") for name in choice.classes]
        repeated = next((name for name in chosen if chosen.count(name) > 1), None)
        if repeated is not None:
            raise DataError(f"--classes: names {repeated} twice; each class should be named once", exit_status=2)
        names = chosen
    return tuple(names), tuple(name if name in names else None for name in becomes)


def choose_classes(scan: SourceScan, choice: ClassChoice) -> SourceScan:
    """``scan`` with the classes of ``choice``; samples of the others are left out, counted in its notes and options.

    Votes for a merged class are votes for what it became. Raises :class:`DataError` as :func:`map_classes` does, and
    where there are votes, which a class of a new name cannot have.
    """
    if not choice.merge and not choice.classes:
        return scan
    names, becomes = map_classes(scan.class_names, choice)
    labels, notes = scan.table.label.to_numpy(), list[str]()
    counts = np.bincount(labels, minlength=len(scan.class_names)).tolist()
    options = {"merge": "; ".join(choice.merge)} if choice.merge else {}
    options |= {"classes": ", ".join(names)} if choice.classes else {}
    dropped = {name: count for name, new, count in zip(scan.class_names, becomes, counts, strict=True) if new is None}
    for name, new, count in zip(scan.class_names, becomes, counts, strict=True):
        if new is not None and new != name:
            notes.append(f"merged: {count:,} samples of {name} into {new}")
    if any(dropped.values()):
        texts = ", ".join(f"{count:,} of {name}" for name, count in dropped.items() if count)
        notes.append(f"left out by --classes: {texts}")
    if scan.votes is not None and choice.merge:
        scan = replace(scan, votes=_merge_votes(scan.votes, dict(zip(scan.class_names, becomes, strict=True))))
        if scan.is_labelled_by_votes:  # merged, they may have another expression at their head
            labels = clearest_emotion(votes_of(scan))
    index_of = np.array([-1 if new is None else names.index(new) for new in becomes])
    mask = index_of[labels] >= 0
    chosen = scan.selected(mask)
    chosen.table["label"] = index_of[labels[mask]]
    return replace(
        chosen,
        class_names=names,
        notes=(*scan.notes, *notes),
        options={**scan.options, **options, **{f"dropped_{name}": count for name, count in dropped.items()}},
    )


def _merge_votes(votes: Sequence[bytes | None], becomes: dict[str, str | None]) -> list[bytes | None]:
    """The votes of each sample, as :class:`SourceScan` has them, with those for a merged class given to its new one."""
    category_of = {class_meaning(category): category for category in CATEGORIES}
    moved: dict[str, str] = {}
    for name, new in becomes.items():
        if new is not None and new != name and class_meaning(name) in category_of:
            if class_meaning(new) not in category_of:
                raise DataError(
                    f"--merge: {new!r} is not an expression that FER+'s votes name; merge {name} into one of theirs, "
                    f"or leave out --votes",
                    exit_status=2,
                )
            moved[category_of[class_meaning(name)]] = category_of[class_meaning(new)]

    def merged(text: bytes) -> bytes:
        counts = dict(zip(CATEGORIES, parse_votes(text), strict=True))
        for category, new in moved.items():
            counts[new] += counts[category]
            counts[category] = 0
        return votes_text(counts)

    return [None if text is None else merged(text) for text in votes]


def known_class(name: str, names: Sequence[str], option: str) -> str:
    """The one of ``names`` that ``name``, given by ``option``, means. Raises :class:`DataError` (exit status 2)."""
    for known in names:
        if class_meaning(known) == class_meaning(name):
            return known
    hint = did_you_mean(name.strip(), names)
    raise DataError(
        f"{option}: {name.strip()!r} is not one of the classes{hint}: {', '.join(names)}",
        exit_status=2,
    )
