"""The one light of the props world: the ground truth and the generator's renderer shade with the same formula."""

import torch
from jaxtyping import Float
from torch import Tensor

LIGHT = (0.56, 0.32, 0.77)  # towards the light, world space; fixed, so a shaded picture tells how a surface faces
AMBIENT = 0.4


def shade(normal: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 1"]:
    """Wrapped Lambert brightness 0.4 + 0.6 (0.5 + 0.5 n.l) in [0.4, 1] for unit normals."""
    light = torch.tensor(LIGHT, dtype=normal.dtype, device=normal.device)
    facing: Tensor = (normal * (light / light.norm())).sum(-1, keepdim=True)
    return AMBIENT + (1 - AMBIENT) * (0.5 + 0.5 * facing)
