"""FER+ votes, joined row by row."""

import json
import re

import pytest
import webdataset

from shards.errors import DataError
from shards.sources.registry import source_of

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


def test_a_row_without_an_image_name_has_no_votes(write_csv, pack_source, tmp_path):
    pack_source(write_csv(CSV), votes=write_csv(VOTES, HEADER, "votes.csv"))
    assert "votes.json" not in samples(tmp_path, "train")["row-0000002"]


def test_a_rejected_row_does_not_shift_the_votes(write_csv, pack_source, tmp_path):
    path = write_csv([CSV[0], "9,5 6 7 8,Training", CSV[2]])
    pack_source(path, votes=write_csv(VOTES, HEADER, "votes.csv"), max_rejects=1)
    assert json.loads(samples(tmp_path, "val")["row-0000003"]["votes.json"])["neutral"] == 10


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
