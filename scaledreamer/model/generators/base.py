"""The generator interface: text to a field, in one pass."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.model.fields.base import Field
from scaledreamer.model.text import TextEmbedding, blend


class Generator(nn.Module):
    """A network that makes fields from text. `stochastic` says whether noise changes them.

    Randomness is an argument: without `noise` and `rng` a stochastic generator too gives one text one field.
    """

    config: Config
    stochastic: bool = False

    @abstractmethod
    def forward(
        self, text: TextEmbedding, noise: Float[Tensor, "B Z"] | None = None, rng: torch.Generator | None = None
    ) -> Field:
        """B prompts to one field of B scenes."""

    def blended(self, a: TextEmbedding, b: TextEmbedding, weight: float, rng: torch.Generator | None = None) -> Field:
        """The field between those of two prompts: (1 - weight) a + weight b, mixed as embeddings where a generator
        knows nothing better.
        """
        field: Field = self(blend(a, b, weight), rng=rng)
        return field
