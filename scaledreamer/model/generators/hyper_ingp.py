"""Hyper-iNGP: one hash grid for every prompt, and a hypernetwork that writes the perceptrons which read it.

ScaleDreamer's generator for a few prompts (arXiv:2407.02040; the grid is Instant-NGP's, arXiv:2201.05989). All weights
of the perceptrons come from the text, nothing of the grid does.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.model.fields.color import ColorActivation
from scaledreamer.model.fields.decoders import Bias
from scaledreamer.model.fields.hash_grid import HashGridField
from scaledreamer.model.generators.base import Generator
from scaledreamer.model.layers.hash_grid import HashGrid, HashGridConfig
from scaledreamer.model.layers.hypernet import Hypernetwork
from scaledreamer.model.text import TextEmbedding


class HyperNGPConfig(Config):
    """Every size; the defaults are the official ones."""

    kind: Literal["hyper-ingp"] = "hyper-ingp"
    text_width: PositiveInt = 1024
    width: PositiveInt = 64  # of the hypernetwork
    layers: PositiveInt = 1  # hidden ones of the hypernetwork
    grid: HashGridConfig = HashGridConfig()
    hidden: PositiveInt = 64  # of the generated perceptrons
    hidden_layers: PositiveInt = 1
    sdf_hidden: tuple[PositiveInt, ...] | None = None  # where the two differ: widths of each one's hidden layers
    rgb_hidden: tuple[PositiveInt, ...] | None = None
    radius: PositiveFloat = 2.0  # the box is [-radius, radius]^3
    sphere_bias: Bias = 0.5  # radius of the ball that an untrained field shows
    color: ColorActivation = "sigmoid"


OFFICIAL = HyperNGPConfig()


class HyperNGP(Generator):
    """Text to HashGridField."""

    def __init__(self, config: HyperNGPConfig) -> None:
        super().__init__()
        self.config: HyperNGPConfig = config
        same = (config.hidden,) * config.hidden_layers
        sdf, rgb = (same if widths is None else widths for widths in (config.sdf_hidden, config.rgb_hidden))
        sizes = [[config.grid.width, *sdf, 1], [config.grid.width, *rgb, 3]]
        self.grid = HashGrid(config.grid)
        self.hypernet = Hypernetwork(config.text_width, config.width, config.layers, sizes)

    def forward(
        self, text: TextEmbedding, noise: Float[Tensor, "B Z"] | None = None, rng: torch.Generator | None = None
    ) -> HashGridField:
        sdf_weights, rgb_weights = self.hypernet(text.pooled)
        c = self.config
        return HashGridField(self.grid, sdf_weights, rgb_weights, c.radius, c.sphere_bias, c.color)
