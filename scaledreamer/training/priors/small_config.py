"""Sizes of the small networks of the real classes; nothing is built here."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from scaledreamer.config import Config


class AutoencoderConfig(Config):
    """Sizes of an AutoencoderKL; every level but the last halves the picture."""

    pixels: PositiveInt = 32
    channels: tuple[int, ...] = (32, 64)
    layers: PositiveInt = 1  # residual blocks a level
    latent_channels: PositiveInt = 4


class SmallUNetConfig(Config):
    """Sizes of a U-Net and of the text tower that is trained with it. Attention everywhere but at the first level."""

    side: PositiveInt = 16  # of the latents
    channels: tuple[int, ...] = (64, 128)
    layers: PositiveInt = 1
    heads: PositiveInt = 4
    text_width: PositiveInt = 128
    text_layers: PositiveInt = 3
    window: PositiveInt = 24  # tokens, the two special ones included


class LatentConfig(Config):
    """What a latent prior is trained from, and how it is told a side."""

    autoencoder: Path  # folder with the subfolder vae
    start: Path | None = None  # a single-view folder; its text tower is kept as it is
    side_share: Annotated[float, Field(ge=0, le=1)] = (
        0.75  # of the prompts name the side, where single views are trained
    )
