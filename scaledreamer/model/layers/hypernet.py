"""A hypernetwork: the prompt's vector becomes the weights of small perceptrons (ATT3D, arXiv:2306.07349)."""

import itertools
import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class Hypernetwork(nn.Module):
    """Text to the [in, out] matrices of bias-free MLPs, a set a prompt.

    The first layer has no bias and everything passes a LayerNorm, so the length of the prompt's vector does not matter.
    """

    def __init__(self, text_width: int, width: int, hidden_layers: int, networks: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.networks = [list(itertools.pairwise(sizes)) for sizes in networks]
        outputs = sum(math.prod(shape) for shapes in self.networks for shape in shapes)
        layers: list[nn.Module] = []
        for index in range(hidden_layers):
            first = index == 0
            layers += [nn.Linear(text_width if first else width, width, bias=not first), nn.LayerNorm(width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, text: Float[Tensor, "B D"]) -> list[list[Float[Tensor, "B _ _"]]]:
        """The matrices of every network in order, read row-major out of one vector."""
        generated = self.layers(text)
        sizes = [math.prod(shape) for shapes in self.networks for shape in shapes]
        parts = iter(generated.split(sizes, dim=-1))
        return [[next(parts).unflatten(-1, shape) for shape in shapes] for shapes in self.networks]
