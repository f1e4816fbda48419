"""StableDiffusionPrior: any SD 1.x or 2.x, one picture at a time."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scaledreamer.model.cameras import Camera
from scaledreamer.model.clip_text import CLIPText
from scaledreamer.model.text import TextEncoder
from scaledreamer.training.priors.autoencoder import Autoencoder
from scaledreamer.training.priors.base import Condition, NetworkPrior
from scaledreamer.training.priors.config import StableDiffusionConfig
from scaledreamer.training.priors.prediction import Prediction
from scaledreamer.training.priors.pretrained import STAND_INS, Source, read_process
from scaledreamer.training.priors.process import Discrete
from scaledreamer.training.priors.unet import CameraUNet, call_unet, copy_with_camera


class StableDiffusionPrior(NetworkPrior):
    """Latent diffusion of single pictures (arXiv:2112.10752); knows no camera, so prompts may name the side.

    Pictures are resized to the model's own size (512 pixels for SD 2.1-base). Latents, noise and schedule are float32.
    """

    views = 1
    network: CameraUNet
    encoder: TextEncoder

    def __init__(
        self,
        unet: CameraUNet,
        autoencoder: Autoencoder,
        encoder: TextEncoder,
        process: Discrete,
        prediction: Prediction,
        negative_prompt: str = "",
    ) -> None:
        self.network, self.autoencoder, self.encoder = unet, autoencoder, encoder
        self.process, self.prediction, self.negative_prompt = process, prediction, negative_prompt

    def embed(self, prompts: list[str]) -> Condition:
        return Condition(self.encoder.encode(prompts).tokens)

    def encode(self, images: Float[Tensor, "B K H W"], rng: torch.Generator | None = None) -> Float[Tensor, "B C h w"]:
        return self.autoencoder.encode(images, rng)

    def decode(self, x_0: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K H W"]:
        return self.autoencoder.decode(x_0)

    def call(
        self, network: nn.Module, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Condition, camera: Camera | None
    ) -> Float[Tensor, "B K h w"]:
        return call_unet(network, x_t, t, cond.tokens, camera)

    def copy_for_renders(self) -> nn.Module:
        return copy_with_camera(self.network)


def load_stable_diffusion(config: StableDiffusionConfig, device: str = "cpu") -> StableDiffusionPrior:
    """Read unet, vae, text_encoder, tokenizer and scheduler; fp16 on CUDA, float32 elsewhere."""
    from diffusers import AutoencoderKL

    source = Source(config.path, config.revision, config.offline, STAND_INS)
    dtype = precision(device)
    unet = source.model(CameraUNet, "unet", dtype).to(device)
    vae = source.model(AutoencoderKL, "vae", dtype).to(device)
    autoencoder = Autoencoder(vae, unet.config.sample_size, config.encode_chunk)
    process, prediction = read_process(source)
    encoder = CLIPText.load(source, device)
    return StableDiffusionPrior(unet, autoencoder, encoder, process, prediction, config.negative_prompt)


def precision(device: str) -> torch.dtype:
    """Of a network on this device. Never bf16: ASD's difference of two near predictions loses a fifth in it."""
    return torch.float16 if device.startswith("cuda") else torch.float32
