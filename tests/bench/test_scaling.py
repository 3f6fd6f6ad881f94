"""``python -m bench.scaling``: the arithmetic by hand, the counting on models, the command whole."""

import contextlib
import dataclasses
import io
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench.scaling.__main__ import main
from bench.scaling.links import Link
from bench.scaling.plan import FIRST_BUCKET, Messages, Prediction, Share, count_messages, limit, predict
from bench.scaling.processes import neighbours
from fer_ddp.config.load import load_job
from fer_ddp.data.dataset import FERDataset
from fer_ddp.errors import RunError
from fer_ddp.signals import STOP_SIGNALS
from fer_ddp.training.setup import build_trainer

ROOT = Path(__file__).parents[2]
LINK = Link(name="a link", start_us=10, hop_us=2, gigabytes_per_second=1, overlaps=True, source="a test")
MESSAGES = Messages(gradient_bytes=1_000_000, synchronized_channels=(100, 200), number_bytes=8)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """``main`` takes over the stop signals of this process."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def predicted(seconds: float, ranks: int, messages: Messages = MESSAGES, link: Link = LINK) -> Prediction:
    (prediction,) = predict({ranks: Share(seconds=seconds, messages=messages)}, link)
    return prediction


def test_one_rank_has_no_messages() -> None:
    assert predicted(1.0, 1) == Prediction(ranks=1, compute=1.0, synchronization=0.0, gradients=0.0)


def test_the_batch_norms_messages_follow_each_other() -> None:
    # Four ranks: a gather has 3 hops and moves 3 times its bytes, a reduce has 6 and moves 1.5 times.
    gathers = 2 * (10e-6 + 3 * 2e-6) + 3 * (201 + 401) * 8 / 1e9
    reduces = 2 * (10e-6 + 6 * 2e-6) + 1.5 * (200 + 400) * 8 / 1e9
    assert predicted(1.0, 4).synchronization == pytest.approx(gathers + reduces, rel=1e-12)


def test_the_last_bucket_of_gradients_is_never_hidden() -> None:
    assert predicted(1.0, 2).gradients == pytest.approx(10e-6 + 2 * 2e-6 + 1e-3, rel=1e-12)


def test_the_first_bucket_of_gradients_is_hidden_by_a_long_backward_pass() -> None:
    messages = dataclasses.replace(MESSAGES, gradient_bytes=FIRST_BUCKET + 5_000_000)
    assert predicted(1.0, 2, messages).gradients == pytest.approx(14e-6 + 5e-3, rel=1e-12)


def test_gradients_that_take_longer_than_the_backward_pass_stick_out() -> None:
    messages = dataclasses.replace(MESSAGES, gradient_bytes=FIRST_BUCKET + 5_000_000)
    whole = 2 * 14e-6 + (FIRST_BUCKET + 5_000_000) / 1e9
    assert predicted(0.0003, 2, messages).gradients == pytest.approx(whole - 0.0002, rel=1e-12)


def test_on_a_link_that_the_processor_serves_nothing_is_hidden() -> None:
    messages = dataclasses.replace(MESSAGES, gradient_bytes=FIRST_BUCKET + 5_000_000)
    alone = dataclasses.replace(LINK, overlaps=False)
    assert predicted(1.0, 2, messages, alone).gradients == pytest.approx(
        2 * 14e-6 + (FIRST_BUCKET + 5_000_000) / 1e9, rel=1e-12
    )


@pytest.mark.parametrize(
    ("seconds", "messages", "reason"),
    [
        ({1: 1.0, 2: 0.9}, MESSAGES, "at 2 ranks: a share of 12 images takes 90% of the whole batch's time, not 50%"),
        ({1: 1e-4, 2: 5e-5}, dataclasses.replace(MESSAGES, gradient_bytes=0), "at 2 ranks: 4 messages of the batch"),
        ({1: 1e-3, 2: 5e-4}, dataclasses.replace(MESSAGES, gradient_bytes=10**8), "at 2 ranks: 100.0 MB of gradients"),
    ],
)
def test_what_limits_is_what_takes_most(
    tiny_job: Path, seconds: dict[int, float], messages: Messages, reason: str
) -> None:
    shares = {ranks: Share(seconds=each, messages=messages) for ranks, each in seconds.items()}
    assert f"What limits first, {reason}" in limit(predict(shares, LINK), shares, load_job(tiny_job, []))


BATCH_NORMS = "model={name: plain_cnn, arguments: {channels: [4, 8], hidden: 16, batch_norm: true}}"


@pytest.mark.parametrize(
    ("ranks", "overrides", "channels"),
    [(1, [], ()), (2, [], (4, 8)), (2, ["micro_batch_size=5"], (4, 8) * 3)],
)
def test_messages_are_counted(
    tiny_job: Path, faces: Path, ranks: int, overrides: list[str], channels: tuple[int, ...]
) -> None:
    job = load_job(tiny_job, [BATCH_NORMS, *overrides])
    model = build_trainer(job, FERDataset(faces, "train"), ranks, torch.device("cpu")).state.model
    messages = count_messages(model, job, ranks)
    assert messages.synchronized_channels == channels
    assert messages.gradient_bytes == 4 * sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.long
def test_the_plan_is_printed_and_checked_on_real_ranks(tiny_job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny_job), BATCH_NORMS, "--gpus", "1,2", "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if re.match(r" +\d+  +\d+  ", line)]
    assert [row[:2] for row in rows] == [["1", "24"], ["2", "12"]]
    assert [row for row in rows if not float(row[2]) > 0] == []
    measured = [line for line in lines if re.match(r" +\d ranks?: [\d.]+ ms a step, predicted [\d.]+ ms", line)]
    assert len(measured) == 2


def test_neighbours_compute_until_the_block_ends(tiny_job: Path) -> None:
    with neighbours(1, ["busy", str(tiny_job), "2"], threads=1) as (process,):
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_neighbour_that_fails_is_told_of(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"rank 0 of the measurement failed: .*absent\.yaml"),
        neighbours(1, ["busy", str(tmp_path / "absent.yaml"), "2"], threads=1),
    ):
        pytest.fail("it began")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--gpus", "1,x"], "error: --gpus 1,x: must be whole numbers above 0, such as 1,2,4,8"),
        (["--gpus", "5"], "error: global_batch_size: 24 can't be shared evenly by 5 ranks; choose a multiple of 5"),
        (["--gpus", "1,4", "--check"], "error: --check: trains on 1 and 2 ranks; put 2 into --gpus"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    tiny_job: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main([str(tiny_job), *arguments]) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_the_figures_of_the_scaling_page_are_what_its_code_prints() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    (code,), (text,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "text"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == text
