"""What is seen where there is no object: a plain colour, or a colour for every direction."""

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field as Limits
from pydantic import PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.model.fields.color import ColorActivation, activate_color
from scaledreamer.model.layers.mlp import bias_free
from scaledreamer.model.text import TextEmbedding

Share = Annotated[float, Limits(ge=0, le=1)]


class PlainBackgroundConfig(Config):
    """One colour, sRGB."""

    kind: Literal["plain"] = "plain"
    color: tuple[Share, Share, Share] = (0.5, 0.5, 0.5)
    random_color: Share = 0.0  # how many training pictures get one random colour instead


class HarmonicBackgroundConfig(Config):
    """The defaults are those of the official triplane model; 3DConv-Net has sigmoid and half of all pictures plain."""

    kind: Literal["harmonic"] = "harmonic"
    hidden: PositiveInt = 16
    hidden_layers: PositiveInt = 2
    color: ColorActivation = "sigmoid-mipnerf"
    random_color: Share = 0.0  # how many training pictures get one random colour instead


class Background(nn.Module):
    """Unit directions to sRGB colours."""

    def for_text(self, text: TextEmbedding) -> "Background":
        """What stands behind these B prompts, to be rendered with a field of theirs; most backgrounds read no text."""
        return self

    @abstractmethod
    def forward(
        self, directions: Float[Tensor, "B H W 3"], rng: torch.Generator | None = None
    ) -> Float[Tensor, "B H W 3"]:
        """The colour behind every pixel of B pictures; `rng` only where training may vary it."""


class PlainBackground(Background):
    """One colour everywhere, mid-grey unless told otherwise."""

    def __init__(self, color: tuple[float, float, float] = (0.5, 0.5, 0.5), random_color: float = 0.0) -> None:
        super().__init__()
        self.color, self.random_color = color, random_color

    def forward(
        self, directions: Float[Tensor, "B H W 3"], rng: torch.Generator | None = None
    ) -> Float[Tensor, "B H W 3"]:
        plain = torch.tensor(self.color, dtype=directions.dtype, device=directions.device).expand_as(directions)
        return some_plain(plain, self.random_color, rng)


def spherical_harmonics(directions: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 9"]:
    """The nine real harmonics of degrees 0 to 2 at unit directions, with tiny-cuda-nn's order and signs."""
    x, y, z = directions.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.28209479),
            -0.48860251 * y, 0.48860251 * z, -0.48860251 * x,
            1.09254843 * x * y, -1.09254843 * y * z, 0.94617470 * z * z - 0.31539157,
            -1.09254843 * x * z, 0.54627422 * (x * x - y * y),
        ],
        dim=-1,
    )  # fmt: skip


class HarmonicBackground(Background):
    """The official neural environment map: spherical harmonics of the direction into a small bias-free MLP.

    In training every picture is one random colour instead with probability `random_color` (0 for the triplane model).
    """

    def __init__(
        self, color: ColorActivation = "sigmoid-mipnerf", random_color: float = 0.0, hidden: tuple[int, ...] = (16, 16)
    ) -> None:
        super().__init__()
        self.network = bias_free([9, *hidden, 3])
        self.color, self.random_color = color, random_color

    def forward(
        self, directions: Float[Tensor, "B H W 3"], rng: torch.Generator | None = None
    ) -> Float[Tensor, "B H W 3"]:
        colors = activate_color(self.network(spherical_harmonics(directions)), self.color)
        return some_plain(colors, self.random_color, rng)


def some_plain(colors: Float[Tensor, "B H W 3"], share: float, rng: torch.Generator | None) -> Float[Tensor, "B H W 3"]:
    """Pictures of which each becomes one random colour with probability `share`; as they are without an rng.

    The official code throws one coin for a whole batch, which is the same for a batch of one.
    """
    if rng is None or share == 0:
        return colors
    count = len(colors)
    plain = torch.rand(count, 1, 1, 3, generator=rng).to(colors)
    replaced = torch.rand(count, 1, 1, 1, generator=rng).to(colors) < share
    return torch.where(replaced, plain, colors)
