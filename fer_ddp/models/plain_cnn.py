"""The baseline of the write-up and its optimizations: one convolution a block, then two fully connected layers."""

from collections.abc import Sequence

import torch
from torch import nn


class PlainCNN(nn.Module):
    """A plain CNN: blocks of one 3x3 convolution, ReLU and 2x2 max pooling, then two fully connected layers.

    Source: the write-up's baseline, "a simple CNN", whose layers it does not list; the defaults are our reading of it.
    2,380,167 parameters and 13.6 million multiply-adds with the defaults, for one 48x48 grey image and 7 classes.
    Input (B, in_channels, image_size, image_size), float, normalized; output logits (B, num_classes). `image_size` is
    at least 2 to the power of the number of blocks.

    `channels`: filters of each block. `batch_norm`: a batch norm after each convolution. `block_dropout`: dropout at
    the end of each block. `hidden`: width of the first fully connected layer. `dropout`: dropout after that layer.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        channels: Sequence[int] = (32, 64),
        batch_norm: bool = False,
        block_dropout: float = 0.0,
        hidden: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        inputs = [in_channels, *channels[:-1]]
        self.blocks = nn.Sequential(
            *(_block(before, after, batch_norm, block_dropout) for before, after in zip(inputs, channels, strict=True))
        )
        side = image_size // 2 ** len(channels)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels[-1] * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, image_size, image_size)."""
        features = self.blocks(images)  # B 64 12 12, from B 1 48 48
        logits: torch.Tensor = self.head(features)  # B 7
        return logits


def _block(in_channels: int, out_channels: int, batch_norm: bool, dropout: float) -> nn.Sequential:
    """Halves the side. Pooling before the ReLU gives the same values, as it is monotone, at a quarter of the cost."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(out_channels))
    layers += [nn.MaxPool2d(2), nn.ReLU()]
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
