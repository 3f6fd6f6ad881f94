"""The model of the write-up's Model 3: residual blocks and global average pooling."""

import torch
from torch import nn


class ImprovedFaceCNN(nn.Module):
    """Four residual blocks of 64, 128, 256 and 512 filters, global average pooling, a head of 512 -> 256 -> classes.

    Source: the write-up's Model 3, its skip connections in the manner of He et al. 2016 (arXiv 1512.03385, projection
    shortcuts). Where it is silent we chose two 3x3 convolutions a block, max pooling after each block, a negative slope
    of 0.01, and a head dropout of 0.5.
    4,993,543 parameters and 482.9 million multiply-adds, for one 48x48 grey image and 7 classes.
    Input (B, in_channels, image_size, image_size), float, normalized, image_size at least 16; output logits
    (B, num_classes).
    """

    def __init__(self, *, in_channels: int, image_size: int, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _ResidualBlock(in_channels, 64),
            _ResidualBlock(64, 128),
            _ResidualBlock(128, 256),
            _ResidualBlock(256, 512),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(512, 256, bias=False),
            nn.BatchNorm1d(256),
            nn.LeakyReLU(),
            nn.Dropout(dropout),
            nn.Linear(256, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, image_size, image_size)."""
        features = self.blocks(images)  # B 512 3 3, from B 1 48 48
        pooled = self.pool(features)  # B 512 1 1
        logits: torch.Tensor = self.head(pooled)  # B 7
        return logits


class _ResidualBlock(nn.Module):
    """Two convolutions beside a 1x1 shortcut, added, activated and pooled: the side is halved.

    Pooled before the last activation: the same numbers, as LeakyReLU is monotone, at a quarter of the work.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.finish = nn.Sequential(nn.MaxPool2d(2), nn.LeakyReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        summed = self.convolutions(images) + self.shortcut(images)  # B out_channels S S
        finished: torch.Tensor = self.finish(summed)  # B out_channels S/2 S/2
        return finished
