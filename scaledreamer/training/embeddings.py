"""Text embeddings computed once: an encoder that remembers."""

from collections.abc import Iterable

import torch
from torch import Tensor

from scaledreamer.model.text import TextEmbedding, TextEncoder

BATCH = 128


class RememberingEncoder(TextEncoder):
    """Another encoder's embeddings in a table of fp16 rows; prompts are encoded in the order they are first met."""

    def __init__(self, encoder: TextEncoder, prompts: Iterable[str] = ()) -> None:
        self.encoder = encoder
        self.row_of: dict[str, int] = {}
        self.columns: list[Tensor] = []
        self.learn(prompts)

    @property
    def name(self) -> str:
        return self.encoder.name

    def overflow(self, prompt: str) -> int:
        return self.encoder.overflow(prompt)

    def learn(self, prompts: Iterable[str]) -> None:
        """Encode the prompts that are not in the table yet, in batches."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.row_of]
        for start in range(0, len(new), BATCH):
            some = new[start : start + BATCH]
            text = self.encoder.encode(some)
            mask = torch.ones(text.tokens.shape[:2], dtype=torch.bool) if text.mask is None else text.mask
            rows = [text.tokens.half(), text.pooled.half(), mask]
            self.columns = [torch.cat(pair) for pair in zip(self.columns, rows, strict=True)] if self.columns else rows
            self.row_of |= {prompt: len(self.row_of) + place for place, prompt in enumerate(some)}

    def encode(self, prompts: list[str]) -> TextEmbedding:
        self.learn(prompts)
        rows = torch.tensor([self.row_of[prompt] for prompt in prompts])
        tokens, pooled, mask = (column[rows] for column in self.columns)
        return TextEmbedding(tokens.float(), pooled.float(), mask)
