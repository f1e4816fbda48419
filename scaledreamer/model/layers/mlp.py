"""Small perceptrons without biases: with weights of their own, or with weights that were generated for every scene."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


def bias_free(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers without bias, ReLU between."""
    layers: list[nn.Module] = []
    for inside, outside in itertools.pairwise(sizes):
        layers += [nn.Linear(inside, outside, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def generated_mlp(
    features: Float[Tensor, "#B N C"], weights: Sequence[Float[Tensor, "B _ _"]]
) -> Float[Tensor, "B N D"]:
    """relu(... relu(features W_1) ...) W_n with a stack of [in, out] matrices a scene, one B for all of them."""
    x = features @ weights[0]
    for weight in weights[1:]:
        x = torch.relu(x) @ weight
    return x
