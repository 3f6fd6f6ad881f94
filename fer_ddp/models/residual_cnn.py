"""The models of the write-up's Models 3 and 4: blocks of two convolutions, with or without a skip connection."""

import torch
from torch import nn


class AdvancedFaceCNN(nn.Module):
    """Four blocks of 64, 128, 256 and 512 filters: two convolutions, max pooling and dropout; then a pooled head.

    Source: the write-up's Model 4. Each convolution has batch norm and LeakyReLU. It leaves the head open: ours is that
    of Model 3 (global average pooling, 512 -> 256 -> classes, dropout 0.5). It has no skip connection and names that as
    the likeliest reason for its accuracy; `skip=True` puts a 1x1 shortcut around each block's two convolutions.
    4,819,527 parameters and 468.6 million multiply-adds (with `skip`, 4,993,543 and 482.9 million), for one 48x48 grey
    image and 7 classes.
    Input (B, in_channels, image_size, image_size), float, normalized, image_size at least 16; output logits
    (B, num_classes).

    `block_dropout`: dropout at the end of each block. `dropout`: dropout in the head.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        num_classes: int,
        skip: bool = False,
        block_dropout: float = 0.25,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _Block(in_channels, 64, skip, block_dropout),
            _Block(64, 128, skip, block_dropout),
            _Block(128, 256, skip, block_dropout),
            _Block(256, 512, skip, block_dropout),
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


class ImprovedFaceCNN(AdvancedFaceCNN):
    """Four residual blocks of 64, 128, 256 and 512 filters, global average pooling, a head of 512 -> 256 -> classes.

    Source: the write-up's Model 3, its skip connections in the manner of He et al. 2016 (arXiv 1512.03385, projection
    shortcuts). Where it is silent we chose two 3x3 convolutions a block, max pooling after each block, a negative slope
    of 0.01, and a head dropout of 0.5.
    4,993,543 parameters and 482.9 million multiply-adds, for one 48x48 grey image and 7 classes.
    Input (B, in_channels, image_size, image_size), float, normalized, image_size at least 16; output logits
    (B, num_classes).
    """

    def __init__(self, *, in_channels: int, image_size: int, num_classes: int, dropout: float = 0.5) -> None:
        super().__init__(
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            skip=True,
            block_dropout=0.0,
            dropout=dropout,
        )


class _Block(nn.Module):
    """Two convolutions, with `skip` a 1x1 shortcut beside them, then max pooling and dropout; halves the side.

    Pooling before the last activation gives the same values, as LeakyReLU is monotone, at a quarter of the cost.
    """

    def __init__(self, in_channels: int, out_channels: int, skip: bool, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Sequential | None = None
        if skip:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.finish = nn.Sequential(nn.MaxPool2d(2), nn.LeakyReLU(), nn.Dropout(dropout))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.convolutions(images)  # B out_channels S S
        if self.shortcut is not None:
            features = features + self.shortcut(images)
        finished: torch.Tensor = self.finish(features)  # B out_channels S/2 S/2
        return finished
