"""Compact Convolutional Transformer, CCT-7/3x1 (Hassani et al. 2021), as the L2 paper trains it on CIFAR.

3,760,139 parameters for 10 classes at 32 pixels, 256 features: the sequence, pooled with learned weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ood.nets.layers import Dropout, DropPath

LAYERS, HEADS, WIDTH, HIDDEN = 7, 4, 256, 512
ATTENTION_DROPOUT = 0.1


class Attention(nn.Module):
    """Multi-head self-attention whose dropout is drawn for the global batch."""

    def __init__(self, dropout: float):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.attention_dropout, self.dropout = Dropout(ATTENTION_DROPOUT), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        weights = self.attention_dropout((q @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(-1))
        return self.dropout(self.project((weights @ v).transpose(1, 2).reshape(batch, length, WIDTH)))


class Layer(nn.Module):
    """Pre-norm attention, then a norm between the residual branches, and a GELU perceptron (the released code's order)."""

    def __init__(self, dropout: float, drop_path: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention(dropout)
        self.linear1, self.linear2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.dropout, self.drop_path = Dropout(dropout), DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm2(x + self.drop_path(self.attention(self.norm1(x))))
        y = self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(x)))))
        return x + self.drop_path(y)


class CCT(nn.Module):
    """One 3x3 convolution with pooling makes the sequence; seven layers; attention pools it."""

    def __init__(self, size: int, dropout: float, drop_path: float):
        super().__init__()
        self.tokenizer = nn.Conv2d(3, WIDTH, 3, padding=1, bias=False)
        self.place = nn.Parameter(torch.zeros(1, (size // 2) ** 2, WIDTH))
        self.dropout = Dropout(dropout)
        self.layers = nn.Sequential(*[Layer(dropout, drop_path * i / (LAYERS - 1)) for i in range(LAYERS)])
        self.norm, self.pool = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1)
        nn.init.trunc_normal_(self.place, std=0.2)
        nn.init.kaiming_normal_(self.tokenizer.weight)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.tokenizer(x)), 3, 2, 1)
        sequence = self.norm(self.layers(self.dropout(maps.flatten(2).transpose(1, 2) + self.place)))
        return (self.pool(sequence).softmax(1).transpose(1, 2) @ sequence).squeeze(1)


def backbone(*, size: int, dropout: float, drop_path: float) -> tuple[nn.Module, int]:
    """The network without its head, and its number of features."""
    return CCT(size, dropout, drop_path), WIDTH
