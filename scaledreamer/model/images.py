"""Pictures for people: sheets of small images."""

import numpy as np
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


def sheet(images: Float[Tensor, "B V C H W"], columns: int = 1, zoom: int = 2) -> Image.Image:
    """One row a scene with its views side by side, scenes in `columns` columns, each pixel `zoom` wide; [0, 1]."""
    missing = -len(images) % columns
    images = F.pad(images.detach().clamp(0, 1), (0, 0, 0, 0, 0, 0, 0, 0, 0, missing))
    grid = rearrange(images, "(B K) V C H W -> (B H) (K V W) C", K=columns)
    pixels = np.ascontiguousarray((grid.numpy() * 255).round().astype(np.uint8))
    picture = Image.fromarray(pixels)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
