"""Dropout that follows the sample, against plain references and torch's own modules."""

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from scipy import stats
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from fer_ddp import randomness
from fer_ddp.errors import JobError
from fer_ddp.layers.dropout import PositionDropout, SamplePositions, replace_dropout

IMPLAUSIBLE = 1e-4


def dropout(p: float = 0.25, unit: str = "element", *, name: str = "head", seed: int = 0) -> PositionDropout:
    return PositionDropout(p, unit, name, SamplePositions(seed))


def drop(module: PositionDropout, input: Tensor, positions: Tensor | None = None) -> Tensor:
    """One forward on its own; the positions count from 0 unless given."""
    module.current.set(torch.arange(len(input)) if positions is None else positions)
    output: Tensor = module(input)
    return output


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


# What follows the sample


@pytest.mark.parametrize("unit", ["element", "channel", "sample"])
@pytest.mark.parametrize("p", [0.25, 0.3], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("shape", [(12, 7), (12, 5, 9), (12, 5, 3, 3)], ids=str)
@pytest.mark.parametrize("parts", [[4, 4, 4], [1] * 12, [5, 7]], ids=["ranks", "single samples", "micro-batches"])
def test_a_sample_has_one_mask_in_every_batch(unit: str, p: float, shape: tuple[int, ...], parts: list[int]) -> None:
    positions = torch.arange(500, 512)
    whole = drop(dropout(p, unit), ones(*shape), positions)
    pieces = [drop(dropout(p, unit), ones(len(part), *shape[1:]), part) for part in positions.split(parts)]
    assert torch.equal(torch.cat(pieces), whole)


def test_samples_have_masks_of_their_own() -> None:
    rows = drop(dropout(0.5), ones(100, 64))
    assert len(rows.unique(dim=0)) == 100


def test_positions_have_masks_of_their_own() -> None:
    module = dropout(0.5)
    assert not torch.equal(drop(module, ones(1, 64), torch.tensor([3])), drop(module, ones(1, 64), torch.tensor([4])))


@pytest.mark.parametrize("other", [dropout(0.5, name="tail"), dropout(0.5, seed=1)], ids=["layer", "seed"])
def test_layers_and_seeds_have_masks_of_their_own(other: PositionDropout) -> None:
    one, two = drop(dropout(0.5), ones(64, 256)) > 0, drop(other, ones(64, 256)) > 0
    agreement = stats.binomtest(int((one == two).sum()), one.numel(), 0.5)
    assert agreement.pvalue > IMPLAUSIBLE


def test_two_uses_of_a_module_in_one_forward_have_masks_of_their_own() -> None:
    module = dropout(0.5)
    first, second = drop(module, ones(64, 256)) > 0, module(ones(64, 256)) > 0
    agreement = stats.binomtest(int((first == second).sum()), first.numel(), 0.5)
    assert agreement.pvalue > IMPLAUSIBLE


def test_the_uses_of_a_module_are_counted_again_in_each_forward() -> None:
    module = dropout(0.5)
    first = drop(module, ones(4, 64)), module(ones(4, 64))
    again = drop(module, ones(4, 64)), module(ones(4, 64))
    assert torch.equal(torch.stack(first), torch.stack(again))


@pytest.mark.parametrize("keys_given", [False, True], ids=["hashed here", "hashed with the batch"])
def test_masks_made_at_once_are_those_made_one_by_one(keys_given: bool) -> None:
    model = replace_dropout(nn.Sequential(nn.Dropout(0.25), nn.Dropout(0.5), nn.Dropout2d(0.3), nn.Dropout(0.3)), 7)
    current, positions = SamplePositions.of(model), torch.arange(5, 17)
    current.set(positions)
    one_by_one = model(ones(12, 6, 3, 3))
    assert list(current.units) == [f"dropout/{layer}/0" for layer in range(4)]
    keys = randomness.Streams(7, tuple(current.units), torch.device("cpu")).keys(positions)
    current.set(positions, keys if keys_given else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(randomness, "sample_keys", None)  # no layer makes its own
        assert torch.equal(model(ones(12, 6, 3, 3)), one_by_one)


def test_a_layer_that_masks_other_units_than_before_makes_its_own_mask() -> None:
    module = dropout(0.5)
    drop(module, ones(4, 64))
    assert torch.equal(drop(module, ones(4, 80)), drop(dropout(0.5), ones(4, 80)))


def test_rows_that_are_not_images_are_refused() -> None:
    module = dropout(name="features.3")
    module.current.set(torch.arange(4))
    with pytest.raises(JobError) as refusal:
        module(ones(8, 5))
    assert str(refusal.value) == (
        "model: the dropout layer features.3 sees 8 rows for 4 images, so it has no mask for each image; "
        "set its probability to 0"
    )


# Which units


def test_the_units_of_a_vector_are_the_coins_of_its_sample() -> None:
    keys = randomness.sample_keys(0, "dropout/head/0", torch.arange(6))
    assert torch.equal(drop(dropout(0.25), ones(6, 10)) > 0, randomness.bernoulli(keys, 10, 0.75))


def test_the_units_of_an_image_are_counted_by_row_column_and_channel() -> None:
    keys = randomness.sample_keys(0, "dropout/head/0", torch.arange(6))
    coins = randomness.bernoulli(keys, 3 * 4 * 5, 0.75).view(6, 4, 5, 3)
    assert torch.equal((drop(dropout(0.25), ones(6, 3, 4, 5)) > 0).permute(0, 2, 3, 1), coins)


@pytest.mark.parametrize("p", [0.25, 0.3])
def test_element_dropout_keeps_the_fraction_it_is_set_to(p: float) -> None:
    kept = drop(dropout(p), ones(64, 16, 24, 24)) > 0
    assert stats.binomtest(int(kept.sum()), kept.numel(), 1 - p).pvalue > IMPLAUSIBLE


def test_channel_dropout_zeroes_whole_channels() -> None:
    output = drop(dropout(0.5, "channel"), ones(32, 64, 3, 3))
    assert torch.equal(output, output[:, :, :1, :1].expand_as(output))
    assert stats.binomtest(int((output[:, :, 0, 0] > 0).sum()), 32 * 64, 0.5).pvalue > IMPLAUSIBLE


def test_sample_dropout_zeroes_whole_samples() -> None:
    output = drop(dropout(0.2, "sample"), ones(2048, 4, 3, 3))
    kept = int((output[:, 0, 0, 0] > 0).sum())
    assert torch.equal(output, output[:, :1, :1, :1].expand_as(output))
    assert stats.binomtest(kept, 2048, 0.8).pvalue > IMPLAUSIBLE


# What it does to them


@pytest.mark.parametrize("unit", ["element", "channel", "sample"])
@pytest.mark.parametrize(("p", "realised_keep"), [(0.25, 0.75), (0.3, 45875 / 65536)])
def test_the_expectation_is_kept(unit: str, p: float, realised_keep: float) -> None:
    output = drop(dropout(p, unit), ones(4096, 8, 2, 2))
    # Exactly: kept units are divided by the realised probability.
    assert output.unique().tolist() == [0.0, 1 / realised_keep]
    independent = {"element": 32, "channel": 8, "sample": 1}[unit] * 4096
    z = (float(output.mean()) - 1) / (p / (1 - p) / independent) ** 0.5
    assert 2 * stats.norm.sf(abs(z)) > IMPLAUSIBLE


def run(module: PositionDropout, input: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Output and input gradient of one forward and backward."""
    leaf = input.detach().requires_grad_()
    output = drop(module, leaf)
    output.backward(gradient)
    assert leaf.grad is not None
    return output.detach(), leaf.grad


FORMATS = [torch.contiguous_format, torch.channels_last]


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("gradient_format", FORMATS, ids=str)
@pytest.mark.parametrize("input_format", FORMATS, ids=str)
@pytest.mark.parametrize("unit", ["element", "channel", "sample"])
@pytest.mark.parametrize("p", [0.25, 0.3])
def test_forward_and_backward_are_mask_times_scale(
    unit: str, p: float, input_format: torch.memory_format, gradient_format: torch.memory_format
) -> None:
    mask = drop(dropout(p, unit), ones(6, 5, 4, 3)) > 0
    input, gradient = random(6, 5, 4, 3), random(6, 5, 4, 3) + 1
    module = dropout(p, unit)
    output, input_gradient = run(
        module, input.contiguous(memory_format=input_format), gradient.contiguous(memory_format=gradient_format)
    )
    assert torch.equal(output, torch.where(mask, input, 0) * (1 / module.keep))
    assert torch.equal(input_gradient, torch.where(mask, gradient, 0) * (1 / module.keep))
    assert output.is_contiguous(memory_format=input_format)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [1, 6])
def test_both_memory_formats_give_equal_results_and_are_kept(dtype: torch.dtype, channels: int) -> None:
    shape = (4, channels, 5, 7)
    input, gradient = random(*shape, dtype=dtype), random(*shape, dtype=dtype) - 1
    contiguous = run(dropout(), input, gradient)
    last = run(
        dropout(),
        input.contiguous(memory_format=torch.channels_last),
        gradient.contiguous(memory_format=torch.channels_last),
    )
    assert all(torch.equal(a, b) for a, b in zip(contiguous, last, strict=True))
    assert all(tensor.is_contiguous() for tensor in contiguous)
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in last)


def test_the_gradient_is_right_by_finite_differences() -> None:
    module = dropout(0.3)
    assert torch.autograd.gradcheck(lambda x: drop(module, x), random(3, 4, 2, 2).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("unit", ["element", "channel", "sample"])
def test_the_dtype_is_kept(unit: str, dtype: torch.dtype) -> None:
    output, gradient = run(dropout(0.25, unit), random(4, 3, 2, 2, dtype=dtype), ones(4, 3, 2, 2).to(dtype))
    assert (output.dtype, gradient.dtype) == (dtype, dtype)


def test_the_input_is_left_as_it_was() -> None:
    input = random(4, 3, 2, 2)
    before = input.clone()
    run(dropout(), input, ones(4, 3, 2, 2))
    assert torch.equal(input, before)


def test_evaluation_changes_nothing_and_needs_no_positions() -> None:
    input = random(4, 3, 2, 2)
    assert dropout().eval()(input) is input


def test_a_probability_of_0_changes_nothing_and_needs_no_positions() -> None:
    input = random(4, 3, 2, 2)
    assert dropout(0.0)(input) is input


def test_a_probability_of_1_leaves_nothing() -> None:
    output, gradient = run(dropout(1.0), random(4, 3, 2, 2), ones(4, 3, 2, 2))
    assert not output.any()
    assert not gradient.any()


# Replacing torch's modules


class EveryKind(nn.Module):
    """Each kind of module once, the element dropout at two paths and also used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Dropout2d(0.5), nn.ReLU())
        self.depth = StochasticDepth(0.5, "row")
        self.flatten = nn.Flatten(2)
        self.rows = nn.Dropout1d(0.5)
        self.drop = nn.Dropout(0.25, inplace=True)
        self.same = self.drop

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.rows(self.flatten(self.depth(self.stem(images))))
        output: Tensor = self.same(self.drop(hidden))
        return output


def kinds(model: nn.Module) -> dict[str, tuple[str, float, str]]:
    return {
        path: (module.unit, module.p, module.name)
        for path, module in model.named_modules()
        if isinstance(module, PositionDropout)
    }


def test_every_kind_is_replaced_and_named_by_its_path() -> None:
    assert kinds(replace_dropout(EveryKind(), 0)) == {
        "stem.1": ("channel", 0.5, "stem.1"),
        "depth": ("sample", 0.5, "depth"),
        "rows": ("channel", 0.5, "rows"),
        "drop": ("element", 0.25, "drop"),
        "same": ("element", 0.25, "same"),
    }


def test_a_model_with_every_kind_does_not_use_torchs_generator() -> None:
    model = replace_dropout(EveryKind(), 0)
    current = SamplePositions.of(model)
    before = torch.get_rng_state()
    current.set(torch.arange(4))
    model(torch.ones(4, 1, 6, 6)).sum().backward()
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_gives_a_sample_the_same_output_on_any_rank() -> None:
    model = replace_dropout(EveryKind().double(), 0)
    current = SamplePositions.of(model)
    images, positions = random(8, 1, 6, 6), torch.arange(40, 48)
    current.set(positions)
    whole = model(images)
    parts = []
    for image, part in zip(images.split(2), positions.split(2), strict=True):
        current.set(part)
        parts.append(model(image))
    assert torch.allclose(torch.cat(parts), whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("build", "dropouts", "depths"),
    [(torchvision.models.alexnet, 2, 0), (torchvision.models.efficientnet_b0, 1, 16)],
    ids=["alexnet", "efficientnet_b0"],
)
def test_no_random_module_is_left_in_a_model_of_torchvision(
    build: Callable[[], nn.Module], dropouts: int, depths: int
) -> None:
    with torch.device("meta"):  # only its structure is needed
        model = build()
    model = replace_dropout(model, 0)
    units = [unit for unit, _, _ in kinds(model).values()]
    assert (units.count("element"), units.count("sample")) == (dropouts, depths)
    of_torch = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, StochasticDepth)
    assert not [module for module in model.modules() if isinstance(module, of_torch)]


class DropPath(nn.Module):
    """Stochastic depth as timm, and code that is copied from it, calls and configures it."""

    def __init__(self, drop_prob: float, scale_by_keep: bool = True) -> None:
        super().__init__()
        self.drop_prob, self.scale_by_keep = drop_prob, scale_by_keep


@pytest.mark.parametrize(("scale_by_keep", "kept"), [(True, 4 / 3), (False, 1.0)])
def test_timms_stochastic_depth_drops_whole_samples_and_scales_the_others_if_it_is_to(
    scale_by_keep: bool, kept: float
) -> None:
    model = replace_dropout(nn.Sequential(DropPath(0.25, scale_by_keep)), 0)
    assert kinds(model) == {"0": ("sample", 0.25, "0")}
    SamplePositions.of(model).set(torch.arange(400))
    samples = model(ones(400, 3, 2, 2)).flatten(1)
    assert torch.equal(samples, samples[:, :1].expand(400, 12))
    assert samples.unique().tolist() == [0, kept]
    assert stats.binomtest(int((samples[:, 0] == 0).sum()), 400, 0.25).pvalue > IMPLAUSIBLE


def test_stochastic_depth_of_whole_batches_is_refused() -> None:
    model = nn.Sequential(nn.Identity(), StochasticDepth(0.5, "batch"))
    with pytest.raises(JobError) as refusal:
        replace_dropout(model, 0)
    assert str(refusal.value) == "model: 1 drops whole batches, which depends on the ranks; use mode 'row'"


def test_a_copied_model_has_the_same_masks() -> None:
    model = replace_dropout(EveryKind(), 0)
    current = SamplePositions.of(model)
    other = copy.deepcopy(model)
    images = torch.ones(4, 1, 6, 6)
    current.set(torch.arange(4))
    other.get_submodule("rows").current.set(torch.arange(4))  # type: ignore[operator, union-attr]
    assert torch.equal(model(images), other(images))
