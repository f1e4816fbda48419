"""What a decoder says about colour, made a colour."""

from typing import Literal

import torch
from torch import Tensor

ColorActivation = Literal["sigmoid", "sigmoid-mipnerf"]


def activate_color(raw: Tensor, activation: ColorActivation) -> Tensor:
    """Features to sRGB: a sigmoid, or mip-NeRF's that reaches past both ends by 0.001 (arXiv:2103.13415)."""
    match activation:
        case "sigmoid":
            return torch.sigmoid(raw)
        case "sigmoid-mipnerf":
            return torch.sigmoid(raw) * 1.002 - 0.001
        case _:
            raise ValueError(f"unknown colour activation {activation!r}; choose 'sigmoid' or 'sigmoid-mipnerf'")
