"""3DConv-Net: a style made of the prompt and of noise steers a 3D convolutional network that grows voxels.

ScaleDreamer's generator for up to 100k prompts (arXiv:2407.02040, after CC3D, arXiv:2303.12074): OFFICIAL are the sizes
for DF415 and AT2520, OFFICIAL_WIDE those for CP100k.
"""

import itertools
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.model.fields.color import ColorActivation
from scaledreamer.model.fields.decoders import Bias, SeparateHeads
from scaledreamer.model.fields.voxel import VoxelField
from scaledreamer.model.generators.base import Generator
from scaledreamer.model.layers.style_conv import FullyConnected, NoiseMode, StyledConv, ToVoxels, double
from scaledreamer.model.text import TextEmbedding

COARSEST = 4  # voxels along a side of the learned constant


class Conv3DConfig(Config):
    """Every size; the defaults are the official ones for DF415 and AT2520.

    `channels` has a number for each resolution 4, 8, 16, ...; how many there are decides how fine the voxels get.
    """

    kind: Literal["conv3d"] = "conv3d"
    text_width: PositiveInt = 1024
    text_scale: PositiveFloat = 1.0  # on the prompt's vector: sqrt(text_width) for encoders that give unit vectors
    noise_width: PositiveInt = 64
    style_width: PositiveInt = 256
    mapping_layers: PositiveInt = 2
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (
        512,
        512,
        512,
        256,
        128,
        64,
    )  # at 4, 8, 16, ...
    bias_resolution: PositiveInt = 64  # up to here every voxel has a learned bias of its own
    voxel_channels: PositiveInt = 32
    noise: NoiseMode = "random"  # in every layer; official: drawn anew in training and at test time
    hidden: PositiveInt = 64
    hidden_layers: PositiveInt = 1
    radius: PositiveFloat = 2.0  # the box is [-radius, radius]^3
    sphere_bias: Bias = 0.8  # radius of the ball that an untrained field shows
    color: ColorActivation = "sigmoid"

    @property
    def resolutions(self) -> list[int]:
        """Voxels along a side at each step; the last is the field's."""
        return [COARSEST << step for step in range(len(self.channels))]


OFFICIAL = Conv3DConfig()
OFFICIAL_WIDE = Conv3DConfig(channels=(512, 512, 512, 512, 256, 128))


class Mapping(nn.Module):
    """Noise and text to the style w: normalised noise through an MLP, then a linear layer over it and the text."""

    def __init__(self, config: Conv3DConfig) -> None:
        super().__init__()
        sizes = [config.noise_width, *[config.style_width] * config.mapping_layers]
        layers = [FullyConnected(inside, outside, activate=True) for inside, outside in itertools.pairwise(sizes)]
        self.layers = nn.Sequential(*layers)
        self.embed = FullyConnected(config.style_width + config.text_width, config.style_width)

    def forward(self, noise: Float[Tensor, "B Z"], text: Float[Tensor, "B E"]) -> Float[Tensor, "B D"]:
        normalised = noise * (noise.square().mean(-1, keepdim=True) + 1e-8).rsqrt()
        w: Tensor = self.embed(torch.cat([self.layers(normalised), text], dim=-1))
        return w


class FirstBlock(nn.Module):
    """A learned constant of 4^3 voxels, one convolution."""

    def __init__(self, config: Conv3DConfig) -> None:
        super().__init__()
        width = config.channels[0]
        self.const = nn.Parameter(torch.randn(width, COARSEST, COARSEST, COARSEST))
        self.conv1 = StyledConv(width, width, config.style_width, COARSEST, config.noise)
        self.to_voxels = ToVoxels(width, config.voxel_channels, config.style_width)

    def forward(
        self, w: Float[Tensor, "B D"], rng: torch.Generator | None
    ) -> tuple[Float[Tensor, "B I 4 4 4"], Float[Tensor, "B C 4 4 4"]]:
        x = self.conv1(self.const.expand(len(w), -1, -1, -1, -1), w, rng)
        return x, self.to_voxels(x, w)


class Block(nn.Module):
    """Twice the resolution: a doubling convolution, a bias for every place, a convolution; the voxels gain detail."""

    def __init__(self, config: Conv3DConfig, step: int) -> None:
        super().__init__()
        inside, outside, side = config.channels[step - 1], config.channels[step], config.resolutions[step]
        self.conv0 = StyledConv(inside, outside, config.style_width, side, config.noise, doubles=True)
        self.conv1 = StyledConv(outside, outside, config.style_width, side, config.noise)
        self.to_voxels = ToVoxels(outside, config.voxel_channels, config.style_width)
        biased = side <= config.bias_resolution
        self.place_bias = nn.Parameter(torch.randn(outside, side, side, side) * outside**-0.5) if biased else None

    def forward(
        self, x: Float[Tensor, "B I S S S"], voxels: Float[Tensor, "B C S S S"], w: Float[Tensor, "B D"],
        rng: torch.Generator | None,
    ) -> tuple[Float[Tensor, "B O R R R"], Float[Tensor, "B C R R R"]]:  # fmt: skip
        x = self.conv0(x, w, rng)
        if self.place_bias is not None:
            x = x + self.place_bias
        x = self.conv1(x, w, rng)
        return x, double(voxels) + self.to_voxels(x, w)


class Conv3D(Generator):
    """Text and noise to VoxelField."""

    stochastic = True

    def __init__(self, config: Conv3DConfig) -> None:
        super().__init__()
        self.config: Conv3DConfig = config
        self.mapping = Mapping(config)
        self.first_block = FirstBlock(config)
        self.blocks = nn.ModuleList(Block(config, step) for step in range(1, len(config.channels)))
        inner = [config.voxel_channels, *[config.hidden] * config.hidden_layers]
        self.decoder = SeparateHeads([*inner, 1], [*inner, 3], config.sphere_bias, config.color)

    def forward(
        self, text: TextEmbedding, noise: Float[Tensor, "B Z"] | None = None, rng: torch.Generator | None = None
    ) -> VoxelField:
        """One field of B scenes. `noise` steers the style; where it is missing it is drawn from `rng`.

        With `rng` the layers' noise is drawn too, as the official code does in training and at test; outside training
        one draw serves all scenes (the official style at test is one vector too). Without either all noise is zero (the
        official fixed-prompt mode has such a style), so a prompt has one field.
        """
        if noise is None:
            noise = text.pooled.new_zeros(len(text), self.config.noise_width)
            if rng is not None:
                drawn = noise.shape if self.training else (1, self.config.noise_width)
                noise = torch.randn(drawn, generator=rng, device=rng.device).to(noise).expand_as(noise)
        voxels = self.voxels(self.mapping(noise, text.pooled * self.config.text_scale), rng)
        return VoxelField(voxels, self.decoder, self.config.radius)

    def voxels(self, w: Float[Tensor, "B D"], rng: torch.Generator | None = None) -> Float[Tensor, "B C R R R"]:
        """The feature voxels of every style."""
        x, voxels = self.first_block(w, rng)
        for block in self.blocks:
            x, voxels = block(x, voxels, w, rng)
        grown: Tensor = voxels
        return grown
