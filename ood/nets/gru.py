"""A recurrent reader of texts: words as vectors, gated recurrent units, the state behind the last word (the OE paper's text classifier).

Its weights are those of linear layers, one for what comes in and one for the state of each layer, so masks cover them as they do any other
linear layer; the table of words isn't masked.
"""

import torch
from torch import Tensor, nn

from ood.distributed import longest


class GRU(nn.Module):
    """Numbers of words int (N, L), 0 behind the end -> the last layer's state after the last word (N, width).

    What stands behind the end isn't read. In training texts are cut behind the longest of a batch, which is quicker; otherwise not, so that
    even the last bits of a text's features are the same in whatever company it comes.
    """

    def __init__(self, layers: int, width: int, vocabulary: int, embedding: int):
        super().__init__()
        self.width = width
        self.words = nn.Embedding(vocabulary, embedding, padding_idx=0)
        self.inputs = nn.ModuleList(nn.Linear(width if layer else embedding, 3 * width) for layer in range(layers))
        self.states = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        for layer in [*self.inputs, *self.states]:  # torch.nn.GRU's first weights
            nn.init.uniform_(layer.weight, -(width**-0.5), width**-0.5)
            nn.init.uniform_(layer.bias, -(width**-0.5), width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        last = (x != 0).sum(1).clamp(min=1) - 1
        if self.training:
            x = x[:, : longest(last + 1)]
        weights: list[Tensor] = []
        for taken, kept in zip(self.inputs, self.states, strict=True):
            weights += [taken.weight, kept.weight, taken.bias, kept.bias]  # type: ignore[list-item]  # torch says of any module's parts
        seen = self.words(x)
        start = seen.new_zeros(len(self.inputs), len(x), self.width)
        # The kernel of torch.nn.GRU, which keeps its weights where neither a mask nor functional_call reaches them.
        states, _ = torch.gru(seen, start, weights, True, len(self.inputs), 0.0, self.training, False, True)
        return states[torch.arange(len(x), device=x.device), last]


def backbone(layers: int, width: int, *, size: int, embedding: int, vocabulary: int) -> tuple[nn.Module, int]:
    """A GRU and its number of features; texts may have any length, so `size` says nothing to it."""
    del size
    return GRU(layers, width, vocabulary, embedding), width
