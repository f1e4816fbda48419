"""What a decoder says about colour, made a colour."""

from typing import Literal

import torch
from torch import Tensor

ColorActivation = Literal["sigmoid", "sigmoid-mipnerf", "palette"]


def activate_color(raw: Tensor, activation: ColorActivation) -> Tensor:
    """Features to sRGB: a sigmoid, or mip-NeRF's that reaches past both ends by 0.001 (arXiv:2103.13415). With a
    palette, features to the share that each of its colours has.
    """
    match activation:
        case "sigmoid":
            return torch.sigmoid(raw)
        case "sigmoid-mipnerf":
            return torch.sigmoid(raw) * 1.002 - 0.001
        case "palette":
            return torch.softmax(raw, dim=-1)
        case _:
            raise ValueError(f"unknown colour activation {activation!r}; choose sigmoid, sigmoid-mipnerf or palette")
