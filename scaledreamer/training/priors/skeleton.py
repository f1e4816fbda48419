"""A prior without its weights: the networks that a config names, whose sizes are read from their files or known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scaledreamer.model.shelf import read_header
from scaledreamer.model.text import MINILM_WINDOW, TextEmbedding, TextEncoder, minilm_folder
from scaledreamer.training.priors.base import Prior
from scaledreamer.training.priors.config import MVDreamConfig, PriorConfig, PropsPriorConfig, StableDiffusionConfig

# Stable Diffusion 2.1-base: what its config files say. MVDream's U-Net differs in its latents' side and its camera MLP.
DOWN = ("CrossAttnDownBlock2D",) * 3
UNET = {
    "sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2,
    "down_block_types": (*DOWN, "DownBlock2D"), "up_block_types": ("UpBlock2D", *(("CrossAttnUpBlock2D",) * 3)),
    "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True,
}  # fmt: skip
CAMERA = {"sample_size": 32, "class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "scaling_factor": 0.18215,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
TEXT = {
    "vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
    "num_attention_heads": 16, "max_position_embeddings": 77, "hidden_act": "gelu",
}  # fmt: skip


class Silent(TextEncoder):
    """Texts of the right shape that say nothing."""

    def __init__(self, window: int, width: int, parameters: int) -> None:
        self.window, self.width, self.parameters = window, width, parameters

    @property
    def name(self) -> str:
        return "silent"

    def overflow(self, prompt: str) -> int:
        return 0

    def encode(self, prompts: list[str]) -> TextEmbedding:
        mask = torch.ones(len(prompts), self.window, dtype=torch.bool)
        return TextEmbedding(
            torch.zeros(len(prompts), self.window, self.width), torch.zeros(len(prompts), self.width), mask
        )


@dataclass(frozen=True)
class Skeleton:
    """A prior that can be asked, though not for anything true, and its parts."""

    prior: Prior
    encoder: Silent
    denoiser: nn.Module
    autoencoder: nn.Module | None = None


def skeleton(config: PriorConfig, dtype: torch.dtype) -> Skeleton | None:
    """The prior of a config, its networks in `dtype`; None for a kind that is not known here."""
    match config:
        case PropsPriorConfig():
            from scaledreamer.training.priors.props import PropsPrior, prior_path
            from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig

            header = read_header(prior_path(config.path), "props-prior")
            network, encoder = MultiViewUViT(UViTConfig.model_validate(header["config"])), minilm()
            return Skeleton(PropsPrior(network, encoder), encoder, network)
        case StableDiffusionConfig() | MVDreamConfig():
            return _latent(config, dtype)
        case _:
            return None


def minilm() -> Silent:
    """MiniLM's shape and size."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(minilm_folder(), local_files_only=True)
    with torch.device("meta"):
        return Silent(MINILM_WINDOW, config.hidden_size, _count(AutoModel.from_config(config)))


def _latent(config: StableDiffusionConfig | MVDreamConfig, dtype: torch.dtype) -> Skeleton:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel

    from scaledreamer.training.priors.autoencoder import Autoencoder
    from scaledreamer.training.priors.mvdream import MVDreamPrior
    from scaledreamer.training.priors.process import scaled_linear
    from scaledreamer.training.priors.stable_diffusion import StableDiffusionPrior
    from scaledreamer.training.priors.unet import CameraUNet

    camera = isinstance(config, MVDreamConfig)
    words = config.text if isinstance(config, MVDreamConfig) else config.path
    said = (
        CLIPTextConfig(**TEXT)
        if not is_folder(words)
        else CLIPTextConfig.from_pretrained(words, subfolder="text_encoder")
    )
    with torch.device("meta"):
        encoder = Silent(said.max_position_embeddings, said.hidden_size, _count(CLIPTextModel(said)))
    unet = CameraUNet.from_config(_said(CameraUNet, config.path, "unet", UNET | (CAMERA if camera else {})))
    vae = AutoencoderKL.from_config(_said(AutoencoderKL, config.path, "vae", VAE))
    for network in (unet, vae):
        nn.Module.to(network, dtype).eval().requires_grad_(False)  # diffusers' own `to` prints a notice
    autoencoder = Autoencoder(vae, unet.config.sample_size, config.encode_chunk)
    kind = MVDreamPrior if camera else StableDiffusionPrior
    prior = kind(unet, autoencoder, encoder, scaled_linear(), "eps", config.negative_prompt)
    return Skeleton(prior, encoder, unet, vae)


def is_folder(path: str) -> bool:
    """Whether a prior is a diffusers folder on this disk; the released .pt has the released sizes."""
    return Path(path).is_dir()


def _said(kind: Any, path: str, part: str, released: dict[str, Any]) -> dict[str, Any]:
    if not is_folder(path):
        return released
    found: dict[str, Any] = kind.load_config(path, subfolder=part)
    return found


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
