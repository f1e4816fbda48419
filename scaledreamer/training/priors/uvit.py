"""The network of the props prior: a small multi-view U-ViT that predicts v for four views at once.

Convolutions at half resolution, a transformer over the patches of all views (MVDream's joint attention,
arXiv:2308.16512) with text cross-attention and adaLN (DiT, arXiv:2212.09748), and back. Every patch is told the ray
through it, as in light field networks (arXiv:2106.02634): at late times text and camera are all there is to draw from.
"""

import math
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from scaledreamer.config import Config

Count = Annotated[int, Field(ge=1)]

HARMONICS = 4  # of the camera's azimuth: what tells a box's faces from its corners goes as the fourth
OCTAVES = 3  # of a patch's ray


class UViTConfig(Config):
    """Sizes of the network; pictures are pixels x pixels with `channels` channels."""

    pixels: Count = 32
    channels: Count = 4
    views: Count = 4
    fold: Count = 2  # so many pixels along each side become channels before the first convolution
    stem: Count = 48  # channels of the convolutions at half resolution
    width: Count = 192
    depth: Count = 4
    heads: Count = 3
    text_width: Count = 384
    noise_skip: bool = False  # add alpha sigma x_t to the answer: the noise in v need not pass through the network

    @property
    def patches(self) -> int:
        """Tokens along a picture's side."""
        return self.pixels // (2 * self.fold)


class ResBlock(nn.Module):
    """GroupNorm-SiLU-conv twice, the second norm modulated by the condition."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Float[Tensor, "B C h w"], condition: Float[Tensor, "B D"]) -> Float[Tensor, "B C h w"]:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        inner = self.conv1(F.silu(self.norm1(x)))
        outer: Tensor = self.conv2(F.silu(self.norm2(inner) * (1 + scale) + shift))
        return x + outer


class Block(nn.Module):
    """Joint self-attention over all views, cross-attention to the prompt, MLP; adaLN from time, camera and prompt."""

    def __init__(self, width: int, heads: int, text_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(text_width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        for last in (self.modulation, self.cross_out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (rearrange(x, "B L (H D) -> B H L D", H=self.heads) for x in (q, k, v))
        return rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "B H L D -> B L (H D)")

    def forward(
        self,
        x: Float[Tensor, "B V L D"],
        condition: Float[Tensor, "B V D"],
        text: Float[Tensor, "B T E"],
        mask: Bool[Tensor, "B T"],
    ) -> Float[Tensor, "B V L D"]:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(F.silu(condition))[:, :, None].chunk(6, -1)
        views = x.shape[1]
        tokens = rearrange(self.norm1(x) * (1 + scale1) + shift1, "B V L D -> B (V L) D")
        q, k, v = self.qkv(tokens).chunk(3, -1)
        attended: Tensor = self.out(self.attend(q, k, v))
        x = x + gate1 * rearrange(attended, "B (V L) D -> B V L D", V=views)
        query = self.query(rearrange(self.norm2(x), "B V L D -> B (V L) D"))
        key, value = self.key_value(text).chunk(2, -1)
        read = self.attend(query, key, value, mask[:, None, None])
        told: Tensor = self.cross_out(read)
        x = x + rearrange(told, "B (V L) D -> B V L D", V=views)
        wider: Tensor = self.mlp(self.norm3(x) * (1 + scale2) + shift2)
        out: Tensor = x + gate2 * wider
        return out


class MultiViewUViT(nn.Module):
    """x_t of V views, time, cameras and prompt -> v of the same shape."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__()
        self.config = config
        c, width = config.stem, config.width
        side = config.patches
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.camera = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.turn = silent(2 * HARMONICS, width)
        self.ray = silent(6 * (1 + 2 * OCTAVES), width)
        self.pooled = nn.Linear(config.text_width, width)
        folded = config.fold**2 * config.channels
        self.stem = nn.Conv2d(folded, c, 3, padding=1)
        self.down = ResBlock(c, width)
        self.patch = nn.Conv2d(c, width, 2, stride=2)
        self.place = nn.Parameter(torch.randn(side * side, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.text_width) for _ in range(config.depth))
        self.skips = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(config.depth // 2))
        self.norm = nn.LayerNorm(width)
        self.unpatch = nn.ConvTranspose2d(width, c, 2, stride=2)
        self.join = nn.Conv2d(2 * c, c, 1)
        self.up = ResBlock(c, width)
        self.head = nn.Conv2d(c, folded, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        x_t: Float[Tensor, "B V C H W"],
        t: Float[Tensor, "B V"],
        pose: Float[Tensor, "B V 16"],
        rays: Float[Tensor, "B V h w 6"],
        text: Float[Tensor, "B T E"],
        mask: Bool[Tensor, "B T"],
        pooled: Float[Tensor, "B E"],
    ) -> Float[Tensor, "B V C H W"]:
        views = x_t.shape[1]
        seen_from = self.camera(pose) + self.turn(turns(pose))
        told = self.time(sinusoid(t)) + seen_from + self.pooled(pooled)[:, None]
        flat = F.silu(rearrange(told, "B V D -> (B V) D"))
        x = F.pixel_unshuffle(rearrange(x_t, "B V C H W -> (B V) C H W"), self.config.fold)
        fine = self.down(self.stem(x.contiguous(memory_format=torch.channels_last)), flat)
        place = self.place + self.ray(waves(rearrange(rays, "B V h w C -> B V (h w) C")))
        tokens = rearrange(self.patch(fine), "(B V) D h w -> B V (h w) D", V=views) + place
        kept = []
        for depth, block in enumerate(self.blocks):
            if depth < len(self.skips):
                kept.append(tokens)
            elif depth >= len(self.blocks) - len(self.skips):
                skip = self.skips[len(self.blocks) - 1 - depth]
                tokens = skip(torch.cat([tokens, kept.pop()], -1))
            tokens = block(tokens, told, text, mask)
        side = self.config.patches
        coarse = rearrange(self.norm(tokens), "B V (h w) D -> (B V) D h w", h=side)
        fine = self.join(torch.cat([self.unpatch(coarse.contiguous(memory_format=torch.channels_last)), fine], 1))
        v = F.pixel_shuffle(self.head(F.silu(self.up(fine, flat))), self.config.fold)
        answer = rearrange(v, "(B V) C H W -> B V C H W", V=views)
        return answer + skipped(t) * x_t if self.config.noise_skip else answer


def skipped(t: Float[Tensor, "B V"]) -> Float[Tensor, "B V 1 1 1"]:
    """alpha sigma of the cosine schedule. Less alpha sigma x_t, v = alpha eps - sigma x_0 is alpha^3 eps - sigma
    (1 + alpha^2) x_0: at late times only x_0 is left to say (preconditioning, after EDM, arXiv:2206.00364, section 5).
    """
    angle = math.pi / 2 * t
    return (angle.cos() * angle.sin())[..., None, None, None]


def sinusoid(t: Float[Tensor, "*B"], width: int = 128) -> Float[Tensor, "*B D"]:
    """Sine and cosine features of a time in (0, 1)."""
    frequencies = torch.exp(torch.arange(width // 2, device=t.device) * (-math.log(1000.0) / (width // 2)))
    angles = 1000 * t[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def turns(pose: Float[Tensor, "*B 16"]) -> Float[Tensor, "*B D"]:
    """Cosine and sine of the camera's azimuth and of its multiples; a camera of zeros stands on +X."""
    azimuth = torch.atan2(pose[..., 7], pose[..., 3])
    angles = azimuth[..., None] * torch.arange(1, HARMONICS + 1, device=pose.device)
    return torch.cat([angles.cos(), angles.sin()], -1)


def waves(rays: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B D"]:
    """Direction and moment of a ray with their sines and cosines in octaves (NeRF, arXiv:2003.08934, Eq. 4)."""
    angles = [rays * (math.pi / 2 * 2**octave) for octave in range(OCTAVES)]
    return torch.cat([rays, *(angle.sin() for angle in angles), *(angle.cos() for angle in angles)], -1)


def silent(inputs: int, width: int) -> nn.Sequential:
    """An MLP that starts by saying nothing."""
    last = nn.Linear(width, width)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), last)
