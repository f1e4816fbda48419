"""Which prior judges the pictures; nothing is loaded here."""

from typing import Annotated, Literal, assert_never

from pydantic import Field, PositiveInt

from scaledreamer.config import Config
from scaledreamer.model.clip_text import clip_name
from scaledreamer.model.pretrained import SD_BASE

# The unconditional text of MVDream in ScaleDreamer's recipes.
MVDREAM_NEGATIVE = (
    "ugly, bad anatomy, blurry, pixelated obscure, unnatural colors, poor lighting, dull, and unclear, cropped, "
    "lowres, low quality, artifacts, duplicate, morbid, mutilated, poorly drawn face, deformed, dehydrated, "
    "bad proportions"
)


class PropsPriorConfig(Config):
    """The shipped prior of the props world, or one from a file."""

    kind: Literal["props"] = "props"
    path: str = "shipped"


class _Pretrained(Config):
    revision: str | None = None  # of a hub repository
    offline: bool = False  # read the local folder or the cache, ask nobody
    encode_chunk: PositiveInt | None = (
        None  # pictures encoded at a time, recomputed in the backward pass to save memory
    )


class StableDiffusionConfig(_Pretrained):
    """Stable Diffusion 1.x or 2.x from a diffusers folder or a hub repository."""

    kind: Literal["stable-diffusion"] = "stable-diffusion"
    path: str = SD_BASE
    negative_prompt: str = ""


class MVDreamConfig(_Pretrained):
    """MVDream: the released .pt file, or a diffusers folder (what `scaledreamer convert` writes)."""

    kind: Literal["mvdream"] = "mvdream"
    path: str
    text: str = SD_BASE  # folder or hub repository with the tokenizer and the text encoder; `revision` is its own
    negative_prompt: str = MVDREAM_NEGATIVE
    head_channels: PositiveInt = 64  # of an attention head in a .pt file, which does not say


PriorConfig = Annotated[PropsPriorConfig | StableDiffusionConfig | MVDreamConfig, Field(discriminator="kind")]


def encoder_name(config: PriorConfig) -> str:
    """The name of the encoder that a prior reads prompts with."""
    match config:
        case PropsPriorConfig():
            return "minilm"
        case StableDiffusionConfig(path=path) | MVDreamConfig(text=path):
            return clip_name(path)
        case _:
            assert_never(config)
