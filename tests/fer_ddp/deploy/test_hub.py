"""`push` and ``hf:USER/NAME``, with the real client against a server that answers as the Hub does."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_hub_server import FakeHub, fake_hub

import fer_ddp
from fer_ddp.__main__ import main
from fer_ddp.deploy.export import export
from fer_ddp.deploy.exported import load_without_code
from shards.sources.synthetic_faces import draw_faces

RUN = Path(__file__).parents[2] / "data" / "runs_35d5d40" / "finished"
"""A finished run, of two convolutions in float64."""
FACES = draw_faces(np.arange(7), np.random.default_rng(0))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "exported"
    export(RUN, folder)
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub, and an empty cache of this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    with fake_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_what_is_pushed_is_predicted_with_elsewhere_and_no_program_is_sent(
    exported: Path, server: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(exported), "ada/faces"]) == 0
    assert capsys.readouterr().out == f"sent to {server.url}/ada/faces\n"
    files = server.repositories["ada/faces"]
    assert sorted(files) == sorted(path.name for path in exported.iterdir() if path.name != "model.pt2")
    assert b"model.pt2" not in files["README.md"]
    assert files["README.md"].startswith(b"---\nlibrary_name: fer-ddp")
    files["model.pt2"] = b"a program"
    found = fer_ddp.load("hf:ada/faces", "cpu").predict(FACES).probabilities
    np.testing.assert_allclose(found, fer_ddp.load(RUN, "cpu").predict(FACES).probabilities, atol=1e-5)
    assert [request for request in server.requests if "model.pt2" in request] == []


def test_a_fetched_model_is_used_without_the_server_and_one_that_was_not_is_refused(
    exported: Path, server: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.repositories["ada/faces"] = {path.name: path.read_bytes() for path in exported.iterdir()}
    before = fer_ddp.load("hf:ada/faces", "cpu").predict(FACES).probabilities
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    assert np.array_equal(fer_ddp.load("hf:ada/faces", "cpu").predict(FACES).probabilities, before)
    capsys.readouterr()  # the progress bar of what was fetched
    assert main(["predict", "hf:ada/others", "face.png"]) == 1
    assert capsys.readouterr().err.startswith("error: hf:ada/others: the server can't be reached")


def test_a_repository_that_is_not_there_and_a_name_that_none_has_are_one_message(
    server: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "hf:ada/absent", "face.png"]) == 1
    assert main(["predict", "hf:absent", "face.png"]) == 2
    assert main(["predict", "hf:../..", "face.png"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("error: hf:ada/absent: there is no such repository, or it is private")
    assert second == "error: absent: is not the name of a repository; give USER/NAME, such as ada/faces"
    assert third == "error: ../..: is not the name of a repository; give USER/NAME, such as ada/faces"


def test_without_huggingface_hub_the_package_to_install_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["predict", "hf:ada/faces", "face.png"]) == 2
    assert "the Hub needs huggingface_hub; pip install 'fer-ddp[hub]'" in capsys.readouterr().err


def test_a_run_folder_is_not_pushed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(RUN), "ada/faces"]) == 2
    assert "is not an exported folder; make one: fer-ddp export RUN --out DIR" in capsys.readouterr().err


def test_without_the_weights_the_onnx_file_is_loaded(exported: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "labels.json", "model.json"):
        shutil.copy(exported / name, tmp_path / name)
    found = fer_ddp.load(tmp_path, "cpu").predict(FACES).probabilities
    np.testing.assert_allclose(found, fer_ddp.load(RUN, "cpu").predict(FACES).probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "os:system"}, "its network is its author's own code, which is not run"),
        ({"name": "resnet99"}, "there is no model 'resnet99'"),
        ({"arguments": 3}, r"config\.json: members\[0\]\.model\.arguments: is 3; it should be keys and values"),
    ],
    ids=["code", "unknown", "damaged"],
)
def test_a_strangers_description_runs_no_code(
    exported: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = json.loads((exported / "config.json").read_text())
    config["members"][0]["model"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(exported / "model.safetensors", tmp_path)
    with pytest.raises(fer_ddp.UserError, match=message):
        load_without_code(tmp_path, CPU)
