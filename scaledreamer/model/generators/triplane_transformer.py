"""Triplane-Transformer: learned plane tokens attend to the prompt and unfold into three feature planes.

ScaleDreamer's generator (arXiv:2407.02040, after LRM, arXiv:2311.04400), with the official sizes as OFFICIAL and a few
typed options for small models.
"""

import itertools
from typing import Annotated, Literal, Self

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from pydantic import Field as Limits
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from scaledreamer.config import Config
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.between import matter_between
from scaledreamer.model.fields.color import ColorActivation
from scaledreamer.model.fields.decoders import Bias, Decoder, SeparateHeads, SummedPlanes
from scaledreamer.model.fields.stretched import StretchedField
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.generators.base import Generator
from scaledreamer.model.generators.readers import NORM_EPS, Patterns, Reader, unit_variance
from scaledreamer.model.layers.attention import Attention
from scaledreamer.model.text import TextEmbedding

PATTERN_WIDTH = 32
PALETTE_WIDTH, PALETTE_HEADS = 96, 4
STRETCH_WIDTH, STRETCH_HEADS = 32, 2
STRETCH_STEP = 0.02  # of what is read: a factor scales the whole thing, so its steps are kept small
MOST_LOG_STRETCH = 1.0  # either way: no prompt makes a factor that no box holds


class SeparateHeadsConfig(Config):
    """Official decoder: two bias-free MLPs over the concatenated planes."""

    kind: Literal["separate"] = "separate"
    hidden: PositiveInt = 64
    hidden_layers: PositiveInt = 2


class SummedPlanesConfig(Config):
    """Props decoder: planes are summed into the first hidden layer; matter stays inside a ball."""

    kind: Literal["summed"] = "summed"
    hidden: PositiveInt = 32
    ball: PositiveFloat = 1.0  # radius, object units
    gain: PositiveFloat = 1.0  # of the distance that is added to the untrained ball's
    contrast: PositiveFloat = 1.0  # of the shares of a palette's colours


class TriplaneTransformerConfig(Config):
    """Every size; the defaults are the official ones."""

    kind: Literal["triplane-transformer"] = "triplane-transformer"
    width: PositiveInt = 768
    text_width: PositiveInt = 1024
    text: Literal["local", "global"] = "local"  # cross-attention to all tokens, or the pooled vector as one more token
    layers: PositiveInt = 12
    heads: PositiveInt = 16
    mlp_ratio: PositiveFloat = 4.0  # of the MLPs' hidden width
    low_res: PositiveInt = 32  # tokens along a plane's side
    plane_channels: PositiveInt = 32
    upsample: tuple[PositiveInt, ...] = ()  # channels of stride-2 steps before the last one; official: none
    antialias: bool = False  # blur the unfolded planes by [1 2 1] / 4 along both sides
    film: bool = False  # let the pooled prompt scale and shift the plane tokens
    patterns: NonNegativeInt = 0  # over the plane tokens, mixed as the pooled prompt says and added to them
    identity_start: bool = False  # tokens of unit variance, blocks that add nothing yet: places are told apart at once
    stretch: bool = False  # scale the field's axes by factors that are read from the prompt
    decoder: Annotated[SeparateHeadsConfig | SummedPlanesConfig, Limits(discriminator="kind")] = SeparateHeadsConfig()
    radius: PositiveFloat = 2.0  # the box is [-radius, radius]^3
    sphere_bias: Bias = 0.8  # radius of the ball that an untrained field shows
    color: ColorActivation = "sigmoid-mipnerf"
    palette: NonNegativeInt = 0  # colours that a prompt brings; the planes then say which of them is where

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} does not share out over {self.heads} heads; choose heads that divide it"
            )
        return self

    @model_validator(mode="after")
    def _a_palette_is_shared_out(self) -> Self:
        if self.palette and not isinstance(self.decoder, SummedPlanesConfig):
            raise ValueError(f"a palette of {self.palette} needs the decoder of kind summed, this one is separate")
        return self

    @property
    def mlp_width(self) -> int:
        """Of the MLPs' hidden layer."""
        return round(self.mlp_ratio * self.width)

    @property
    def high_res(self) -> int:
        """Pixels along a plane's side."""
        return self.low_res << (len(self.upsample) + 1)


OFFICIAL = TriplaneTransformerConfig()


class Block(nn.Module):
    """Residual branches: attention, then an MLP."""

    mlp: nn.Sequential

    def start_as_identity(self) -> None:
        """Zero the last layer of every branch."""
        for last in (*(inner.to_out for inner in self.modules() if isinstance(inner, Attention)), self.mlp[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)


class LocalBlock(Block):
    """Pre-norm cross-attention to the prompt's tokens, self-attention, MLP."""

    def __init__(self, config: TriplaneTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, NORM_EPS) for _ in range(3))
        self.cross_attention = Attention(width, config.heads, config.text_width)
        self.self_attention = Attention(width, config.heads)
        self.mlp = nn.Sequential(nn.Linear(width, config.mlp_width), nn.GELU(), nn.Linear(config.mlp_width, width))

    def forward(
        self, x: Float[Tensor, "B N D"], text: Float[Tensor, "B L E"], mask: Bool[Tensor, "B L"] | None
    ) -> Float[Tensor, "B N D"]:
        x = x + self.cross_attention(self.norm1(x), text, mask)
        x = x + self.self_attention(self.norm2(x))
        wider: Tensor = self.mlp(self.norm3(x))
        return x + wider


class GlobalBlock(Block):
    """Self-attention over the tokens with the prompt prepended, MLP on all of them, the prompt's token dropped again.

    The MLP starts with a GELU, as the official one does.
    """

    def __init__(self, config: TriplaneTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm2, self.norm3 = (nn.LayerNorm(width, NORM_EPS) for _ in range(2))
        self.self_attention = Attention(width, config.heads)
        self.mlp = nn.Sequential(
            nn.GELU(), nn.Linear(width, config.mlp_width), nn.GELU(), nn.Linear(config.mlp_width, width)
        )

    def forward(
        self, x: Float[Tensor, "B N D"], text: Float[Tensor, "B 1 D"], mask: Bool[Tensor, "B L"] | None
    ) -> Float[Tensor, "B N D"]:
        x = torch.cat([text, x], dim=1)
        x = x + self.self_attention(self.norm2(x))
        x = x + self.mlp(self.norm3(x))
        return x[:, 1:]


class TriplaneTransformer(Generator):
    """Text to a TriplaneField, stretched where the config says so."""

    def __init__(self, config: TriplaneTransformerConfig) -> None:
        super().__init__()
        self.config: TriplaneTransformerConfig = config
        width, side = config.width, config.low_res
        self.token_scale = 1.0 if config.identity_start else width**-0.5
        self.plane_tokens = nn.Parameter(torch.randn(3 * side * side, width) * self.token_scale)
        kind = LocalBlock if config.text == "local" else GlobalBlock
        blocks = [kind(config) for _ in range(config.layers)]
        if config.identity_start:
            for block in blocks:
                block.start_as_identity()
        self.blocks = nn.ModuleList(blocks)
        self.project = nn.Linear(config.text_width, width) if config.text == "global" else None
        self.patterns = (
            Patterns(config.text_width, config.patterns, len(self.plane_tokens), PATTERN_WIDTH, width)
            if config.patterns
            else None
        )
        self.film = nn.Linear(config.text_width, 2 * width) if config.film else None
        if self.film is not None:
            nn.init.zeros_(self.film.bias)
        self.stretch = Reader(config.text_width, 1, STRETCH_WIDTH, STRETCH_HEADS, 3) if config.stretch else None
        if self.stretch is not None:
            self.stretch.start_at(0.0)
        self.palette = (
            Reader(config.text_width, config.palette, PALETTE_WIDTH, PALETTE_HEADS, 3) if config.palette else None
        )
        self.norm = nn.LayerNorm(width, NORM_EPS)
        channels = [width, *config.upsample]
        steps: list[nn.Module] = []
        for inside, outside in itertools.pairwise(channels):
            steps += [nn.ConvTranspose2d(inside, outside, 2, stride=2), nn.SiLU()]
        self.upsample = nn.Sequential(
            *steps, nn.ConvTranspose2d(channels[-1], config.plane_channels, 2, stride=2, bias=False)
        )
        self.decoder = build_decoder(config)

    def forward(
        self, text: TextEmbedding, noise: Float[Tensor, "B Z"] | None = None, rng: torch.Generator | None = None
    ) -> Field:
        return self.field_of(self.planes(text), text)

    def field_of(self, planes: Float[Tensor, "B 3 C R R"], text: TextEmbedding) -> Field:
        """The field of the prompts that these planes belong to."""
        return self.field_with(planes, *self.beside_planes(text))

    def beside_planes(self, text: TextEmbedding) -> tuple[Tensor | None, Tensor | None]:
        """What else a prompt says of its field, where the config has it: its palette [B K 3], and the logarithms of
        the factors that stretch the axes [B 3].
        """
        palette = None if self.palette is None else self.palette(text).sigmoid()
        if self.stretch is None:
            return palette, None
        return palette, (STRETCH_STEP * self.stretch(text)[:, 0]).clamp(-MOST_LOG_STRETCH, MOST_LOG_STRETCH)

    def field_with(
        self, planes: Float[Tensor, "B 3 C R R"], palette: Float[Tensor, "B K 3"] | None,
        stretch: Float[Tensor, "B 3"] | None, decoder: Decoder | None = None,
    ) -> Field:  # fmt: skip
        """The field of planes and of what is beside them; another decoder may read it."""
        field = TriplaneField(planes, decoder or self.decoder, self.config.radius, palette)
        return field if stretch is None else StretchedField(field, stretch.exp())

    def blended(self, a: TextEmbedding, b: TextEmbedding, weight: float, rng: torch.Generator | None = None) -> Field:
        """Planes, palette and stretch of both prompts, mixed, with as much matter as lies between theirs; one prompt
        each. Between two embeddings lies what no training saw: it falls to pieces more often.
        """
        return self.field_between(self.planes(a), self.planes(b), a, b, weight)

    def field_between(
        self, planes_a: Tensor, planes_b: Tensor, a: TextEmbedding, b: TextEmbedding, weight: float
    ) -> Field:
        """The same of planes that are at hand, of one prompt each."""
        (palette_a, stretch_a), (palette_b, stretch_b) = self.beside_planes(a), self.beside_planes(b)
        planes = torch.lerp(planes_a, planes_b, weight)
        palette = None if palette_a is None or palette_b is None else torch.lerp(palette_a, palette_b, weight)
        stretch = None if stretch_a is None or stretch_b is None else torch.lerp(stretch_a, stretch_b, weight)
        first, second = self.field_with(planes_a, palette_a, stretch_a), self.field_with(planes_b, palette_b, stretch_b)
        outwards = matter_between(first, second, self.field_with(planes, palette, stretch), weight)
        return self.field_with(planes, palette, stretch, self.decoder.moved_outwards(outwards))

    def planes(self, text: TextEmbedding) -> Float[Tensor, "B 3 C R R"]:
        """The three feature planes of every prompt."""
        batch = text.tokens.shape[0]  # an export keeps it open; len() is a plain number
        tokens = repeat(self.plane_tokens, "N D -> B N D", B=batch)
        if self.patterns is not None:
            tokens = tokens + self.token_scale * self.patterns(text)
        if self.film is not None:
            scale, shift = self.film(unit_variance(text.pooled))[:, None].chunk(2, dim=-1)
            tokens = tokens * (1 + scale) + shift * self.token_scale
        context = text.tokens if self.project is None else self.project(text.pooled)[:, None]
        for block in self.blocks:
            tokens = block(tokens, context, text.mask)
        planes = rearrange(self.norm(tokens), "B (P H W) D -> (B P) D H W", P=3, H=self.config.low_res)
        unfolded: Tensor = self.upsample(planes)
        if self.config.antialias:
            unfolded = blurred(unfolded)
        return rearrange(unfolded, "(B P) C H W -> B P C H W", P=3)


def blurred(planes: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Each plane by [1 2 1] / 4 along both sides: two means of 2 x 2 texels, with the border repeated.

    Stride-2 steps unfold every texel for itself, which shows as ripples at their pitch (Odena et al., "Deconvolution
    and Checkerboard Artifacts", Distill 2016). The least blur that takes the finest of them out.
    """
    bordered = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(bordered, 2, stride=1), 2, stride=1)


def build_decoder(config: TriplaneTransformerConfig) -> Decoder:
    """The decoder a config names."""
    match config.decoder:
        case SeparateHeadsConfig(hidden=hidden, hidden_layers=layers):
            inner = [3 * config.plane_channels, *[hidden] * layers]
            return SeparateHeads([*inner, 1], [*inner, 3], config.sphere_bias, config.color)
        case SummedPlanesConfig(hidden=hidden, ball=ball, gain=gain, contrast=contrast):
            channels, palette = config.plane_channels, config.palette
            return SummedPlanes(channels, hidden, config.sphere_bias, ball, config.color, palette, gain, contrast)
