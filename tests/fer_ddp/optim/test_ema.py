"""The average of the weights, by its definition."""

import torch
from torch import nn

from fer_ddp.optim.ema import EmaConfig, build_ema, update_ema


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()


def move(model: nn.Module, step: int) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(step)
    model(torch.arange(12.0, dtype=torch.float64).view(4, 3) * step)


def test_the_first_update_copies_and_the_next_ones_average_weights_and_statistics() -> None:
    model = small_model().train()
    config = EmaConfig(decay=0.9, warmup=False)
    ema = build_ema(model, config)
    assert ema is not None
    expected: dict[str, torch.Tensor] = {}
    for step in range(1, 4):
        move(model, step)
        update_ema(ema, model, config)
        now = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
        expected = {name: 0.9 * expected[name] + 0.1 * now[name] for name in now} if expected else now
    averaged = {name: ema.module.state_dict()[name] for name in expected}
    torch.testing.assert_close(averaged, expected, rtol=1e-14, atol=0)
    assert "1.running_mean" in averaged
    assert ema.module.state_dict()["1.num_batches_tracked"] == 3


def test_without_a_decay_there_is_no_average() -> None:
    assert build_ema(small_model(), EmaConfig()) is None


def test_unless_warm_up_is_off_the_first_averages_hold_less_of_the_old_one() -> None:
    model = small_model().train()
    config = EmaConfig(decay=0.9)
    ema = build_ema(model, config)
    assert ema is not None
    update_ema(ema, model, config)
    before = model.get_parameter("0.weight").detach().clone()
    move(model, 1)
    update_ema(ema, model, config)
    expected = before + (1 - 2 / 11) * (model.get_parameter("0.weight") - before)
    torch.testing.assert_close(ema.module.get_parameter("0.weight"), expected, rtol=1e-14, atol=0)
