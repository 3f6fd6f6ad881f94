"""FER+ votes, joined row by row."""

import json
import re

import numpy as np
import pytest
import webdataset

from shards.errors import DataError
from shards.labels import FERPLUS
from shards.packing.packer import pack
from shards.sources.listing import SourceOptions
from shards.sources.registry import source_of
from shards.votes import CATEGORIES

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
CSV = ["3,1 2 3 4,Training", "0,5 6 7 8,Training", "6,9 9 9 9,PublicTest"]
VOTES = [
    "Training,fer0.png,4,6,0,0,0,0,0,0,0,0",
    "Training,,0,0,0,0,0,0,0,0,0,10",
    "PublicTest,fer2.png,10,0,0,0,0,0,0,0,0,0",
]


def samples(tmp_path, split):
    path = str(tmp_path / "out" / f"{split}-000000.tar")
    return {sample["__key__"]: sample for sample in webdataset.WebDataset([path], shardshuffle=False)}


def test_each_row_gets_its_own_rows_votes(write_csv, pack_source, tmp_path):
    manifest = pack_source(write_csv(CSV), votes=write_csv(VOTES, HEADER, "votes.csv"))
    names = HEADER.split(",")[2:]
    train, val = samples(tmp_path, "train"), samples(tmp_path, "val")
    expected = dict(zip(names, (4, 6, 0, 0, 0, 0, 0, 0, 0, 0), strict=True))
    assert json.loads(train["row-0000001"]["votes.json"]) == expected
    assert json.loads(val["row-0000003"]["votes.json"])["neutral"] == 10
    assert manifest.votes == {"with": 2, "without": 1}


def test_votes_are_advised_only_where_they_are_not_joined(tmp_path):
    folder = tmp_path / "fer"
    folder.mkdir()
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *CSV]) + "\n")
    votes = folder / "fer2013new.csv"
    votes.write_text("\n".join([HEADER, *VOTES]) + "\n")
    notes = pack(source_of(folder), tmp_path / "without").notes
    assert any(note.endswith(f"which were not used; --votes {votes} adds them") for note in notes)
    assert not any("--votes" in note for note in pack(source_of(folder, votes=votes), tmp_path / "with").notes)


def test_the_scheme_of_the_votes_without_votes_and_without_contempt_is_refused(write_csv, tmp_path):
    source = source_of(write_csv(CSV), options=SourceOptions(scheme=FERPLUS))
    with pytest.raises(DataError, match="has no label 7, so its labels are probably FER2013's .* add --votes"):
        pack(source, tmp_path / "out")


def test_a_row_without_an_image_name_has_no_votes(write_csv, pack_source, tmp_path):
    pack_source(write_csv(CSV), votes=write_csv(VOTES, HEADER, "votes.csv"))
    assert "votes.json" not in samples(tmp_path, "train")["row-0000002"]


def test_a_rejected_row_does_not_shift_the_votes(write_csv, pack_source, tmp_path):
    path = write_csv([CSV[0], "9,5 6 7 8,Training", CSV[2]])
    pack_source(path, votes=write_csv(VOTES, HEADER, "votes.csv"), max_rejects=1)
    assert json.loads(samples(tmp_path, "val")["row-0000003"]["votes.json"])["neutral"] == 10


def test_a_rejected_row_of_a_csv_in_another_form_does_not_shift_the_votes(write_csv, pack_source, tmp_path):
    rows = [row.replace(",", ";") for row in (CSV[0], "happyish,5 6 7 8,Training", CSV[2])]
    path = write_csv(rows, "emotion;pixels;Usage")
    manifest = pack_source(path, votes=write_csv(VOTES, HEADER, "votes.csv"), max_rejects=1)
    assert json.loads(samples(tmp_path, "val")["row-0000003"]["votes.json"])["neutral"] == 10
    assert manifest.rejects == 1


def test_a_blank_line_does_not_shift_the_votes(write_csv, pack_source, tmp_path):
    path = write_csv([CSV[0], "", *CSV[1:]])
    pack_source(path, votes=write_csv(VOTES, HEADER, "votes.csv"))
    assert json.loads(samples(tmp_path, "val")["row-0000004"]["votes.json"])["neutral"] == 10


@pytest.mark.parametrize(
    ("header", "votes", "message"),
    [
        (HEADER, VOTES[:2], "has 2 rows and the CSV has row 3"),
        (HEADER, [VOTES[0], VOTES[2], VOTES[1]], "row 2 is of PublicTest, and of train in the CSV"),
        (
            HEADER,
            [VOTES[0].replace("4", "four"), *VOTES[1:]],
            "row 1 has a vote that is not a whole number of 0 or more",
        ),
        (HEADER.replace("fear", "joy"), VOTES, "has no column fear"),
        ("", [], "is not a CSV that can be read"),
    ],
)
def test_a_file_that_does_not_belong_is_refused(header, votes, message, write_csv, pack_source):
    path = write_csv(CSV)
    with pytest.raises(DataError, match=f"votes.csv: {re.escape(message)}"):
        pack_source(path, votes=write_csv(votes, header, "votes.csv"))


def test_a_missing_file_is_refused(write_csv, pack_source, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: there is no such file") as caught:
        pack_source(write_csv(CSV), votes=tmp_path / "nowhere.csv")
    assert caught.value.exit_status == 2


def test_votes_for_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be joined to folders") as caught:
        source_of(tmp_path, votes=tmp_path / "votes.csv")
    assert caught.value.exit_status == 2


def drawn_rows(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Lines of a CSV and of votes on the same images; each label has about its own share in FER+, the rest neutral."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(7, count, p=(0.14, 0.02, 0.14, 0.25, 0.17, 0.11, 0.17))
    shares = (0.47, 0.3, 0.05, 0.92, 0.4, 0.8, 0.86)
    votes = []
    for number, label in enumerate(labels):
        column = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")[label]
        chosen = column if rng.random() < shares[label] else "neutral"
        votes.append(f"Training,fer{number}.png," + ",".join("9" if name == chosen else "0" for name in CATEGORIES))
    return [f"{label},1 2 3 {number % 256},Training" for number, label in enumerate(labels)], votes


def test_votes_in_the_csvs_order_are_accepted_and_in_another_refused_with_the_share(write_csv, pack_source, tmp_path):
    lines, votes = drawn_rows(600)
    csv = write_csv(lines)
    assert pack_source(csv, votes=write_csv(votes, HEADER, "votes.csv")).votes == {"with": 600, "without": 0}
    shuffled = [votes[index] for index in np.random.default_rng(1).permutation(600)]
    wanted = (
        r"votes.csv: in rows 1 to 600 the most frequent vote is the CSV's label in (\d+) % of the rows; FER\+'s votes "
        r"on the same images should agree in about \d+ %, and those on other images in \d+ %; the two files should "
    )
    with pytest.raises(DataError, match=wanted) as caught:
        pack_source(csv, votes=write_csv(shuffled, HEADER, "votes.csv"))
    assert 10 < int(re.search(wanted, str(caught.value))[1]) < 30


def test_a_row_too_many_in_the_middle_is_found(write_csv, pack_source):
    lines, votes = drawn_rows(3000)
    votes[2000:] = [votes[0], *votes[2000:-1]]
    with pytest.raises(DataError, match=r"in rows 2\d\d\d to 2\d\d\d|in rows 2\d\d\d to 3000"):
        pack_source(write_csv(lines), votes=write_csv(votes, HEADER, "votes.csv"))


def test_rows_of_one_label_are_accepted_since_their_share_shows_nothing(write_csv, pack_source):
    lines, votes = drawn_rows(2000)
    fear = [index for index, line in enumerate(lines) if line.startswith("2,")]
    votes_csv = write_csv([votes[index] for index in fear], HEADER, "votes.csv")
    assert pack_source(write_csv([lines[index] for index in fear]), votes=votes_csv).samples == len(fear) > 200


def test_few_rows_are_not_judged_by_their_share(write_csv, pack_source):
    lines, votes = drawn_rows(49)
    assert pack_source(write_csv(lines), votes=write_csv(votes[::-1], HEADER, "votes.csv")).samples == 49
