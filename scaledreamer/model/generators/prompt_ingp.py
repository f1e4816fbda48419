"""The prompt-specific iNGP: no network between text and field, one NeRF that is optimised for one prompt.

ScaleDreamer's single-prompt baseline (arXiv:2407.02040; Instant-NGP, arXiv:2201.05989, with Magic3D's density bias). It
stands where a generator stands, so that training, files and serving need not know the difference.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.model.fields.color import ColorActivation
from scaledreamer.model.fields.density import DensityField, DensityNetworks
from scaledreamer.model.generators.base import Generator
from scaledreamer.model.layers.hash_grid import HashGrid, HashGridConfig
from scaledreamer.model.layers.mlp import bias_free
from scaledreamer.model.text import TextEmbedding


class PromptNGPConfig(Config):
    """Every size; the defaults are the official ones."""

    kind: Literal["prompt-ingp"] = "prompt-ingp"
    grid: HashGridConfig = HashGridConfig()
    hidden: PositiveInt = 64
    hidden_layers: PositiveInt = 1
    radius: PositiveFloat = 1.0  # the box is [-radius, radius]^3
    blob: PositiveFloat = 10.0  # raw density in the middle of an untrained field ...
    blob_radius: PositiveFloat = 0.5  # ... which falls linearly and is zero here
    level: PositiveFloat = 25.0  # density on the surface; log 2 makes an untrained field a ball of blob_radius
    color: ColorActivation = "sigmoid"


OFFICIAL = PromptNGPConfig()


class PromptNGP(Generator):
    """Any text to the same DensityField: what it was trained on is in its card."""

    def __init__(self, config: PromptNGPConfig) -> None:
        super().__init__()
        self.config: PromptNGPConfig = config
        inner = [config.grid.width, *[config.hidden] * config.hidden_layers]
        self.networks = DensityNetworks(HashGrid(config.grid), bias_free([*inner, 1]), bias_free([*inner, 3]))

    def forward(
        self, text: TextEmbedding, noise: Float[Tensor, "B Z"] | None = None, rng: torch.Generator | None = None
    ) -> DensityField:
        c = self.config
        return DensityField(self.networks, len(text), c.radius, c.blob, c.blob_radius, c.level, c.color)
