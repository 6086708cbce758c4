"""The Outlier Exposure paper's MNIST network: 21,840 parameters for 10 classes, 50 features, one grey channel of 28 pixels."""

import torch.nn.functional as F
from torch import Tensor, nn

from ood.nets.layers import Dropout2d


class ConvNet(nn.Module):
    """Two 5x5 convolutions, each pooled before its activation, and a linear layer."""

    def __init__(self, dropout: float):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.dropout = Dropout2d(dropout)
        self.linear = nn.Linear(320, 50)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x[:, :1]), 2))
        x = F.relu(F.max_pool2d(self.dropout(self.conv2(x)), 2))
        return F.relu(self.linear(x.flatten(1)))


def backbone(*, size: int, dropout: float) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features."""
    return ConvNet(dropout), 50
