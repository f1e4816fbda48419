"""What a generator reads from a prompt for the whole of a thing: numbers, and patterns over its tokens."""

import math

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from scaledreamer.model.layers.attention import Attention
from scaledreamer.model.text import TextEmbedding

NORM_EPS = 1e-6


class Reader(nn.Module):
    """A few learned queries attend to the prompt's tokens, an MLP makes O numbers of each: a colour, three factors.

    What one word says is found by looking at that word. From the pooled prompt the factors of a size word are learned
    with an error of .09 after 600 steps; so they are with .004 (docs/log.md).
    """

    def __init__(self, text_width: int, queries: int, width: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.attention = Attention(width, heads, text_width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, NORM_EPS) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU())
        self.numbers = nn.Linear(4 * width, outputs)

    def start_at(self, value: float) -> None:
        """Let all numbers be `value` until something is learned."""
        nn.init.zeros_(self.numbers.weight)
        nn.init.constant_(self.numbers.bias, value)

    def forward(self, text: TextEmbedding) -> Float[Tensor, "B K O"]:
        x = repeat(self.queries, "K D -> B K D", B=text.tokens.shape[0])
        x = x + self.attention(self.norm1(x), text.tokens, text.mask)
        numbers: Tensor = self.numbers(self.mlp(self.norm2(x)))
        return numbers


class Patterns(nn.Module):
    """Learned patterns over N tokens, mixed by the pooled prompt: text and place meet before the first block.

    FiLM and the cross-attention of a first block say the same to every place; what differs from place to place by the
    prompt is otherwise a product that the blocks have to find.
    """

    def __init__(self, text_width: int, patterns: int, tokens: int, inner: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(text_width, patterns)
        self.patterns = nn.Parameter(torch.randn(patterns, tokens, inner))
        self.to_tokens = nn.Linear(inner, width)
        self.scale = 3 * patterns**-0.5  # about unit variance at the start

    def forward(self, text: TextEmbedding) -> Float[Tensor, "B N D"]:
        weights = self.scale * self.mix(unit_variance(text.pooled))
        tokens: Tensor = self.to_tokens(torch.einsum("bk,knc->bnc", weights, self.patterns))
        return tokens


def unit_variance(pooled: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
    """A vector of length 1 scaled so that its elements have variance 1 or so."""
    return pooled * math.sqrt(pooled.shape[-1])
