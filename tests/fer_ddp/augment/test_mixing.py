"""Mixup and CutMix: pairs keep what they hold together, in the right shares."""

from dataclasses import replace

import pytest
import torch
from distributions import IMPLAUSIBLE, assert_distributed
from scipy import stats
from torch import Tensor

from fer_ddp.augment.mixing import PairMixing
from fer_ddp.augment.parameters import AugmentConfig, UniformDraws


def pairs(count: int, side: int = 8) -> tuple[Tensor, Tensor]:
    """``count`` black images of class 0 and white ones of class 1 in turn: a value is the share of the white one."""
    black_and_white = (torch.arange(2 * count) % 2).double()
    batch = black_and_white[:, None, None, None].expand(2 * count, 1, side, side)
    return batch, torch.stack([1 - black_and_white, black_and_white], dim=1)


def mixed(count: int, config: AugmentConfig, side: int = 8) -> tuple[Tensor, Tensor]:
    return mix_pairs(*pairs(count, side), torch.arange(2 * count), config)


def mix_pairs(batch: Tensor, targets: Tensor, positions: Tensor, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    draws = UniformDraws.of(config, 0, positions, batch.dtype)
    return PairMixing(config, batch.device)(batch, targets, draws)


def which_are_cut(images: Tensor) -> Tensor:
    """bool (batch,): the images that are black and white, without a mixture."""
    return ((images == 0) | (images == 1)).all(dim=(1, 2, 3))


MIXUP = AugmentConfig(mixup_alpha=0.4)
CUTMIX = AugmentConfig(cutmix_alpha=1.0)
BOTH = AugmentConfig(mixup_alpha=1.0, cutmix_alpha=1.0)
EACH_MIXING = pytest.mark.parametrize("config", [MIXUP, CUTMIX, BOTH], ids=["mixup", "cutmix", "both"])


@EACH_MIXING
def test_targets_are_mixed_by_the_share_of_the_pixels(config: AugmentConfig) -> None:
    output, targets = mixed(500, config)
    white = output.mean(dim=(1, 2, 3))
    torch.testing.assert_close(targets, torch.stack([1 - white, white], dim=1), atol=1e-12, rtol=0)


@EACH_MIXING
def test_what_a_pair_holds_together_is_kept(config: AugmentConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(40, 3, 8, 6, generator=generator, dtype=torch.float64)
    targets = torch.rand(40, 7, generator=generator, dtype=torch.float64)
    targets = targets / targets.sum(dim=1, keepdim=True)
    new_batch, new_targets = mix_pairs(batch, targets, torch.arange(100, 140), config)
    torch.testing.assert_close(new_batch.view(20, 2, 3, 8, 6).sum(dim=1), batch.view(20, 2, 3, 8, 6).sum(dim=1))
    torch.testing.assert_close(new_targets.view(20, 2, 7).sum(dim=1), targets.view(20, 2, 7).sum(dim=1))
    torch.testing.assert_close(new_targets.sum(dim=1), torch.ones(40, dtype=torch.float64))
    assert not torch.equal(new_batch, batch)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_the_share_of_mixup_is_beta_distributed(alpha: float) -> None:
    shares = mixed(5000, AugmentConfig(mixup_alpha=alpha), side=1)[1][::2, 0]
    assert_distributed(shares, stats.beta(alpha, alpha))


def test_cutmix_puts_one_rectangle_of_the_partner_in() -> None:
    output = mixed(300, CUTMIX, side=24)[0][:, 0]
    other = output[::2] == 1
    assert torch.equal(other, other.any(dim=1, keepdim=True) & other.any(dim=2, keepdim=True))
    assert torch.equal(other, output[1::2] == 0)


def test_the_rectangle_of_cutmix_has_the_shape_of_the_image_and_the_area_drawn() -> None:
    batch = torch.zeros(2000, 1, 40, 80, dtype=torch.float64)
    batch[1::2] = 1
    other = mix_pairs(batch, batch[:, 0, :1, 0], torch.arange(2000), CUTMIX)[0][::2, 0] == 1
    rows, columns = other.any(dim=2), other.any(dim=1)
    inside = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1]) & rows.any(dim=1)
    # Beta(1, 1) is the uniform distribution: the partner's area is 1 - a uniform number.
    area = UniformDraws.of(CUTMIX, 0, torch.arange(2000), torch.float64).unit("cutmix")[::2]
    expected = (1 - area).sqrt()
    measured = torch.stack([rows.sum(dim=1) / 40, columns.sum(dim=1) / 80], dim=1)
    assert int(inside.sum()) > 100
    torch.testing.assert_close(
        measured[inside].double(), expected[inside, None].expand(-1, 2).double(), atol=1 / 40 + 1e-3, rtol=0
    )


def test_with_both_on_half_of_the_pairs_are_cut() -> None:
    cut = which_are_cut(mixed(1000, BOTH)[0][::2])
    assert stats.binomtest(int(cut.sum()), 1000, 0.5).pvalue > IMPLAUSIBLE


def test_which_pairs_are_cut_does_not_depend_on_the_size_of_the_cut() -> None:
    cut = which_are_cut(mixed(1000, BOTH)[0][::2])
    share = mixed(1000, replace(BOTH, mixup_alpha=0.0))[1][::2, 0]
    assert stats.ks_2samp(share[cut].numpy(), share[~cut].numpy()).pvalue > IMPLAUSIBLE


def test_turning_cutmix_on_does_not_change_the_pairs_that_are_mixed() -> None:
    both, alone = mixed(200, BOTH)[0], mixed(200, replace(BOTH, cutmix_alpha=0.0))[0]
    cut = which_are_cut(both)
    assert torch.equal(both[~cut], alone[~cut])
    assert 0 < int(cut.sum()) < 400


@pytest.mark.parametrize("parts", [[8, 8, 8], [2] * 12], ids=["ranks", "single pairs"])
def test_a_pair_is_mixed_alike_in_every_batch(parts: list[int]) -> None:
    positions = torch.arange(600, 624)
    batch, targets = pairs(12)
    whole = mix_pairs(batch, targets, positions, BOTH)
    split = zip(batch.split(parts), targets.split(parts), positions.split(parts), strict=True)
    pieces = [mix_pairs(*part, BOTH) for part in split]
    for got, expected in zip(zip(*pieces, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(got), expected)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)], ids=str)
def test_mixed_images_and_targets_keep_their_dtypes(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    batch, targets = pairs(4)
    output = mix_pairs(batch.to(dtypes[0]), targets.to(dtypes[1]), torch.arange(8), BOTH)
    assert (output[0].dtype, output[1].dtype) == dtypes
