"""Convolutions whose kernels follow a style vector (StyleGAN2, arXiv:1912.04958), in three dimensions."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

NoiseMode = Literal["random", "const", "none"]  # drawn where an rng is given; the same for all; no noise

SLOPE, GAIN = 0.2, 2**0.5  # of the leaky ReLU, and after it, so that variance passes
LIMIT = 256.0  # on what a layer says


class FullyConnected(nn.Module):
    """x (W / sqrt(inputs))^T + b, then a leaky ReLU where asked; W starts at unit variance."""

    def __init__(self, inputs: int, outputs: int, activate: bool = False, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale, self.activate = inputs**-0.5, activate

    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        y = F.linear(x, self.weight * self.scale, self.bias)
        return F.leaky_relu(y, SLOPE) * GAIN if self.activate else y


def modulated_conv(
    x: Float[Tensor, "B I R R R"], weight: Float[Tensor, "O I K K K"], style: Float[Tensor, "B I"], demodulate: bool
) -> Float[Tensor, "B O R R R"]:
    """Convolution with W_oik s_i, over sqrt(sum_ik (W_oik s_i)^2 + 1e-8) where demodulated (arXiv:1912.04958, Eq. 1-3).

    The style goes onto the input and the norm onto the output, which is the same and needs no kernel a scene.
    """
    y = F.conv3d(x * style[:, :, None, None, None], weight, padding=weight.shape[-1] // 2)
    if not demodulate:
        return y
    norm = (style.square() @ weight.square().sum((2, 3, 4)).T + 1e-8).rsqrt()
    return y * norm[:, :, None, None, None]


def double(x: Float[Tensor, "B C R R R"]) -> Float[Tensor, "B C S S S"]:
    """Twice the resolution, trilinear between the centres of the outermost voxels (align_corners=True, as official)."""
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)


class StyledConv(nn.Module):
    """Modulated 3x3x3 convolution, doubling where asked, noise, bias, leaky ReLU. The doubling follows the kernel."""

    noise_const: Tensor

    def __init__(
        self, inputs: int, outputs: int, style_width: int, resolution: int, noise: NoiseMode, doubles: bool = False
    ) -> None:
        super().__init__()
        self.style = FullyConnected(style_width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.register_buffer("noise_const", torch.randn(resolution, resolution, resolution))
        self.noise, self.doubles = noise, doubles

    def forward(
        self, x: Float[Tensor, "B I S S S"], w: Float[Tensor, "B D"], rng: torch.Generator | None = None
    ) -> Float[Tensor, "B O R R R"]:
        y = modulated_conv(x, self.weight, self.style(w), demodulate=True)
        y = double(y) if self.doubles else y
        y = y + self.draw(len(y), rng) * self.noise_strength + self.bias[:, None, None, None]
        return (F.leaky_relu(y, SLOPE) * GAIN).clamp(-LIMIT, LIMIT)

    def draw(self, scenes: int, rng: torch.Generator | None) -> Float[Tensor, "#B 1 #R #R #R"]:
        """The noise of a pass, one number a voxel; zero in the mode `random` without an rng."""
        if self.noise == "const":
            return self.noise_const[None, None]
        if self.noise == "none" or rng is None:
            return self.noise_const.new_zeros(1, 1, 1, 1, 1)
        scenes = scenes if self.training else 1  # so that a scene does not depend on its place in a batch
        return torch.randn(scenes, 1, *self.noise_const.shape, generator=rng, device=rng.device).to(self.noise_const)


class ToVoxels(nn.Module):
    """What a resolution adds to the voxels: a modulated 1x1x1 convolution, not demodulated, and a bias."""

    def __init__(self, inputs: int, outputs: int, style_width: int) -> None:
        super().__init__()
        self.style = FullyConnected(style_width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "B I R R R"], w: Float[Tensor, "B D"]) -> Float[Tensor, "B O R R R"]:
        style = self.style(w) * x.shape[1] ** -0.5
        return modulated_conv(x, self.weight, style, demodulate=False) + self.bias[:, None, None, None]
