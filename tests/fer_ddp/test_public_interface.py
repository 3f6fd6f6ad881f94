"""What `import fer_ddp` offers: in a thread, with str or Path, values returned and UserErrors raised."""

import dataclasses
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import fer_ddp
from fer_ddp.deploy.export import export
from fer_ddp.runs.files import read_json
from fer_ddp.training.state import TrainingState


def in_a_thread(function: Callable[[], Any]) -> Any:
    """What ``function`` returns when another thread than the main one calls it."""
    returned: list[Any] = []
    thread = threading.Thread(target=lambda: returned.append(function()))
    thread.start()
    thread.join()
    return returned[0]


@pytest.fixture(scope="module")
def job(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> fer_ddp.Job:
    folder = tmp_path_factory.mktemp("public")
    (folder / "tiny.yaml").write_text(
        "model: {name: plain_cnn, arguments: {channels: [4, 8], hidden: 16}}\n"
        "optimizer: {name: adam, lr: 0.003}\n"
        f"data: {{path: {faces}}}\n"
        "global_batch_size: 24\nprecision: float32\nmemory_format: contiguous\nwandb: {mode: disabled}\n"
    )
    return fer_ddp.load_job(str(folder / "tiny.yaml"), ["seed=1"], run=folder / "run", epochs=1)


@pytest.fixture(scope="module")
def results(job: fer_ddp.Job) -> fer_ddp.Results:
    return in_a_thread(lambda: fer_ddp.train(job, device="cpu"))


@pytest.fixture(scope="module")
def exported(results: fer_ddp.Results) -> Path:
    export(results.folder, results.folder.parent / "exported")
    return results.folder.parent / "exported"


def test_importing_it_loads_no_torch_and_every_public_name_is_there() -> None:
    code = (
        "import sys, fer_ddp\n"
        "assert 'torch' not in sys.modules\n"
        "print([name for name in fer_ddp.__all__ if not callable(getattr(fer_ddp, name))])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "[]\n"


def test_a_job_takes_overrides_as_on_the_command_line_and_as_values(job: fer_ddp.Job, faces: Path) -> None:
    assert (job.seed, job.epochs, job.data.path) == (1, 1, str(faces))
    changed = fer_ddp.load_job(Path(job.run).parent / "tiny.yaml", **{"optimizer.lr": 0.5, "augment.scale": (0.9, 1)})
    assert (changed.optimizer.lr, changed.augment.scale) == (0.5, (0.9, 1.0))


def test_a_wrong_key_raises_a_user_error(job: fer_ddp.Job) -> None:
    with pytest.raises(fer_ddp.JobError, match=r"optimizer\.lr_rate") as raised:
        fer_ddp.load_job(Path(job.run).parent / "tiny.yaml", **{"optimizer.lr_rate": 0.1})
    assert isinstance(raised.value, fer_ddp.UserError)


def test_training_in_a_thread_returns_the_summary(results: fer_ddp.Results, job: fer_ddp.Job) -> None:
    assert results.folder == Path(job.run)
    assert results.summary == read_json(results.folder / "summary.json")
    assert results.summary["test"]["n"] == 70


def test_an_interrupted_training_is_resumed_in_the_same_process(
    job: fer_ddp.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = fer_ddp.load_job(Path(job.run).parent / "tiny.yaml", run=tmp_path / "run", epochs=1, seed=1)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    step_done = TrainingState.step_done

    def stopped_at_step_three(state: TrainingState, loss: Tensor, is_bad: Tensor) -> None:
        step_done(state, loss, is_bad)
        if state.step == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(TrainingState, "step_done", stopped_at_step_three)
    with pytest.raises(fer_ddp.Interrupted) as raised:  # a notebook keeps the error, with all that its frames hold
        fer_ddp.train(again, "cpu")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert fer_ddp.train(again, "cpu").summary["steps"] == 10, raised


def test_a_run_is_evaluated_on_its_own_data_and_on_others(results: fer_ddp.Results, faces: Path) -> None:
    again = fer_ddp.evaluate(str(results.folder), device="cpu")
    assert (again.folder, again.summary) == (results.folder, results.summary)
    with pytest.raises(fer_ddp.DataError, match="nowhere"):
        fer_ddp.evaluate(results.folder, data=faces.parent / "nowhere")


def test_every_kind_of_image_gets_the_same_prediction(results: fer_ddp.Results, faces: Path, tmp_path: Path) -> None:
    dataset = fer_ddp.FERDataset(faces, "test")
    array = dataset.images[5, 0].numpy()
    picture = Image.fromarray(array)
    picture.save(tmp_path / "face.png")
    model = fer_ddp.load(results.folder, device="cpu")
    assert (model.class_names, model.image_shape) == (dataset.class_names, (1, 48, 48))
    kinds: list[Any] = [array, picture, tmp_path / "face.png", str(tmp_path / "face.png"), dataset[5][0]]
    kinds += [np.stack([array] * 3, axis=-1), array[..., None], picture.convert("RGB")]
    together = model.predict(kinds)
    assert together.images[1:3] == ("image 1", str(tmp_path / "face.png"))
    for kind in kinds:
        alone = model.predict(kind)
        assert alone.probabilities.shape == (1, len(dataset.class_names))
        assert alone.classes == together.classes[:1]
    assert np.abs(together.probabilities - together.probabilities[0]).max() < 1e-6


def test_batches_of_arrays_and_a_data_sets_tensor_get_the_evaluated_predictions(
    results: fer_ddp.Results, faces: Path
) -> None:
    dataset, model = fer_ddp.FERDataset(faces, "test"), fer_ddp.load(results.folder, device="cpu")
    whole = model.predict(dataset.images)
    correct = np.array(whole.classes) == np.array(dataset.class_names)[dataset.labels]
    assert correct.mean() == pytest.approx(results.summary["test"]["accuracy"])
    grey = dataset.images[:, 0].numpy()
    for batch in (grey, np.stack([grey] * 3, axis=-1)):
        np.testing.assert_allclose(model.predict(batch).probabilities, whole.probabilities, atol=1e-6)


def test_an_exported_folder_predicts_what_its_run_does(results: fer_ddp.Results, exported: Path, faces: Path) -> None:
    images = fer_ddp.FERDataset(faces, "test").images
    model, run = fer_ddp.load(str(exported), "cpu"), fer_ddp.load(results.folder, "cpu")
    assert (model.class_names, model.image_shape) == (run.class_names, run.image_shape)
    np.testing.assert_allclose(model.predict(images).probabilities, run.predict(images).probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "there are no images to classify; give one or more"),
        (3, "image 0: is of type int; it should be a path, a PIL image, an array or a tensor"),
        (np.zeros((48, 48)), r"image 0: is an array of float64 \(48, 48\); it should be uint8, 0 to 255, of shape"),
        ([np.zeros((3, 48, 48), np.uint8)], r"image 0: is an array of uint8 \(3, 48, 48\); it should be uint8"),
        (np.zeros((0, 48), np.uint8), r"image 0: is an array of uint8 \(0, 48\)"),
        (np.zeros((48, 48, 4), np.uint8), r"image 0: is an array of uint8 \(48, 48, 4\); it should be uint8"),
        (Image.new("L", (0, 5)), "image 0: is an image of 0 x 5 pixels; it should have some"),
        (Image.new("LAB", (48, 48)), "image 0: is an image of mode LAB; save it as 8-bit grey or RGB"),
        (["absent.png"], "absent.png: No such file or directory; give image files, PNG or JPEG"),
    ],
    ids=[
        "none",
        "no image",
        "not uint8",
        "channels first",
        "empty",
        "RGBA array",
        "no pixels",
        "unusual mode",
        "absent",
    ],
)
def test_what_is_not_an_image_raises_a_run_error(results: fer_ddp.Results, images: Any, message: str) -> None:
    with pytest.raises(fer_ddp.RunError, match=message):
        fer_ddp.load(results.folder, "cpu").predict(images)


@pytest.mark.parametrize("device", ["gpu", "cuda:97"])
def test_a_device_that_is_not_there_raises_a_job_error(job: fer_ddp.Job, results: fer_ddp.Results, device: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: fer_ddp.train(job, device),
        lambda: fer_ddp.evaluate(results.folder, device=device),
        lambda: fer_ddp.load(results.folder, device),
    ]
    for call in calls:
        with pytest.raises(fer_ddp.JobError, match=rf"^device: is '{device}'; this machine has cpu"):
            call()


def test_the_name_of_a_recipe_is_not_trained() -> None:
    with pytest.raises(fer_ddp.JobError, match=r"load it first: fer_ddp\.train\(fer_ddp\.load_job\('smoke'\)\)"):
        fer_ddp.train("smoke")  # type: ignore[arg-type]


def test_one_process_trains_one_run_at_a_time(
    job: fer_ddp.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[fer_ddp.JobError] = []

    def train_another(*_: object) -> None:
        with pytest.raises(fer_ddp.JobError) as error:
            fer_ddp.train(job, "cpu")
        refused.append(error.value)

    monkeypatch.setattr("fer_ddp.training.run._train_and_evaluate", lambda *_: in_a_thread(train_another))
    first = dataclasses.replace(job, run=str(tmp_path / "first"))
    fer_ddp.train(first, "cpu")
    assert [str(error).split(",")[0] for error in refused] == [f"{job.run}: this process trains another run"]


def test_values_of_numpy_and_a_single_override_are_taken() -> None:
    job = fer_ddp.load_job("smoke", "seed=3", epochs=np.int64(2), **{"model.arguments.channels": np.array([4, 8])})
    assert (job.seed, job.epochs, job.model.arguments["channels"]) == (3, 2, [4, 8])


def test_a_folder_without_a_model_raises_a_job_error(tmp_path: Path) -> None:
    with pytest.raises(fer_ddp.JobError, match=r"config\.yaml"):
        fer_ddp.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_damaged_exported_folder_raises_a_run_error(exported: Path, tmp_path: Path, name: str) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: None if path.name != name else 100])
    with pytest.raises(fer_ddp.RunError, match="damaged"):
        fer_ddp.load(tmp_path)


def test_a_report_of_one_run_is_written(results: fer_ddp.Results, tmp_path: Path) -> None:
    written = fer_ddp.write_report(str(results.folder), str(tmp_path / "report.html"))
    assert written.page == tmp_path / "report.html"
    assert "tiny" in written.page.read_text()
