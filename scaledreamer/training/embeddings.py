"""Text embeddings computed once: a table from prompt to rows, kept in fp16."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaledreamer.model.text import TextEmbedding, TextEncoder
from scaledreamer.training.priors.base import Condition
from scaledreamer.training.priors.props import condition

BATCH = 128


@dataclass
class PromptTable:
    """Embeddings of known prompts, a row each."""

    index: dict[str, int]
    tokens: Tensor
    pooled: Tensor
    mask: Tensor

    @staticmethod
    def build(encoder: TextEncoder, prompts: list[str]) -> "PromptTable":
        """Encode every distinct prompt once."""
        distinct = list(dict.fromkeys(prompts))
        parts = [encoder.encode(distinct[i : i + BATCH]) for i in range(0, len(distinct), BATCH)]
        masks = [p.mask for p in parts if p.mask is not None]
        return PromptTable(
            {prompt: row for row, prompt in enumerate(distinct)},
            torch.cat([p.tokens for p in parts]).half(),
            torch.cat([p.pooled for p in parts]).half(),
            torch.cat(masks),
        )

    def add(self, encoder: TextEncoder, prompts: list[str]) -> None:
        """Encode the prompts that are not here yet."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.index]
        if not new:
            return
        other = PromptTable.build(encoder, new)
        self.index |= {prompt: len(self.index) + row for prompt, row in other.index.items()}
        self.tokens = torch.cat([self.tokens, other.tokens])
        self.pooled = torch.cat([self.pooled, other.pooled])
        self.mask = torch.cat([self.mask, other.mask])

    def text(self, prompts: list[str]) -> TextEmbedding:
        """The embedding of known prompts."""
        rows = torch.tensor([self.index[prompt] for prompt in prompts])
        return TextEmbedding(self.tokens[rows].float(), self.pooled[rows].float(), self.mask[rows])

    def condition(self, prompts: list[str]) -> Condition:
        """The same as a condition of the props prior."""
        return condition(self.text(prompts))
