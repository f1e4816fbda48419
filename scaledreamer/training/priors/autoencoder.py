"""Pictures to latents through a pretrained autoencoder, with gradient."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Autoencoder:
    """Diffusers' AutoencoderKL: latents of `side` x `side`, scaled as the diffusion model wants.

    `chunk` pictures pass at a time and are computed again in the backward pass; None: all at once, kept.
    """

    def __init__(self, vae: Any, side: int, chunk: int | None = None) -> None:
        self.vae, self.chunk = vae, chunk
        self.pixels = side * 2 ** (len(vae.config.block_out_channels) - 1)
        self.scale: float = vae.config.scaling_factor
        self.offset: float = getattr(vae.config, "shift_factor", None) or 0.0

    def encode(self, images: Float[Tensor, "B 3 H W"], rng: torch.Generator | None) -> Float[Tensor, "B C h w"]:
        """(mean + std noise - offset) scale, float32, of images in [0, 1], resized; without `rng` there is no noise."""
        images = images.to(self.vae.device)
        if images.shape[-2:] != (self.pixels, self.pixels):
            images = F.interpolate(images, (self.pixels, self.pixels), mode="bilinear")
        if self.chunk is None:
            mean, std = self.posterior(images)
        else:
            parts = [
                checkpoint(self.posterior, part, use_reentrant=False, preserve_rng_state=False)
                for part in images.split(self.chunk)
            ]
            mean, std = (torch.cat(moment) for moment in zip(*parts, strict=True))
        if rng is not None:
            mean = mean + std * torch.randn(mean.shape, generator=rng).to(mean)
        return (mean - self.offset) * self.scale

    def posterior(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]:
        """Mean and standard deviation of a latent, unscaled, float32."""
        latent = self.vae.encode((2 * images - 1).to(self.vae.dtype)).latent_dist
        return latent.mean.float(), latent.std.float()

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Pictures in [0, 1]."""
        pictures: Tensor = self.vae.decode((latents / self.scale + self.offset).to(self.vae.dtype)).sample
        return ((pictures.float() + 1) / 2).clamp(0, 1)
