"""Backgrounds with a hash grid over directions: one picture of the world, or one a prompt."""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.model.fields.color import ColorActivation, activate_color
from scaledreamer.model.layers.hash_grid import HashGrid, HashGridConfig
from scaledreamer.model.layers.hypernet import Hypernetwork
from scaledreamer.model.layers.mlp import bias_free, generated_mlp
from scaledreamer.model.rendering.backgrounds import Background, Share, some_plain
from scaledreamer.model.text import TextEmbedding


class HashGridBackgroundConfig(Config):
    """The defaults are those of the official prompt-specific NeRF."""

    kind: Literal["hash-grid"] = "hash-grid"
    grid: HashGridConfig = HashGridConfig(levels=4, base=4, growth=4.0)
    hidden: PositiveInt = 16
    hidden_layers: PositiveInt = 2
    color: ColorActivation = "sigmoid"
    random_color: Share = 0.5  # how many training pictures get one random colour instead


class HashGridBackground(Background):
    """A hash grid and a bias-free MLP, the same behind every prompt."""

    def __init__(self, config: HashGridBackgroundConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = HashGrid(config.grid)
        self.network = bias_free([config.grid.width, *[config.hidden] * config.hidden_layers, 3])

    def forward(
        self, directions: Float[Tensor, "B H W 3"], rng: torch.Generator | None = None
    ) -> Float[Tensor, "B H W 3"]:
        colors = activate_color(self.network(self.grid((directions + 1) / 2)), self.config.color)
        return some_plain(colors, self.config.random_color, rng)


class HyperBackgroundConfig(Config):
    """The defaults are those of the official Hyper-iNGP (342,336 parameters); its 16 levels are equally fine."""

    kind: Literal["hyper-hash-grid"] = "hyper-hash-grid"
    text_width: PositiveInt = 1024
    width: PositiveInt = 64  # of the hypernetwork
    layers: PositiveInt = 1  # hidden ones of the hypernetwork
    grid: HashGridConfig = HashGridConfig(growth=1.0)
    hidden: PositiveInt = 64  # of the generated perceptron
    hidden_layers: PositiveInt = 1
    color: ColorActivation = "sigmoid"
    random_color: Share = 0.2  # how many training pictures get one random colour instead


class HyperBackground(Background):
    """A hash grid for all prompts, read by a perceptron that a hypernetwork writes for each."""

    def __init__(self, config: HyperBackgroundConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = HashGrid(config.grid)
        sizes = [config.grid.width, *[config.hidden] * config.hidden_layers, 3]
        self.hypernet = Hypernetwork(config.text_width, config.width, config.layers, [sizes])

    def for_text(self, text: TextEmbedding) -> "GeneratedBackground":
        """The background of B prompts."""
        (weights,) = self.hypernet(text.pooled)
        return GeneratedBackground(self.grid, weights, self.config.color, self.config.random_color)

    def forward(
        self, directions: Float[Tensor, "B H W 3"], rng: torch.Generator | None = None
    ) -> Float[Tensor, "B H W 3"]:
        raise ValueError("this background depends on the prompt; render with background.for_text(text)")


class GeneratedBackground(Background):
    """What HyperBackground makes of B prompts; the pictures are B x V, a prompt's views contiguous."""

    def __init__(
        self, grid: HashGrid, weights: list[Float[Tensor, "B _ _"]], color: ColorActivation, random_color: float
    ) -> None:
        super().__init__()
        self.grid, self.weights, self.color, self.random_color = grid, weights, color, random_color

    def forward(
        self, directions: Float[Tensor, "N H W 3"], rng: torch.Generator | None = None
    ) -> Float[Tensor, "N H W 3"]:
        _, height, width, _ = directions.shape
        shape = {"B": len(self.weights[0]), "H": height, "W": width}
        features = self.grid((rearrange(directions, "(B V) H W xyz -> B (V H W) xyz", **shape) + 1) / 2)
        colors = activate_color(generated_mlp(features, self.weights), self.color)
        return some_plain(rearrange(colors, "B (V H W) C -> (B V) H W C", **shape), self.random_color, rng)
