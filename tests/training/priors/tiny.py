"""Real diffusers folders, made small: the released topologies at a width that builds in a second."""

import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH, WINDOW = 32, 16


def tokenizer() -> CLIPTokenizer:
    """Byte-level, without merges: a letter is a token. Pads with `!`, as SD 2.x does."""
    symbols = ["!", *string.ascii_lowercase, ",", *string.digits]
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: place for place, word in enumerate(words)}, [], pad_token="!", model_max_length=WINDOW)


def write_text(folder: Path) -> None:
    words = tokenizer()
    words.save_pretrained(folder / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=WINDOW, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1, pad_token_id=0,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def unet(**options: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=WIDTH,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, use_linear_projection=True, **options,
    )  # fmt: skip


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4,
    )  # fmt: skip


def write_sd(folder: Path, prediction: str = "epsilon", **unet_options: object) -> Path:
    """unet, vae, text_encoder, tokenizer, scheduler; pictures of 16 x 16, latents of 8 x 8."""
    torch.manual_seed(0)
    unet(**unet_options).save_pretrained(folder / "unet")
    vae().save_pretrained(folder / "vae")
    write_text(folder)
    DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction
    ).save_pretrained(folder / "scheduler")
    return folder


def write_mvdream(folder: Path) -> Path:
    """The same with MVDream's camera MLP."""
    return write_sd(folder, class_embed_type="projection", projection_class_embeddings_input_dim=16)
