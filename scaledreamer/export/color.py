"""The sRGB transfer function (IEC 61966-2-1), both ways."""

import numpy as np
from jaxtyping import Float


def srgb_to_linear(srgb: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """Linear light in [0, 1] of sRGB-encoded values in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """sRGB-encoded values in [0, 1] of linear light in [0, 1]."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
