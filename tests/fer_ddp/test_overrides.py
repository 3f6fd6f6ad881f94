"""Where the words of a command may stand."""

import argparse

import pytest

from fer_ddp.cli import parse


def commands() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="program")
    subparsers = parser.add_subparsers(required=True)
    with_overrides = subparsers.add_parser("with")
    with_overrides.add_argument("job")
    with_overrides.add_argument("overrides", nargs="*")
    with_overrides.add_argument("--ranks", type=int)
    subparsers.add_parser("without").add_argument("name")
    return parser


@pytest.mark.parametrize(
    "words", ["job.yaml a=1 b=2 --ranks 3", "job.yaml --ranks 3 a=1 b=2", "job.yaml a=1 --ranks 3 b=2"]
)
def test_overrides_may_stand_before_and_behind_the_options(words: str) -> None:
    options = parse(commands(), ["with", *words.split()])
    assert (options.job, options.overrides, options.ranks) == ("job.yaml", ["a=1", "b=2"], 3)


@pytest.mark.parametrize("words", ["with job --unknown=3", "with job --ranks 3 b", "without name b=2"])
def test_any_other_word_too_many_is_refused_by_its_name(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(commands(), words.split())
    last = capsys.readouterr().err.splitlines()[-1]
    assert (ended.value.code, words.split()[-1] in last) == (2, True), last


def test_a_key_with_dashes_is_refused_with_how_to_write_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(commands(), ["with", "job", "--data.path=a"])
    assert capsys.readouterr().err.endswith("--data.path=a; keys of a job have no dashes: data.path=a\n")
