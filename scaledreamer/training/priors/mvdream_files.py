"""MVDream's released .pt file: the networks it holds, and the same as a diffusers folder."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from scaledreamer.errors import ModelFileError
from scaledreamer.model.torch_files import open_weights
from scaledreamer.training.priors import mvdream_keys as keys
from scaledreamer.training.priors.unet import CAMERA_WIDTH

LATENT_SIDE = 32  # 256 pixels; not written in the file
HEAD_CHANNELS = 64  # of the SD 2.1 networks and their text tower; SD 1.5 has 8 heads everywhere
WHERE = (
    "fetch sd-v2.1-base-4view.pt from the hub repository MVDream/MVDream and pass its path, or that of a folder made "
    "from it by scaledreamer convert"
)


def read_mvdream(path: Path) -> dict[str, Tensor]:
    """The flat state dict of a released file: nothing in it is executed, tensors stay on disk until they are used."""
    if not path.is_file():
        raise ModelFileError(f"no file at {path}; {WHERE}")
    weights = open_weights(path)
    if not keys.is_state_dict(weights):
        raise ModelFileError(f"{path} is no state dict with {keys.UNET}* in it; {WHERE}")
    if not keys.part(keys.CAMERA, weights):
        raise ModelFileError(f"{path} is Stable Diffusion without MVDream's camera; {WHERE}")
    return weights


def unet_config(weights: dict[str, Tensor], head_channels: int = HEAD_CHANNELS) -> dict[str, Any]:
    """Arguments of UNet2DConditionModel from the official U-Net's names and shapes (SD 2.1 or SD 1.5 layout)."""
    blocks = keys.residual_blocks(weights)
    levels = 1 + sum(name.endswith(".0.op.weight") for name in weights)
    first = [1 + level * (blocks + 1) for level in range(levels)]  # input block where a level begins
    channels = [len(weights[f"input_blocks.{block}.0.out_layers.3.weight"]) for block in first]
    attends = [f"input_blocks.{block}.1.norm.weight" in weights for block in first]
    linear = weights["middle_block.1.proj_in.weight"].ndim == 2
    return {
        "sample_size": LATENT_SIDE,
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "out_channels": len(weights["out.2.weight"]),
        "block_out_channels": tuple(channels),
        "layers_per_block": blocks,
        "down_block_types": tuple("CrossAttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        "up_block_types": tuple("CrossAttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        # Despite its name it is the number of heads.
        "attention_head_dim": tuple(width // head_channels for width in channels) if linear else 8,
        "cross_attention_dim": weights["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "use_linear_projection": linear,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": CAMERA_WIDTH,
    }


def autoencoder_config(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of AutoencoderKL from the official autoencoder's names and shapes."""
    levels = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.down."))
    return {
        "block_out_channels": tuple(
            len(weights[f"encoder.down.{level}.block.0.conv1.weight"]) for level in range(levels)
        ),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1 + max(int(n.split(".")[4]) for n in weights if n.startswith("encoder.down.0.block.")),
        "latent_channels": weights["post_quant_conv.weight"].shape[1],
        "scaling_factor": 0.18215,
    }


def text_config(weights: dict[str, Tensor], head_channels: int = HEAD_CHANNELS) -> dict[str, Any]:
    """Arguments of CLIPTextConfig from the OpenCLIP tower: one layer less, for the penultimate output is read."""
    vocabulary, width = weights["token_embedding.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": keys.text_layers(weights),
        "num_attention_heads": width // head_channels,
        "intermediate_size": len(weights["transformer.resblocks.0.mlp.c_fc.weight"]),
        "max_position_embeddings": len(weights["positional_embedding"]),
        "hidden_act": "gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": 0,
    }


def build(kind: Any, config: dict[str, Any], weights: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """A diffusers network that holds exactly these weights."""
    with torch.device("meta"):
        network = kind(**config)
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def convert_mvdream(path: Path, out: Path, head_channels: int = HEAD_CHANNELS) -> list[str]:
    """Write a released .pt as a diffusers folder with unet, vae, scheduler and, where it holds one, text_encoder.

    Returns the names that have no counterpart: the schedule's tables, the text tower's last layer and its projection
    (the whole tower of the SD 1.5 file). The tokenizer is in no such file; the prior takes it from an SD folder.
    Raises ModelFileError for a file of another kind, an unknown name, or an `out` that holds something.
    """
    weights = read_mvdream(path)
    left = keys.ignored(weights)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelFileError(f"{out} holds something already; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".partial", dir=out.parent) as partial:
        folder = Path(partial) / out.name
        official = keys.part(keys.UNET, weights)
        unet = build(UNet2DConditionModel, unet_config(official, head_channels), keys.unet(official), torch.float32)
        unet.save_pretrained(folder / "unet")
        official = keys.part(keys.AUTOENCODER, weights)
        vae = build(AutoencoderKL, autoencoder_config(official), keys.autoencoder(official), torch.float32)
        vae.save_pretrained(folder / "vae")
        if official := keys.part(keys.TEXT, weights):
            text_encoder(official, head_channels).save_pretrained(folder / "text_encoder")
        schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
        DDPMScheduler(**schedule).save_pretrained(folder / "scheduler")
        folder.replace(out)
    return left


def text_encoder(official: dict[str, Tensor], head_channels: int = HEAD_CHANNELS) -> Any:
    """The text tower as a CLIPTextModel whose last hidden state is what MVDream reads."""
    from transformers import CLIPTextConfig, CLIPTextModel

    model = CLIPTextModel(CLIPTextConfig(**text_config(official, head_channels)))
    model.load_state_dict({name: tensor.float() for name, tensor in keys.text(official).items()}, strict=True)
    return model.eval().requires_grad_(False)
