"""What a model computes on the way: the features before its last layer, and where in an image a class was seen."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

_BATCH = 64


@dataclass
class _Watched:
    """The last feature maps and features of the forward passes inside `_watching`."""

    maps: Tensor | None = None
    """(batch, channels, height, width), more than one pixel: the last convolution's, after norm and activation."""
    features: Tensor | None = None
    """What the last linear layer was given."""
    _shape: torch.Size | None = field(default=None)

    def see(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """After each layer's forward."""
        if isinstance(module, nn.Linear):
            self.features = inputs[0]
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        if isinstance(module, nn.Conv2d) and output.shape[2:].numel() > 1:
            self.maps, self._shape = output, output.shape
        elif output.shape == self._shape:  # norm, activation, a block's sum with its input
            self.maps = output


def _watching(model: nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, _Watched]:
    """What ``run``, which calls ``model``, returns, and what was seen."""
    watched = _Watched()
    hooks = [module.register_forward_hook(watched.see) for module in model.modules() if module is not model]
    try:
        return run(), watched
    finally:
        for hook in hooks:
            hook.remove()


def grad_cam(model: nn.Module, images: Tensor, classes: Tensor) -> NDArray[np.float32] | None:
    """Where each image speaks for a class: (n, height, width) in [0, 1]; None for a model without convolutions.

    images: as the model takes them, (n, channels, height, width). classes: int64 (n,). The last convolution's maps are
    weighted by the mean gradient of the class's logit over each map, summed, negative values set to 0, enlarged to the
    image, and divided by their maximum: Selvaraju et al. 2017, Grad-CAM, arXiv 1610.02391, equations 1 and 2.
    """
    was_training = model.training
    model.eval()
    parts = []
    for batch, of_batch in zip(images.split(_BATCH), classes.split(_BATCH), strict=True):
        with torch.enable_grad():
            logits, watched = _watching(model, partial(model, batch.clone().requires_grad_()))
            if watched.maps is None:
                return None
            chosen = logits.gather(1, of_batch[:, None].to(logits.device)).sum()
            (gradients,) = torch.autograd.grad(chosen, watched.maps)
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        heat = (weights * watched.maps.detach()).sum(dim=1, keepdim=True).relu()
        heat = functional.interpolate(heat, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        highest = heat.amax(dim=(1, 2), keepdim=True)
        parts.append((heat / highest.clamp_min(torch.finfo(heat.dtype).tiny)).float().cpu())
    model.train(was_training)
    return torch.cat(parts).numpy()


def penultimate_features(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """What the last linear layer is given for each image, (n, features); without one, the last maps' mean.

    images: as the model takes them, (n, channels, height, width).
    """
    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode():
        for batch in images.split(_BATCH):
            logits, watched = _watching(model, partial(model, batch))
            features = watched.features
            if features is None:
                features = logits if watched.maps is None else watched.maps.mean(dim=(2, 3))
            parts.append(features.reshape(len(batch), -1).float().cpu())
    model.train(was_training)
    return torch.cat(parts).numpy()
