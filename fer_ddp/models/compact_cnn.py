"""A small residual network for two CPU cores: the first convolution and each stage halve the image's side."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


class CompactCNN(nn.Module):
    """A 4x4 stem of stride 2, stages of 64, 128 and 256 channels, maximum and mean pooling into one linear layer.

    Source: ours, after airbench96 (Jordan 2024, arXiv 2404.00498): a stage is a convolution with pooling, then two
    convolutions with a shortcut. Batch norm follows each convolution; pooling comes before batch norm and activation,
    which then process a quarter of the values. Each stage costs the same, 21 million multiply-adds, since convolutions
    take five sixths of a step's time on a CPU.
    1,942,215 parameters and 64.0 million multiply-adds, for one 48x48 grey image and 7 classes.
    Input (B, in_channels, image_size, image_size), float, normalized, image_size at least 16; output logits
    (B, num_classes). The same weights take images of any size.

    `stem_channels`, `stem_kernel`, `stem_stride`: of the first convolution; an even kernel with stride 2, an odd one
    with stride 1. `channels`: of each stage, two or more. `first_pair`: whether the first stage has its two
    convolutions with a shortcut; `last_pairs`: how many such pairs the last stage has. `gelu`: GELU instead of ReLU.
    `squeeze`: squeeze-and-excitation at the end of each pair (Hu et al. 2018, arXiv 1709.01507). `block_dropout`:
    dropout of whole channels after each stage. `dropout`: dropout before the linear layer.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        stem_channels: int = 32,
        stem_kernel: int = 4,
        stem_stride: int = 2,
        channels: Sequence[int] = (64, 128, 256),
        first_pair: bool = True,
        last_pairs: int = 1,
        gelu: bool = False,
        squeeze: bool = False,
        block_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if stem_stride > 2 or stem_kernel < stem_stride or (stem_kernel - stem_stride) % 2:
            raise ValueError(
                f"stem_kernel={stem_kernel} with stem_stride={stem_stride} is none of the stems it can have: "
                f"an even kernel with stride 2, which halves the side, or an odd one with stride 1, which keeps it"
            )
        if len(channels) < 2:
            raise ValueError(f"channels={list(channels)} is one stage; there must be two or more")
        activation = nn.GELU if gelu else nn.ReLU
        self.stem = nn.Sequential(
            nn.Conv2d(
                in_channels,
                stem_channels,
                stem_kernel,
                stride=stem_stride,
                padding=(stem_kernel - stem_stride) // 2,
                bias=False,
            ),
            nn.BatchNorm2d(stem_channels),
            activation(),
        )
        pairs = [int(first_pair), *[1] * (len(channels) - 2), last_pairs]
        stages = [
            _Stage(before, after, number, activation, squeeze, block_dropout)
            for (before, after), number in zip(pairwise([stem_channels, *channels]), pairs, strict=True)
        ]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * channels[-1], num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, side, side)."""
        features = self.stages(self.stem(images))  # B 256 3 3, from B 1 48 48 through B 32 24 24
        pooled = torch.cat([features.amax(dim=(2, 3)), features.mean(dim=(2, 3))], dim=1)  # B 512
        logits: torch.Tensor = self.head(pooled)  # B 7
        return logits


class _Stage(nn.Module):
    """A convolution with max pooling, which halves the side, then pairs of convolutions with an identity shortcut."""

    def __init__(
        self, in_channels: int, channels: int, pairs: int, activation: type[nn.Module], squeeze: bool, dropout: float
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(channels),
            activation(),
        )
        self.pairs = nn.Sequential(*(_Pair(channels, activation, squeeze) for _ in range(pairs)))
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.dropout(self.pairs(self.reduce(images)))  # B channels S/2 S/2
        return features


class _Pair(nn.Module):
    """Two convolutions with an identity shortcut; the shape stays."""

    def __init__(self, channels: int, activation: type[nn.Module], squeeze: bool) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            activation(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.squeeze: nn.Sequential | None = None
        if squeeze:
            hidden = max(channels // 8, 8)
            layers = (nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())
            self.squeeze = nn.Sequential(*layers)
        self.activation = activation()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.convolutions(images)
        if self.squeeze is not None:
            features = features * self.squeeze(features.mean(dim=(2, 3)))[:, :, None, None]
        output: torch.Tensor = self.activation(images + features)
        return output
