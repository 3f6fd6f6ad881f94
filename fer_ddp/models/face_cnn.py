"""The model of the write-up's Models 1 and 2: four convolutions, two fully connected layers."""

import torch
from torch import nn


class FaceCNN(nn.Module):
    """Four convolutions of 64, 128, 256 and 512 filters, each with batch norm, ReLU and max pooling; two linear layers.

    Source: the write-up's Models 1 and 2. It leaves open the kernels (3x3 here) and the width between the two linear
    layers (512 here); its dropout of 0.5 is between them. The convolutions have no bias: batch norm has its own.
    3,914,183 parameters and 131.1 million multiply-adds, for one 48x48 grey image and 7 classes.
    Input (B, in_channels, image_size, image_size), float, normalized, image_size at least 16; output logits
    (B, num_classes).
    """

    def __init__(
        self, *, in_channels: int, image_size: int, num_classes: int, hidden: int = 512, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _block(in_channels, 64),
            _block(64, 128),
            _block(128, 256),
            _block(256, 512),
        )
        side = image_size // 16
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(512 * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of images (B, in_channels, image_size, image_size)."""
        features = self.blocks(images)  # B 512 3 3, from B 1 48 48
        logits: torch.Tensor = self.head(features)  # B 7
        return logits


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Halves the side. Pooling before the ReLU gives the same values, as it is monotone, at a quarter of the cost."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.MaxPool2d(2),
        nn.ReLU(),
    )
