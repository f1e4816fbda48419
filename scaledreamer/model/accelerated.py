"""A text encoder and a generator on an accelerator: their tensor parts compiled, everything around them as it was."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from scaledreamer.model.clip_text import CLIPText
from scaledreamer.model.compile import Accelerated, Acceleration, Accelerator, accelerate
from scaledreamer.model.fields.base import Field
from scaledreamer.model.generators import Generator, TriplaneTransformer
from scaledreamer.model.text import MiniLM, TextEmbedding, TextEncoder

EXAMPLES = ["a red wooden barrel", "a mug", "a small blue potion bottle with a cork, standing on a round stone table"]


class PlanesNetwork(nn.Module):
    """The Triplane-Transformer from tensors to tensors: a prompt's vectors in, its three planes out."""

    def __init__(self, generator: TriplaneTransformer) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self, tokens: Float[Tensor, "B L D"], pooled: Float[Tensor, "B E"], mask: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B 3 C R R"]:
        return self.generator.planes(TextEmbedding(tokens, pooled, mask))


class AcceleratedTriplanes(Generator):
    """A Triplane-Transformer whose planes come from elsewhere. For inference."""

    def __init__(self, generator: TriplaneTransformer, planes: Accelerated) -> None:
        super().__init__()
        self.generator, self.planes = generator, planes
        self.config = generator.config

    def forward(
        self, text: TextEmbedding, noise: Float[Tensor, "B Z"] | None = None, rng: torch.Generator | None = None
    ) -> Field:
        return self.generator.field_of(self.planes(*tensors_of(text)), text)

    def blended(self, a: TextEmbedding, b: TextEmbedding, weight: float, rng: torch.Generator | None = None) -> Field:
        planes_a, planes_b = (self.planes(*tensors_of(text)) for text in (a, b))
        return self.generator.field_between(planes_a, planes_b, a, b, weight)


def accelerate_pipeline(
    encoder: TextEncoder, generator: Generator, accelerator: Accelerator, device: str = "cpu"
) -> tuple[Generator, list[Acceleration]]:
    """The generator to use, and what the text encoder and it run on; the encoder is changed in place.

    Builds are tried on EXAMPLES. What has no part to compile stays eager and says so; asked for eager, all stays as is.
    """
    if accelerator == "eager":
        return generator, [Acceleration("text encoder"), Acceleration("generator")]
    heard = accelerate_encoder(encoder, accelerator)
    if isinstance(generator, TriplaneTransformer):
        example = tensors_of(encoder.encode(EXAMPLES).to(device))
        planes = accelerate(PlanesNetwork(generator), example, accelerator, "generator")
        return AcceleratedTriplanes(generator, planes), [heard, planes.acceleration]
    return generator, [heard, left_out("generator", accelerator, generator)]


def accelerate_encoder(encoder: TextEncoder, accelerator: Accelerator) -> Acceleration:
    """Let the network of an encoder run on an accelerator; what it really runs on."""
    if isinstance(encoder, MiniLM | CLIPText) and isinstance(encoder.network, nn.Module):
        encoder.network = made = accelerate(encoder.network, encoder.read(EXAMPLES), accelerator, "text encoder")
        return made.acceleration
    return left_out("text encoder", accelerator, encoder)


def left_out(part: str, accelerator: Accelerator, what: object) -> Acceleration:
    """Eager, for a part without a compiled form."""
    acceleration = Acceleration(part, accelerator, accelerator)
    acceleration.fall_back(f"{type(what).__name__} has no compiled form")
    return acceleration


def tensors_of(text: TextEmbedding) -> tuple[Tensor, ...]:
    """What PlanesNetwork takes: an encoder without a mask gives none."""
    return (text.tokens, text.pooled) if text.mask is None else (text.tokens, text.pooled, text.mask)
