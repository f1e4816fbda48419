"""Size words that a generator's planes often do not hear, so that its stretch learns to do what they say.

Where planes and stretch both hear them, both learn them, the planes thing by thing, and a size that a thing was never
seen in comes out between sizes (docs/log.md).
"""

import re
from typing import Annotated

import torch
from pydantic import Field as Limits

from scaledreamer.config import Config
from scaledreamer.errors import ConfigError
from scaledreamer.model.fields.base import Field
from scaledreamer.model.generators import Generator
from scaledreamer.model.generators.triplane_transformer import TriplaneTransformer
from scaledreamer.model.text import TextEmbedding, TextEncoder, jitter
from scaledreamer.training.props.grammar import with_article


class SizeWordsConfig(Config):
    """Which words, and how often the planes do not hear them."""

    words: Annotated[tuple[str, ...], Limits(min_length=1)]
    hidden: Annotated[float, Limits(ge=0, le=1)] = 0.5  # share of the prompts

    def without(self, prompt: str) -> str:
        """The prompt without them: "a tall orange mug" is "an orange mug"."""
        return with_article(re.sub(rf"\b({'|'.join(map(re.escape, self.words))}) ", "", prompt))


def generate(
    generator: Generator,
    encoder: TextEncoder,
    prompts: list[str],
    sizes: SizeWordsConfig | None,
    noise: float,
    rng: torch.Generator,
) -> tuple[Field, TextEmbedding]:
    """The field of B prompts and what it was made from; `noise` is that of `jitter`."""
    device = next(generator.parameters()).device

    def read(said: list[str]) -> TextEmbedding:
        text = encoder.encode(said)
        return (jitter(text, noise, rng) if noise else text).to(device)

    text = read(prompts)
    if sizes is None:
        return generator(text, rng=rng), text
    if not isinstance(generator, TriplaneTransformer) or generator.stretch is None:
        raise ConfigError("size_words need a generator that stretches; set generator.stretch=true, or size_words=null")
    hidden = torch.rand(len(prompts), generator=rng).tolist()
    heard = [sizes.without(one) if u < sizes.hidden else one for one, u in zip(prompts, hidden, strict=True)]
    return generator.field_of(generator.planes(read(heard)), text), text
