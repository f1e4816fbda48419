"""Small networks of the real classes, and the diffusers folder that Stable Diffusion and MVDream are read from.

The classes, the files and the loaders are those of the released models; only the sizes are our own.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scaledreamer.model.checkpoint import load_weights
from scaledreamer.training.priors.pretrained import Source
from scaledreamer.training.priors.small_config import AutoencoderConfig, SmallUNetConfig
from scaledreamer.training.priors.unet import CAMERA_WIDTH, CameraUNet

START, END, PAD = "<|startoftext|>", "<|endoftext|>", "!"


def build_autoencoder(config: AutoencoderConfig) -> AutoencoderKL:
    """An untrained autoencoder."""
    levels = len(config.channels)
    return AutoencoderKL(
        block_out_channels=config.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=config.layers,
        latent_channels=config.latent_channels,
        sample_size=config.pixels,
    )


def build_unet(config: SmallUNetConfig, camera: bool) -> CameraUNet:
    """An untrained U-Net in SD 2.x's layout, with MVDream's camera MLP where asked."""
    deeper = len(config.channels) - 1
    told: dict[str, Any] = {
        "class_embed_type": "projection", "projection_class_embeddings_input_dim": CAMERA_WIDTH
    }  # fmt: skip
    return CameraUNet(
        sample_size=config.side,
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deeper),
        up_block_types=(*["CrossAttnUpBlock2D"] * deeper, "UpBlock2D"),
        attention_head_dim=config.heads,  # despite its name it is the number of heads
        cross_attention_dim=config.text_width,
        use_linear_projection=True,
        **(told if camera else {}),
    )


def build_text_tower(config: SmallUNetConfig, vocabulary: int) -> CLIPTextModel:
    """An untrained CLIP text model; the last two of its words are the start and the end."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=config.text_width, intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_layers, num_attention_heads=config.heads, hidden_act="gelu",
            max_position_embeddings=config.window, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
            pad_token_id=0,
        )
    )  # fmt: skip


def learn_words(prompts: list[str], window: int) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer with the words of these prompts; letters, digits and commas are always there."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,.-'"]
    alphabet = [PAD, *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=4096, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator([prompt.lower() for prompt in prompts], trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    words = list(dict.fromkeys([*alphabet, *(a + b for a, b in merges), START, END]))
    numbers = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(numbers, merges, pad_token=PAD, model_max_length=window)


def token_ids(tokenizer: CLIPTokenizer, prompts: list[str], window: int) -> Int[Tensor, "B L"]:
    """Prompts as CLIPText reads them: padded to the window, cut with the end token kept."""
    ids: Tensor = tokenizer(
        prompts, padding="max_length", truncation=True, max_length=window, return_tensors="pt"
    ).input_ids
    return ids


class TextAndUNet(nn.Module):
    """What a latent prior's training moves: the U-Net and the text tower that speaks to it."""

    def __init__(self, unet: CameraUNet, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def told(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """The token vectors that the U-Net attends to."""
        tokens: Tensor = self.text(ids).last_hidden_state
        return tokens


def read_autoencoder(folder: Path) -> AutoencoderKL:
    """The frozen autoencoder of a folder."""
    vae: AutoencoderKL = Source(str(folder), offline=True, remedy=AUTOENCODER).model(
        AutoencoderKL, "vae", torch.float32
    )
    return vae


AUTOENCODER = "Train one first: scaledreamer-train props-autoencoder"


def single_view(folder: Path) -> Source:
    """A folder that the four-view model begins with."""
    return Source(str(folder), offline=True, remedy="Train one first: scaledreamer-train props-sd")


def read_words(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a folder."""
    words: CLIPTokenizer = single_view(folder).tokenizer()
    return words


def begin_from(model: TextAndUNet, folder: Path) -> None:
    """The weights of a single-view folder; the camera MLP, which it lacks, begins with an output of zero."""
    source, own = single_view(folder), model.unet.state_dict()
    camera = {name: value for name, value in own.items() if name.startswith("class_embedding.")}
    unet = source.model(CameraUNet, "unet", torch.float32)
    text = source.model(CLIPTextModel, "text_encoder", torch.float32)
    load_weights(model.unet, unet.state_dict() | camera, folder)
    load_weights(model.text, text.state_dict(), folder)
    if model.unet.class_embedding is not None:
        nn.init.zeros_(model.unet.class_embedding.linear_2.weight)
        nn.init.zeros_(model.unet.class_embedding.linear_2.bias)


def write_autoencoder(vae: AutoencoderKL, scale: float, folder: Path) -> None:
    """The subfolder vae, with the factor that gives latents unit variance."""
    vae.register_to_config(scaling_factor=scale)
    vae.save_pretrained(folder / "vae")


def write_folder(model: TextAndUNet, tokenizer: CLIPTokenizer, vae: AutoencoderKL, folder: Path) -> None:
    """A whole diffusers folder: unet, vae, text_encoder, tokenizer, scheduler. It predicts v."""
    model.unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    model.text.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    DDPMScheduler(**schedule, prediction_type="v_prediction", clip_sample=False).save_pretrained(folder / "scheduler")
