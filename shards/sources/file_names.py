"""Data sets whose file names hold the person and often the expression: KDEF, JAFFE and CK+48.

Lundqvist et al., "The Karolinska Directed Emotional Faces", 1998; Lyons et al., "Coding facial expressions with Gabor
wavelets", 1998; Lucey et al., "The extended Cohn-Kanade dataset (CK+)", 2010.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from shards.errors import DataError
from shards.images import is_image_name
from shards.labels import CKPLUS, JAFFE, KDEF, LabelScheme, is_expression
from shards.sources.listed_files import files_below
from shards.sources.listing import Folder, ListedImage, Listing, SourceOptions
from shards.sources.scan import all_train
from shards.splits import SPLIT_FOLDERS

_LOOKED_AT = 50
"""Images whose names tell what a folder is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedFiles:
    """A data set of one folder, or of a folder a person or a class."""

    source_format: str
    title: str
    layout: str
    scheme: LabelScheme
    pattern: re.Pattern[str]
    """What a file's path ends in, with the groups ``subject`` and ``label``."""
    is_wanted: Callable[[re.Match[str]], bool] = bool
    unwanted: str = ""
    """What the others are, for a note."""

    def matches(self, path: Path) -> bool:
        """Whether most images of the folder ``path`` are named so, and none is in a folder of a split."""
        if not path.is_dir():
            return False
        found = list(islice((one for one in files_below(path) if is_image_name(one)), _LOOKED_AT))
        named = [one for one in found if self.pattern.search(one)]
        return len(named) > len(found) / 2 and not any(
            part.lower() in SPLIT_FOLDERS for one in named for part in PurePosixPath(one).parts[:-1]
        )

    def list(self, path: Path, options: SourceOptions) -> Listing:
        """The images below the folder ``path``. Raises :class:`DataError` if none is named as they should be."""
        images: list[ListedImage] = []
        unwanted, unknown = 0, list[str]()
        for location in files_below(path):
            if not is_image_name(location):
                continue
            match = self.pattern.search(location)
            if match is None:
                unknown.append(location)
            elif not self.is_wanted(match):
                unwanted += 1
            else:
                images.append(
                    ListedImage(
                        location=location,
                        name=location,
                        place=location,
                        label=match["label"],
                        split="train",
                        subject=match["subject"].upper(),
                    )
                )
        if not images:
            raise DataError(f"{path}: holds no image named as {self.title}'s; they should be {self.layout}")
        notes = [all_train(path)]
        if unwanted:
            notes.append(f"left out: {unwanted:,} {self.unwanted}")
        if unknown:
            notes.append(f"left out: {len(unknown):,} not named as {self.title}'s, such as {unknown[0]}")
        return Listing(
            root=path,
            images=images,
            container=Folder(root=path),
            source_format=self.source_format,
            scheme=options.scheme or self.scheme,
            notes=notes,
        )


KDEF_FILES = NamedFiles(
    source_format="kdef",
    title="KDEF",
    layout="AF01/AF01ANS.JPG: session, sex, person, expression (AF AN DI HA NE SA SU), angle (S is frontal)",
    scheme=KDEF,
    pattern=re.compile(
        r"(?:^|/)[AB](?P<subject>[FM]\d\d)(?P<label>AF|AN|DI|HA|NE|SA|SU)(?P<angle>FL|HL|S|HR|FR)\.\w+$", re.IGNORECASE
    ),
    is_wanted=lambda match: match["angle"].upper() == "S",
    unwanted="that are not frontal (all but S in their names)",
)
JAFFE_FILES = NamedFiles(
    source_format="jaffe",
    title="JAFFE",
    layout="KA.AN1.39.tiff: person, expression (AN DI FE HA NE SA SU) and its number, image",
    scheme=JAFFE,
    pattern=re.compile(r"(?:^|/)(?P<subject>[A-Z]{2})\.(?P<label>AN|DI|FE|HA|NE|SA|SU)\d*\.\d+\.\w+$", re.IGNORECASE),
)
CK_PLUS_FILES = NamedFiles(
    source_format="ckplus",
    title="CK+48",
    layout="anger/S010_004_00000017.png: class, person, sequence, frame",
    scheme=CKPLUS,
    pattern=re.compile(r"(?:^|/)(?P<label>[A-Za-z]+)/(?P<subject>S\d{3})_\d{3}_\d{8}\.\w+$", re.IGNORECASE),
    is_wanted=lambda match: is_expression(match["label"]),
    unwanted="that are in no folder of a class",
)
