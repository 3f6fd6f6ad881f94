"""Refuses folders whose names cannot be the classes that their images belong to."""

import difflib
import shlex
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from shards.errors import DataError
from shards.labels import class_meaning, is_expression
from shards.sources.listing import ListedImage, SourceOptions
from shards.splits import SPLIT_FOLDERS, split_of_word
from shards.text import plural

_FEW = 5
_MANY = 100
"""A class of fewer images than ``_FEW`` is a mistake where most classes have more than ``_MANY``."""
_SIMILAR = 0.8
"""difflib's ratio of ``hapy`` and ``happy`` is 0.89, of ``happily_surprised`` and ``surprise`` 0.64."""


def has_class_folders(root: Path) -> bool:
    """Whether there are folders in a split's folder: ``train/CLASS``."""
    splits = [one for one in root.iterdir() if split_of_word(one.name) and one.is_dir()]
    return any(one.is_dir() and not one.name.startswith(".") for split in splits for one in split.iterdir())


def check_class_folders(root: Path, found: Sequence[tuple[str, str]], allowed: Collection[str] = ()) -> None:
    """Raise :class:`DataError` if the folders below ``root`` are not the classes of their images.

    ``found`` has (path below the root, split) of every image. Refused are class folders that are too deep, unlabelled
    images, a class in one split alone, the only class if it is no expression, and a class of very few images. The
    classes in ``allowed`` are only refused where they are too deep.
    """
    _refuse_too_deep(root, [path for path, _ in found])
    counts: dict[str, Counter[str]] = {}  # images by split, then by meaning
    folders: dict[str, dict[str, None]] = {}  # SPLIT/CLASS by meaning, in order
    for (split, folder), count in Counter((split, "/".join(path.split("/")[:2])) for path, split in found).items():
        meaning = class_meaning(PurePosixPath(folder).name)
        counts.setdefault(split, Counter())[meaning] += count
        folders.setdefault(meaning, {})[folder] = None
    accepted = _accepted(root, allowed, folders)
    _refuse_unlabelled(root, counts, folders, accepted)
    problems = {name: text for name, text in _problems(counts) if name not in accepted}
    if problems:
        texts = "; ".join(
            f"the class {PurePosixPath(next(iter(folders[name]))).name!r} {text} (in {', '.join(folders[name])})"
            for name, text in problems.items()
        )
        raise DataError(f"{root}: {texts}; rename or remove the folder, or keep the class with {_flags(problems)}")


def check_stated_classes(source: object, images: Iterable[ListedImage], options: SourceOptions) -> None:
    """Raise :class:`DataError` for a class of ``images`` that a class folder would be refused for as well.

    That is a class in one split alone, the only class if it is no expression, and a class of very few images.
    """
    counts: dict[str, Counter[str]] = {}
    for (split, label), count in Counter((image.split, image.label) for image in images).items():
        meaning = class_meaning(label) if options.scheme is None else options.scheme.meaning_of(label)
        if meaning is not None and (options.scheme is None or meaning in options.scheme.class_names):
            counts.setdefault(split, Counter())[meaning] += count
    accepted = _accepted(source, options.allowed_classes, {name for found in counts.values() for name in found})
    problems = {name: text for name, text in _problems(counts) if name not in accepted}
    if problems:
        texts = "; ".join(f"the class {name!r} {text}" for name, text in problems.items())
        raise DataError(f"{source}: {texts}; correct the labels, or keep the class with {_flags(problems)}")


def _accepted(source: object, allowed: Collection[str], found: Collection[str]) -> set[str]:
    """What the classes in ``allowed`` mean, of which each must be in ``found``."""
    for name in allowed:
        if class_meaning(name) not in found:
            classes = ", ".join(sorted(found))
            raise DataError(f"--allow-class {name}: {source} has no such class; it has {classes}", exit_status=2)
    return {class_meaning(name) for name in allowed}


def _flags(problems: Iterable[str]) -> str:
    return " ".join(f"--allow-class {shlex.quote(name)}" for name in problems)


def _refuse_too_deep(root: Path, paths: Sequence[str]) -> None:
    """Refuse ``train/train/CLASS`` and the like. Folders below a class, such as its subjects, are part of the class."""
    below: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        split, folder, *_ = path.split("/")
        below.setdefault((split, folder), []).append(path)
    per_split = Counter(split for split, _ in below)
    for (split, folder), members in below.items():
        is_split = folder.lower() in SPLIT_FOLDERS
        insides = [path.split("/")[2:-1] for path in members]
        if is_expression(folder) or not all(insides):
            continue
        # Where the class is instead: at the first expression below, or in the one folder more that there is.
        depths = [next((depth for depth, name in enumerate(inside) if is_expression(name)), None) for inside in insides]
        several = len({inside[0] for inside in insides}) > 1
        named = [index for index, depth in enumerate(depths) if depth is not None]
        if not (named or is_split or (per_split[split] == 1 and several)):
            continue
        index = named[0] if named else 0
        path, inside = members[index], insides[index][depths[index] or 0 :]
        message = f"{root / path}: is too deep, its class would be {folder!r}; it should be "
        if is_split and SPLIT_FOLDERS[folder.lower()] != SPLIT_FOLDERS[split.lower()]:
            right = root / split
            raise DataError(f"{message}SPLIT/CLASS/IMAGE below SOURCE: pack {right} instead of {root}")
        right = root.joinpath(split, *inside, PurePosixPath(path).name)
        raise DataError(f"{message}{right}, and every other image of {split} likewise")


def _refuse_unlabelled(
    root: Path, counts: dict[str, Counter[str]], folders: dict[str, dict[str, None]], accepted: Collection[str]
) -> None:
    """Refuse val or test whose images are all in one folder, such as ``test/images``, that train does not have."""
    train = counts.get("train", Counter())
    for split, found in counts.items():
        (name, count), *others = found.items()
        if not train or split == "train" or others or name in train or name in accepted or is_expression(name):
            continue
        folder = next(iter(folders[name]))
        example = PurePosixPath(next(iter(folders[min(train)])))
        right = root.joinpath(PurePosixPath(folder).parts[0], example.name, "IMAGE")
        raise DataError(
            f"{root / folder}: holds all {count} images of {split} and is no class of train, so they have no labels; "
            f"they should be in class folders, such as {right}; without labels, move {split} out of {root}, pack the "
            f"rest, and give the images to `fer-ddp predict`"
        )


def _problems(counts: dict[str, Counter[str]]) -> Iterator[tuple[str, str]]:
    """(meaning, what is wrong) of each class that is probably a mistake."""
    totals: Counter[str] = Counter()
    for found in counts.values():
        totals.update(found)
    for name, total in totals.items():
        images = plural(total, "image")
        splits = [split for split, found in counts.items() if found[name]]
        others = [count for other, count in totals.items() if other != name]
        expressions = [] if is_expression(name) else [other for other in totals if is_expression(other)]
        similar = difflib.get_close_matches(name, expressions, n=1, cutoff=_SIMILAR)
        if similar:
            yield name, f"is probably {similar[0]!r} misspelt, with {images}"
        elif not others and not is_expression(name):
            yield name, f"is the only one, with {images}"
        elif len(splits) == 1 < len(counts):
            yield name, f"is in {splits[0]} alone, with {images}"
        elif others and total < _FEW and statistics.median(others) > _MANY:
            yield name, f"has only {images}, while most classes have more than {_MANY}"
